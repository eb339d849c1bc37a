"""The questions that attacks answer: one file a game."""

from bench.core.game import Challenge, Game
from bench.games.attribute import ATTRIBUTE, Missing
from bench.games.gan_leakage import GAN_LEAKAGE, Insider
from bench.games.inversion import INVERSION, Wanted
from bench.games.membership import MEMBERSHIP, Targets

__all__ = [
    "ATTRIBUTE", "GAMES", "GAN_LEAKAGE", "INVERSION", "MEMBERSHIP",
    "Challenge", "Game", "Insider", "Missing", "Targets", "Wanted",
]  # fmt: skip

GAMES = {game.name: game for game in (MEMBERSHIP, INVERSION, GAN_LEAKAGE, ATTRIBUTE)}
