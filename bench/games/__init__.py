"""The questions that attacks answer: one file a game."""

from bench.games.game import Challenge, Game
from bench.games.gan_leakage import GAN_LEAKAGE, Insider
from bench.games.inversion import INVERSION, Wanted
from bench.games.membership import MEMBERSHIP, Targets

__all__ = ["GAMES", "GAN_LEAKAGE", "INVERSION", "MEMBERSHIP", "Challenge", "Game", "Insider", "Targets", "Wanted"]

GAMES = {game.name: game for game in (GAN_LEAKAGE, INVERSION, MEMBERSHIP)}
