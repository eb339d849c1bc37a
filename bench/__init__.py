"""Differentially private generators put to the test: defenses, attacks, and the leaderboard that judges both.

What a component needs is here: `from bench import Examples, Release, defense`. Names are loaded when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.core.environment import prepare

if TYPE_CHECKING:
    from bench.core.component import Option, attack, dataset, defense
    from bench.core.dataset import DataLocation, Examples, Split, split
    from bench.core.errors import Caveat, UserError
    from bench.core.randomness import derive, stream
    from bench.core.release import Release
    from bench.dp import accounting
    from bench.dp.gaussian_mechanism import gaussian
    from bench.dp.recipe import Recipe
    from bench.dp.train import train
    from bench.games import ATTRIBUTE, GAN_LEAKAGE, INVERSION, MEMBERSHIP, Targets

__version__ = "0.1.0"

_HOME = {
    "bench.core.component": ("Option", "attack", "dataset", "defense"),
    "bench.core.dataset": ("Split", "Examples", "DataLocation", "split"),
    "bench.core.errors": ("Caveat", "UserError"),
    "bench.core.randomness": ("derive", "stream"),
    "bench.core.release": ("Release",),
    "bench.dp": ("accounting",),
    "bench.dp.gaussian_mechanism": ("gaussian",),
    "bench.dp.recipe": ("Recipe",),
    "bench.dp.train": ("train",),
    "bench.games": ("ATTRIBUTE", "GAN_LEAKAGE", "INVERSION", "MEMBERSHIP", "Targets"),
}
_HOMES = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "ATTRIBUTE",
    "GAN_LEAKAGE",
    "INVERSION",
    "MEMBERSHIP",
    "Caveat",
    "DataLocation",
    "Examples",
    "Option",
    "Recipe",
    "Release",
    "Split",
    "Targets",
    "UserError",
    "accounting",
    "attack",
    "dataset",
    "defense",
    "derive",
    "gaussian",
    "split",
    "stream",
    "train",
]  # fmt: skip

prepare()


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return import_module(f"{home}.{name}") if name == "accounting" else getattr(import_module(home), name)
