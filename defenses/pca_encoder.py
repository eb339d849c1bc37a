"""Principal components as a differentially private encoder: one noisy matrix in place of an autoencoder's training.

Analyze Gauss (Dwork, Talwar, Thakurta and Zhang 2014): the second-moment matrix of clipped records plus Gaussian noise;
its leading eigenvectors are post-processing.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, defense
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.core.release import Release
from bench.dp import accounting, gaussian_mechanism, networks
from bench.dp.layers import check_layers
from bench.dp.recipe import EPSILON, private_training
from bench.models import published_encoder
from bench.models.classifier import CLASSIFIER_STEPS

MOST = 4096  # features, of which the matrix is a square
RECORD_CLIP = Option("L2 norm to which each centred record is clipped", above=0, below=math.inf)


@defense(
    "pca_encoder",
    publishes={"predict", "model", "encode"},
    private=True,
    public_knowledge=("the number of private records", "the set of labels"),
)
def pca_encoder(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: Annotated[float, EPSILON] = 8.0,
    code_dim: Annotated[int, Option("components, at most as many as features", at_least=1)] = 64,
    l2_norm_clip: Annotated[float, RECORD_CLIP] = 1.0,
    classifier_steps: Annotated[int, CLASSIFIER_STEPS] = 600,
) -> Release:
    """Noisy principal components of the private records; classifiers see public records that they encoded.

    Records are centred at the public mean and clipped to `l2_norm_clip` (epsilon=inf: plain components, no clip).
    Labels of private records are never read.
    """
    check_layers((code_dim,), "linear")
    features = int(np.prod(private.shape))
    if features > MOST:
        raise UserError(f"pca_encoder needs records of at most {MOST} features, not {features}: take a smaller size.")
    privacy = private_training(epsilon, len(private), rate=1.0, steps=1, l2_norm_clip=l2_norm_clip)
    clip, noise = (privacy.l2_norm_clip, privacy.noise_multiplier) if privacy else (np.inf, 0.0)
    centre = public.x.reshape(len(public), features).mean(0, dtype=np.float64)
    moments = second_moments(private.x.reshape(len(private), features) - centre, clip)
    if privacy:
        moments = noisy(moments, clip, noise, stream(seed, "noise"))
    kernel = components(moments, min(code_dim, features))
    model, _ = networks.part(
        lambda layers, x: layers.dense(layers.flatten(x), kernel.shape[1]), private.shape, [kernel, -centre @ kernel]
    )
    dp_event = accounting.training_event(1.0, noise, 1)
    what = "pca_encoder: classifier"
    return published_encoder.downstream(
        networks.published(model), dp_event, public, seed, steps=classifier_steps, what=what
    )


def second_moments(x: NDArray[Any], l2_norm_clip: float) -> NDArray[Any]:
    """The sum of x x' over records (n, d), each scaled down to norm `l2_norm_clip` where it is longer: (d, d)."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    x = x * np.minimum(1.0, l2_norm_clip / np.maximum(norms, 1e-12))
    return np.asarray(x.T @ x)


def noisy(moments: NDArray[Any], l2_norm_clip: float, noise_multiplier: float, rng: np.random.Generator) -> Any:
    """A symmetric matrix (d, d) of second moments that went through one Gaussian mechanism.

    One record moves the whole matrix by its x x', of Frobenius norm |x|^2 <= clip^2. The matrix has d (d + 1) / 2
    different numbers. Counted as a vector, those off the diagonal times sqrt(2) because each stands twice, they have
    the matrix's Frobenius norm as their length; so each gets noise of noise_multiplier * clip^2, of which an entry off
    the diagonal keeps 1 / sqrt(2). (The paper, which does not scale them, gives these the whole.)
    """
    upper = np.triu_indices(len(moments))
    weights = np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0))
    drawn = gaussian_mechanism.gaussian(moments[upper] * weights, l2_norm_clip**2, noise_multiplier, rng) / weights
    out = np.zeros_like(moments)
    out[upper] = drawn
    return out + np.triu(out, 1).T


def components(moments: NDArray[Any], count: int) -> NDArray[Any]:
    """The eigenvectors (d, count) of the largest eigenvalues of a symmetric matrix, largest first."""
    from scipy.linalg import eigh

    d = len(moments)
    return np.asarray(eigh(moments, subset_by_index=[d - count, d - 1])[1][:, ::-1])
