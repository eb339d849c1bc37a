"""A data set, a defense and two attacks that take milliseconds, as the text of a plugin."""

PLUGIN = '''
import os
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.core.dataset import Examples, Split
from bench.core.errors import Caveat, UserError
from bench.games import MEMBERSHIP
from bench.core.component import attack, dataset, defense
from bench.core.release import Release

HERE = Path(__file__).parent


def guess(challenge, seed):
    return np.random.default_rng(seed).random(len(challenge.ground_truth))


QUICK = replace(MEMBERSHIP, baseline=guess)


@dataset("made")
def made(where, rng, *, private=60, holdout=60, public=20):
    """Records of uniform noise."""
    return Split("made", *(Examples(rng.random((n, 4)), np.arange(n) % 2, 2) for n in (private, holdout, public)))


@dataset("afar")
def afar(where, rng):
    """Records that are unavailable until the file `came` exists."""
    if not (HERE / "came").exists():
        raise UserError("afar is not on this machine: connect to the network.")
    return replace(made(where, rng), name="afar")


@defense("says", publishes={"predict"})
def says(private, public, *, seed, bias=0.0):
    """Random class scores; appends a byte to a file for each training."""
    from dp_accounting import NonPrivateDpEvent

    with (HERE / "trained").open("a") as file:
        file.write(".")
    weights = np.random.default_rng(seed).random((4, 2))
    return Release(NonPrivateDpEvent(), predict=lambda x: np.exp(x @ weights) / np.exp(x @ weights).sum(1)[:, None])


@attack("honest", game=QUICK, needs={"predict"})
def honest(release, targets, public, *, seed):
    """The largest probability."""
    return release.predict(targets.records.x).max(1)


@attack("moody", game=QUICK, needs={"predict"})
def moody(release, targets, public, *, seed):
    """The scores of `honest`, or the failure that the file `mood` names."""
    mood = (HERE / "mood").read_text() if (HERE / "mood").exists() else ""
    if mood == "broken":
        raise RuntimeError("out of luck")
    if mood == "stopped":
        raise KeyboardInterrupt
    if mood == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if mood == "doubtful":
        warnings.warn(Caveat("stopped after 1 of 2000 steps"))
    return honest(release, targets, public, seed=seed)
'''
