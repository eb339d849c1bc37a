"""White box on a generator: how well its decoder can be made to give a record (GAN-Leaks, Chen et al. 2020).

Hilprecht et al. 2019 reconstruct through a VAE's own encoder; here the encoder stays inside, so codes are sought.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp.networks import Published
from bench.dp.tensorflow_setup import tensorflow
from bench.games import MEMBERSHIP, Targets
from bench.models.distances import nearest
from bench.models.reference_generator import reference_decoder

AT_ONCE = 4096  # records whose codes are sought side by side
EXACT = 1e-6  # a squared error below which float32 pixels are the same


@attack("vae_reconstruction", game=MEMBERSHIP, needs={"decode"}, floor=0.9)
def vae_reconstruction(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    draws: int = 500,
    steps: int = 30,
    learning_rate: float = 0.1,
    calibrated: bool = True,
) -> NDArray[Any]:
    """Codes that decode to a record, sought by Adam from the nearest of many draws.

    The white-box attack of GAN-Leaks: the score is minus the logarithm of the squared error that is left. `calibrated`
    adds that of a generator of the attacker's own, trained on the public records. More starts found nothing more.
    """
    if min(draws, steps) < 1:
        raise UserError(f"draws and steps must be at least 1, not {draws} and {steps}.")
    assert isinstance(release.decode, Published)

    def errors(decode: Published, word: str) -> NDArray[Any]:
        started = _starts(decode, targets.records, stream(seed, "draws", word), draws)
        return np.asarray(np.log(_sought(decode, started, targets.records.x, steps, learning_rate) + EXACT))

    found = -errors(release.decode, "release")
    if calibrated:
        found += errors(reference_decoder(public, derive(seed, "reference")), "reference")
    return found


def _starts(decode: Published, records: Examples, rng: np.random.Generator, draws: int) -> NDArray[Any]:
    """Of draws that are decoded with a record's own label, the code (n, d) whose record is nearest."""
    z = rng.standard_normal((draws, decode.model.input_shape[-1] - decode.labels), np.float32)
    found = np.empty((len(records), z.shape[1] + decode.labels), np.float32)
    for label in np.unique(records.y):
        rows = np.flatnonzero(records.y == label)
        one_hot = np.tile(np.arange(decode.labels, dtype=np.float32) == label, (draws, 1))
        codes = np.concatenate([z, one_hot], axis=1, dtype=np.float32)
        found[rows] = codes[nearest(records.x[rows], decode(codes))[0]]
    return found


def _sought(
    decode: Published, start: NDArray[Any], x: NDArray[Any], steps: int, learning_rate: float
) -> NDArray[np.float64]:
    """The least squared error (n,) that Adam meets on its way; labels stay as they are, and no record sees another."""
    tf = tensorflow()
    model, latent = decode.model, start.shape[1] - decode.labels

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def least(start: Any, x: Any) -> Any:
        z, label = start[:, :latent], start[:, latent:]
        mean, square, best = tf.zeros_like(z), tf.zeros_like(z), tf.fill([tf.shape(z)[0]], np.float32(np.inf))
        for t in tf.range(1.0, steps + 1.0):
            with tf.GradientTape() as tape:
                tape.watch(z)
                apart = tf.reshape(model(tf.concat([z, label], 1)) - x, [tf.shape(z)[0], -1])
                error = tf.reduce_sum(tf.square(apart), 1)
            slope = tape.gradient(error, z)
            best = tf.minimum(best, error)
            mean = 0.9 * mean + 0.1 * slope
            square = 0.999 * square + 0.001 * tf.square(slope)
            z -= learning_rate * mean / (1 - 0.9**t) / (tf.sqrt(square / (1 - 0.999**t)) + 1e-8)
        return best

    pieces = [least(start[i : i + AT_ONCE], x[i : i + AT_ONCE]).numpy() for i in range(0, len(x), AT_ONCE)]
    return np.asarray(np.concatenate(pieces), np.float64)
