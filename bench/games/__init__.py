"""The games: which targets an attack gets, and how its answer is judged. One file per game."""

from bench.core.game import Challenge, Game
from bench.games.attribute import ATTRIBUTE, AttributeTargets
from bench.games.gan_leakage import GAN_LEAKAGE, GanLeakageTargets
from bench.games.inversion import INVERSION, InversionTargets
from bench.games.membership import MEMBERSHIP, Targets

__all__ = [
    "ATTRIBUTE", "GAMES", "GAN_LEAKAGE", "INVERSION", "MEMBERSHIP",
    "AttributeTargets", "Challenge", "Game", "GanLeakageTargets", "InversionTargets", "Targets",
]  # fmt: skip

GAMES = {game.name: game for game in (MEMBERSHIP, INVERSION, GAN_LEAKAGE, ATTRIBUTE)}
