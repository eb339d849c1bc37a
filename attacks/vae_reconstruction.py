"""White box on a generator: how well its decoder can reconstruct a record (GAN-Leaks, Chen et al. 2020).

Hilprecht et al. 2019 reconstruct through the VAE's encoder; here it is not published, so latent codes are searched.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp.networks import Published
from bench.dp.tensorflow_setup import tensorflow
from bench.games import MEMBERSHIP, Targets
from bench.models.distances import nearest
from bench.models.reference_generator import reference_decoder

BATCH = 4096  # records whose codes are searched together
EXACT = 1e-6  # squared error below which float32 pixels are equal


@attack("vae_reconstruction", game=MEMBERSHIP, needs={"decode"}, required_score=0.9)
def vae_reconstruction(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    draws: Annotated[int, Option("latent codes to start from", at_least=1)] = 500,
    steps: Annotated[int, Option("steps of the search for the latent code", at_least=1)] = 30,
    learning_rate: Annotated[float, Option("of the search")] = 0.1,
    calibrated: Annotated[bool, Option("subtract the error under a generator trained on public records")] = True,
) -> NDArray[Any]:
    """Latent codes that decode to a record, searched by Adam from the nearest of many draws.

    The white-box attack of GAN-Leaks: the score is minus the logarithm of the remaining squared error. `calibrated`
    adds that of a reference generator, trained on the public records. More starts found nothing more.
    """
    if min(draws, steps) < 1:
        raise UserError(f"draws and steps must be at least 1, not {draws} and {steps}.")
    assert isinstance(release.decode, Published)

    def errors(decode: Published, word: str) -> NDArray[Any]:
        starts = nearest_draws(decode, targets.records, stream(seed, "draws", word), draws)
        return np.asarray(np.log(least_errors(decode, starts, targets.records.x, steps, learning_rate) + EXACT))

    scores = -errors(release.decode, "release")
    if calibrated:
        scores += errors(reference_decoder(public, derive(seed, "reference")), "reference")
    return scores


def nearest_draws(decode: Published, records: Examples, rng: np.random.Generator, draws: int) -> NDArray[Any]:
    """Of `draws` latent draws, decoded with a record's label, the code (n, d) whose output is nearest to the record."""
    z = rng.standard_normal((draws, decode.model.input_shape[-1] - decode.labels), np.float32)
    starts = np.empty((len(records), z.shape[1] + decode.labels), np.float32)
    for label in np.unique(records.y):
        rows = np.flatnonzero(records.y == label)
        one_hot = np.tile(np.arange(decode.labels, dtype=np.float32) == label, (draws, 1))
        codes = np.concatenate([z, one_hot], axis=1, dtype=np.float32)
        starts[rows] = codes[nearest(records.x[rows], decode(codes))[0]]
    return starts


def least_errors(
    decode: Published, start: NDArray[Any], x: NDArray[Any], steps: int, learning_rate: float
) -> NDArray[np.float64]:
    """The least squared error (n,) along Adam's path; labels are fixed, and each record is searched independently."""
    tf = tensorflow()
    model, latent = decode.model, start.shape[1] - decode.labels

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def least(start: Any, x: Any) -> Any:
        z, label = start[:, :latent], start[:, latent:]
        mean, square, best = tf.zeros_like(z), tf.zeros_like(z), tf.fill([tf.shape(z)[0]], np.float32(np.inf))
        for t in tf.range(1.0, steps + 1.0):
            with tf.GradientTape() as tape:
                tape.watch(z)
                difference = tf.reshape(model(tf.concat([z, label], 1)) - x, [tf.shape(z)[0], -1])
                error = tf.reduce_sum(tf.square(difference), 1)
            slope = tape.gradient(error, z)
            best = tf.minimum(best, error)
            mean = 0.9 * mean + 0.1 * slope
            square = 0.999 * square + 0.001 * tf.square(slope)
            z -= learning_rate * mean / (1 - 0.9**t) / (tf.sqrt(square / (1 - 0.999**t)) + 1e-8)
        return best

    batches = [least(start[i : i + BATCH], x[i : i + BATCH]).numpy() for i in range(0, len(x), BATCH)]
    return np.asarray(np.concatenate(batches), np.float64)
