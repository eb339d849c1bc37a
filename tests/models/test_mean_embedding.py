"""Mean embeddings: features approximate their kernel, one Gaussian mechanism releases the sums, generators match."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import components, quick
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.stats import chi2

from bench.core import images
from bench.core.dataset import Examples, Split
from bench.dp import accounting, networks
from bench.dp import train as training
from bench.dp.layers import Single
from bench.dp.recipe import Recipe
from bench.dp.vae import VAE
from bench.models.mean_embedding import (
    LENGTH,
    NORM,
    ClassSums,
    Kernel,
    Matched,
    embedding_recipe,
    median_distance,
    rows,
)
from bench.models.vae_generator import interleaved_labels, vae

FLAT = Kernel((30,), 400, 1.3)


def features(kernel: Kernel, x: NDArray[Any]) -> NDArray[Any]:
    """The random features of a kernel, computed by the layers that training uses."""
    flat = x.reshape(len(x), -1)
    model, _ = networks.part(kernel.features, flat.shape[1:], [])
    return np.asarray(model(flat))


def sums(x: NDArray[Any], y: NDArray[Any], epsilon: float, seed: int, kernel: Kernel = FLAT) -> networks.Weights:
    """The released sums of features and counts of two classes, times the number of records."""
    private = Examples(x, y, 2)
    [fit] = training.train(embedding_recipe(kernel, 2, 100, epsilon), [private], [seed])
    return [100 * w for w in fit.weights]


@pytest.mark.parametrize("shape", [(30,), (28, 28, 1)])
def test_features_give_the_gaussian_kernel(shape: tuple[int, ...]) -> None:
    """Within the Hoeffding bound of error rate 1e-6, and not for another bandwidth."""
    rng = np.random.default_rng(0)
    x = rng.random((20, *shape), np.float32)
    cosines = 0 if len(shape) == 1 else 10
    bandwidth, many = 1.5, 40000
    found = features(Kernel(shape, many, bandwidth, cosines), x) / LENGTH
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-4)
    flat = x.reshape(20, -1).astype(np.float64)
    points = flat @ images.cosines(shape, 10).T / 28 if cosines else flat
    squares = ((points[:, None] - points) ** 2).sum(-1)
    error = np.abs(found @ found.T - np.exp(-squares / (2 * bandwidth**2)))
    bound = math.sqrt(2 * math.log(2 * 190 / 1e-6) / many)
    assert error.max() < bound
    assert np.abs(found @ found.T - np.exp(-squares / bandwidth**2)).max() > bound


def test_the_median_distance_matches_that_of_all_pairs() -> None:
    x = np.random.default_rng(1).random((60, 28, 28, 1), np.float32)
    assert median_distance(x, (28, 28, 1), 0) == pytest.approx(np.median(pdist(x.reshape(60, -1))), rel=0.05)
    points = x.reshape(60, -1) @ images.cosines((28, 28, 1), 10).T / 28
    assert median_distance(x, (28, 28, 1), 10) == pytest.approx(np.median(pdist(points)), rel=0.05)
    assert median_distance(x[:1], (28, 28, 1), 10) == 1
    assert median_distance(np.zeros((5, 28, 28, 1)), (28, 28, 1), 10) == 1
    assert median_distance(np.repeat(np.eye(2), [99, 1], 0), (2,), 0) == pytest.approx(math.sqrt(2), rel=0.05)


def test_without_noise_the_released_sums_are_exact(cancer: Split) -> None:
    x, y = cancer.private.x, cancer.private.y
    found, counts = sums(x, y, math.inf, 0)
    exact = features(FLAT, x)
    np.testing.assert_allclose(found, exact.T @ np.eye(2)[y], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(counts, np.bincount(y), rtol=1e-5)


def test_a_record_changes_the_sums_by_the_sensitivity(cancer: Split) -> None:
    """Neighbours with the same noise differ by a vector of the norm that the noise is scaled to, for any record."""
    x, y = cancer.private.x[:50].copy(), cancer.private.y[:50].copy()
    x[-1] *= 1e6
    for removed in (0, 49):
        kept = np.arange(50) != removed
        pair = [sums(x, y, 2.0, 0), sums(x[kept], y[kept], 2.0, 0)]
        moved = math.sqrt(sum(float(np.square(a - b).sum()) for a, b in zip(*pair, strict=True)))
        assert moved == pytest.approx(NORM, rel=1e-3)


def scale_p(values: NDArray[Any], sigma: float) -> float:
    """Two-sided chi-square test that values are centred normals of scale sigma."""
    square = float(np.square(values / sigma).sum())
    return 2 * min(chi2.cdf(square, values.size), chi2.sf(square, values.size))


def test_noise_has_the_accounted_scale_and_is_independent_between_seeds(cancer: Split) -> None:
    x, y = cancer.private.x, cancer.private.y
    exact = sums(x, y, math.inf, 0)
    first, second = (
        np.concatenate([(a - b).ravel() for a, b in zip(sums(x, y, 1.0, seed), exact, strict=True)]) for seed in (1, 2)
    )
    recipe = embedding_recipe(FLAT, 2, 100, 1.0)
    assert recipe.privacy
    sigma = recipe.privacy.noise_multiplier * NORM
    for noise in (first, second):
        assert scale_p(noise, sigma) > 1e-6
        assert min(scale_p(noise, 0.8 * sigma), scale_p(noise, 1.25 * sigma)) < 1e-6
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(len(first))


@pytest.mark.parametrize("target", [0.1, 1.0, 8.0])
def test_one_gaussian_mechanism_is_accounted(target: float, cancer: Split) -> None:
    [fit] = training.train(embedding_recipe(FLAT, 2, 100, target), [cancer.private], [0])
    recipe = embedding_recipe(FLAT, 2, 100, target)
    assert recipe.privacy
    assert fit.dp_event == accounting.training_event(1.0, recipe.privacy.noise_multiplier, 1)
    assert 0.99 * target < accounting.epsilon(fit.dp_event, 1e-5) <= target * (1 + 1e-6)


def test_the_defense_trains_only_the_sums_on_private_records(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """One private training of one step over all records; the generator is trained on its released sums."""
    calls: list[tuple[Any, Any]] = []
    train = training.train

    def recorded(recipe: Any, parts: Any, *rest: Any) -> Any:
        calls.append((recipe, parts))
        return train(recipe, parts, *rest)

    component = components().defenses["dp_merf"]
    monkeypatch.setattr("defenses.dp_merf.train", recorded)
    component.function(digits.private, digits.public, seed=0, **quick(component))
    (adding, [private]), (matching, [embedding]) = calls
    assert private is digits.private
    assert (adding.steps, adding.rate, adding.privacy.l2_norm_clip) == (1, 1.0, NORM)
    assert isinstance(adding.net, ClassSums)
    assert isinstance(matching.net, Matched)
    assert matching.privacy is None
    assert embedding.x.shape == (10, 2 * 1000 + 1)


def test_rows_contain_sums_and_positive_shares() -> None:
    target, shares = rows([np.arange(8.0).reshape(4, 2), np.array([0.9, -0.3])])
    np.testing.assert_allclose(target.x[:, :-1], [[0, 2, 4, 6], [1, 3, 5, 7]])
    np.testing.assert_allclose(shares, [0.9 / 0.95, 0.05 / 0.95])
    np.testing.assert_allclose(target.x[:, -1], shares, rtol=1e-6)


def test_the_matching_loss_is_unbiased() -> None:
    """Its mean over noise inputs is the squared distance of embeddings plus a constant."""
    rng = np.random.default_rng(0)
    net = Matched((5,), FLAT, VAE((30,), (4,), 2, classes=3), 3)
    mean, share = np.array([1.0, -1.0, 0.5, 0.2]), 0.3
    target = rng.normal(size=4)
    drawn = mean + rng.normal(size=(400_000, 3, 4))
    drawn *= LENGTH / np.linalg.norm(drawn, axis=-1, keepdims=True)
    x = np.broadcast_to(np.concatenate([target, [share]]), (len(drawn), 5)).astype(np.float32)
    losses = np.asarray(net.loss([drawn.mean(1).astype(np.float32)], x, None))
    expected = drawn.reshape(-1, 4).mean(0)
    distance = np.square(share * expected - target).sum() / share - np.square(target).sum() / share
    constant = share * LENGTH**2 / 2  # the kernel of a record and itself, the same for every generator
    error = 5 * losses.std() / math.sqrt(len(losses))
    assert abs(losses.mean() - constant - distance) < error
    biased = share * np.square(drawn.mean(1)).sum(-1).mean() - 2 * drawn.mean(1).dot(target).mean()
    assert abs(biased - constant - distance) > error


def test_a_matched_generator_reproduces_means_and_correlations() -> None:
    """Two classes of binary records, without noise."""
    rng = np.random.default_rng(0)
    coin = rng.random((2000, 1)) < 0.5
    first = np.tile(coin, (1, 6)) ^ (np.arange(6) % 2 == 1)  # 010101 or 101010
    second = rng.random((2000, 6)) < [0.9, 0.1, 0.9, 0.1, 0.5, 0.5]
    private = Examples(np.concatenate([first, second, second]), np.repeat([0, 1], [2000, 4000]), 2)
    kernel = Kernel((6,), 200, 0.7 * median_distance(private.x, (6,), 0))
    [fit] = training.train(embedding_recipe(kernel, 2, 6000, math.inf), [private], [0])
    target, shares = rows(fit.weights)
    np.testing.assert_allclose(shares, [1 / 3, 2 / 3], atol=1e-4)
    decoder = vae((6,), (32,), 4, "relu", cosines=0, decay=0.0, classes=2)
    matched = Matched(target.shape, kernel, decoder, 100, binary=(0, 1, 2, 3, 4, 5))
    recipe = Recipe(matched, 400, 1.0, 1.0, 0.01, schedule="linear")
    [made] = training.train(recipe, [target], [1])
    generator = matched.generator(made.weights)
    z = rng.standard_normal((4000, 4))
    for k, part in enumerate((first, second)):
        code = np.concatenate([z, np.tile(np.eye(2)[k], (4000, 1))], axis=1, dtype=np.float32)
        probabilities = 1 / (1 + np.exp(-np.asarray(generator(code), np.float64)))
        drawn = rng.random(probabilities.shape) < probabilities
        assert np.abs(drawn.mean(0) - part.mean(0)).max() < 0.1
        moments = drawn.T.astype(float) @ drawn / len(drawn)
        assert np.abs(moments - part.T.astype(float) @ part / len(part)).max() < 0.12


def test_generators_matched_jointly_equal_those_matched_alone() -> None:
    rng = np.random.default_rng(0)
    net = Matched((801,), FLAT, VAE((30,), (8,), 2, classes=2), 5, (0, 3, 7))
    parts = [Examples(rng.normal(size=(2, 801)) ** 2, np.arange(2), 2) for _ in range(2)]
    recipe = Recipe(net, 3, 1.0, 1.0, 0.01)
    both = training.train(recipe, parts, [5, 6])
    for fit, part, seed in zip(both, parts, (5, 6), strict=True):
        [alone] = training.train(replace(recipe), [part], [seed])
        for a, b in zip(fit.weights, alone.weights, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("n", [0, 1, 7, 1000])
def test_labels_are_interleaved_by_their_shares(n: int) -> None:
    shares = np.array([0.61, 0.3, 0.09])
    y = interleaved_labels(shares, n)
    assert len(y) == n
    for k, share in enumerate(shares):
        counts = np.cumsum(y == k)
        assert (np.abs(counts - share * np.arange(1, n + 1)) <= 1.5).all()
    assert np.array_equal(interleaved_labels(np.full(3, 1 / 3), 7), [0, 1, 2, 0, 1, 2, 0])


def test_random_features_have_no_trainable_weights() -> None:
    """Frequencies are public constants: only the sums are weights."""
    model = networks.build(ClassSums((30,), FLAT, 2), Single())
    assert [w.shape for w in model.get_weights()] == [(800, 2), (2,)]
