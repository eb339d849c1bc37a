"""The questions that attacks answer: one file a game."""

from bench.games.game import Challenge, Game
from bench.games.membership import MEMBERSHIP, Targets

__all__ = ["GAMES", "MEMBERSHIP", "Challenge", "Game", "Targets"]

GAMES = {game.name: game for game in (MEMBERSHIP,)}
