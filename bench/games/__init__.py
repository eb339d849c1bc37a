"""The questions that attacks answer: one file a game."""

from bench.games.game import Challenge, Game
from bench.games.inversion import INVERSION, Wanted
from bench.games.membership import MEMBERSHIP, Targets

__all__ = ["GAMES", "INVERSION", "MEMBERSHIP", "Challenge", "Game", "Targets", "Wanted"]

GAMES = {game.name: game for game in (INVERSION, MEMBERSHIP)}
