"""The questions that attacks answer: one file a game."""

from bench.games.attribute import ATTRIBUTE, Missing
from bench.games.game import Challenge, Game
from bench.games.inversion import INVERSION, Wanted
from bench.games.membership import MEMBERSHIP, Targets

__all__ = [
    "ATTRIBUTE", "GAMES", "INVERSION", "MEMBERSHIP", "Challenge", "Game", "Missing", "Targets", "Wanted",
]  # fmt: skip

GAMES = {game.name: game for game in (MEMBERSHIP, INVERSION, ATTRIBUTE)}
