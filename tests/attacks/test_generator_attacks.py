"""Membership in generators and encoders: each attack beside the slow way, its mutants, and real releases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from conftest import components, quick
from dp_accounting import NonPrivateDpEvent
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KernelDensity

from attacks import code_reconstruction, nearest_sample, vae_reconstruction
from bench.conformance import toy_releases
from bench.core.component import Choice
from bench.core.dataset import DataLocation, Examples, Split
from bench.core.errors import UserError
from bench.core.release import Release
from bench.dp import train
from bench.dp.networks import Published, mapping
from bench.dp.weights_cache import WeightsCache
from bench.games import MEMBERSHIP, Targets
from bench.models.code_decoder import trained_decoder
from bench.models.reference_generator import reference_decoder
from bench.models.vae_generator import generator
from bench.runner.play import release as trained_release

FAST = {"nearest_sample": {"calibrated": False}, "domias": {}, "monte_carlo": {}, "code_distance": {}}
GENERATOR = ("nearest_sample", "domias", "monte_carlo", "vae_reconstruction")
ENCODER = ("code_distance", "code_reconstruction")
SIGMAS = 4.7534  # one-sided 1e-6


@pytest.fixture(scope="module", autouse=True)
def _remembering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with train.caching(WeightsCache(tmp_path_factory.mktemp("cache") / "fits")):
        yield
    positive.cache_clear()


def noise(seed: int = 0, private: int = 40, holdout: int = 40, public: int = 30) -> Split:
    rng = np.random.default_rng(seed)
    sizes = (private, holdout, public)
    parts = (Examples(rng.random((n, 4, 4, 1), np.float32), rng.integers(0, 3, n), 3) for n in sizes)
    return Split("noise", *parts)


def asked(data: Split, seed: int = 0) -> tuple[Targets, NDArray[Any], Examples]:
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(seed))
    return challenge.targets, challenge.ground_truth, challenge.public


def fake(data: Split, leak: bool) -> Release:
    """Everything that a generator and an encoder let out."""
    own = toy_releases.generator_records(data, leak)
    again = Release(NonPrivateDpEvent(), encode=toy_releases.encoder(data, leak=False))
    return Release(
        NonPrivateDpEvent(),
        encode=toy_releases.encoder(data, leak),
        decode=toy_releases.decoder(own),
        generate=toy_releases.generator(own),
        retrain=lambda *_: again,
    )


def attack(name: str, release: Release, targets: Targets, public: Examples, **options: Any) -> NDArray[Any]:
    component = components().attacks[name]
    found: NDArray[Any] = component.function(release.only(component.needs), targets, public, seed=0, **options)
    return found


def auc(ground_truth: NDArray[Any], answer: NDArray[Any]) -> float:
    return float(roc_auc_score(ground_truth, answer))


# Beside the slow way


def made_by(data: Split, n: int) -> tuple[Release, NDArray[Any]]:
    """A release whose generator always gives the same n records, and these, flat."""
    made = toy_releases.generator(toy_releases.generator_records(data, True))(n, 5)
    return Release(NonPrivateDpEvent(), generate=lambda *_: made), made.x.reshape(n, -1).astype(np.float64)


def test_nearest_sample_is_a_loop_over_all_pairs() -> None:
    data = noise()
    targets, _, public = asked(data)
    release, made = made_by(data, 50)
    slow = [-np.log(min(np.linalg.norm(row.ravel() - other) for other in made)) for row in targets.records.x]
    assert np.allclose(attack("nearest_sample", release, targets, public, calibrated=False), slow, rtol=1e-6)


def test_domias_is_the_ratio_of_two_kernel_densities() -> None:
    data = noise()
    targets, _, public = asked(data)
    release, made = made_by(data, 50)
    x, seen = targets.records.x.reshape(-1, 16).astype(np.float64), public.x.reshape(-1, 16).astype(np.float64)
    _, values, directions = np.linalg.svd(seen - seen.mean(0), full_matrices=False)
    white = directions[:4].T / (values[:4] / np.sqrt(len(seen)))

    def density(of: NDArray[Any]) -> NDArray[Any]:
        points = (of - seen.mean(0)) @ white
        width = np.sqrt(points.var(0).mean()) * len(points) ** (-1 / 8)
        fitted = KernelDensity(bandwidth=width).fit(points)
        return np.asarray(fitted.score_samples((x - seen.mean(0)) @ white))

    found = attack("domias", release, targets, public, components=4)
    assert np.allclose(found, density(made) - density(seen), atol=1e-6)


@pytest.mark.parametrize("log", [False, True])
def test_monte_carlo_counts_what_falls_near(log: bool) -> None:
    data = noise()
    targets, _, public = asked(data)
    release, made = made_by(data, 50)
    seen = public.x.reshape(-1, 16).astype(np.float64)
    directions = np.linalg.svd(seen - seen.mean(0), full_matrices=False)[2][:5].T

    def far(part: Examples) -> NDArray[Any]:
        return np.asarray(cdist(part.x.reshape(-1, 16) @ directions, made @ directions))

    epsilon = np.median(far(targets.known).min(1))
    apart = far(targets.records)
    slow = np.where(apart <= epsilon, -np.log(apart / epsilon) if log else 1.0, 0).mean(1)
    assert len(np.unique(slow)) > 5
    assert np.allclose(attack("monte_carlo", release, targets, public, components=5, log=log), slow, atol=1e-6)


def smooth_decoder() -> Published:
    """Codes (3 latent, 3 labels) to records (4, 4, 1)."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((6, 16)).astype(np.float32)
    model = tf.keras.Sequential(
        [
            tf.keras.Input((6,)),
            tf.keras.layers.Lambda(lambda codes: tf.sigmoid(codes @ kernel)),
            tf.keras.layers.Reshape((4, 4, 1)),
        ]
    )
    return Published(model, mapping(model), labels=3)


def test_codes_are_sought_as_keras_adam_would_from_the_nearest_draw() -> None:
    """One record, one start, Keras' own Adam; and what is reached is the error of a code that anybody can decode."""
    import tensorflow as tf

    decode, rng = smooth_decoder(), np.random.default_rng(1)
    record = Examples(rng.random((1, 4, 4, 1), np.float32), np.array([2]), 3)
    z = np.random.default_rng(3).standard_normal((20, 3), np.float32)
    codes = np.concatenate([z, np.tile(np.float32([0, 0, 1]), (20, 1))], axis=1)
    errors = np.square(decode(codes) - record.x).sum((1, 2, 3))
    start = vae_reconstruction.nearest_draws(decode, record, np.random.default_rng(3), 20)
    assert np.array_equal(start[0], codes[errors.argmin()])
    code, optimizer, met = tf.Variable(start[:, :3]), tf.keras.optimizers.legacy.Adam(0.1, epsilon=1e-8), []
    for _ in range(15):
        with tf.GradientTape() as tape:
            error = tf.reduce_sum(tf.square(decode.model(tf.concat([code, start[:, 3:]], 1)) - record.x))
        met.append(float(error))
        optimizer.apply_gradients([(tape.gradient(error, code), code)])
    found = vae_reconstruction.least_errors(decode, start, record.x, 15, 0.1)
    assert met[-1] < 0.95 * met[0]
    assert found[0] == pytest.approx(min(met), rel=1e-3)


def test_a_record_that_the_decoder_can_make_is_found_and_alone_as_among_others() -> None:
    decode = smooth_decoder()
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 30)
    codes = np.concatenate([rng.standard_normal((30, 3)), np.eye(3)[y]], axis=1, dtype=np.float32)
    records = Examples(decode(codes), y, 3)
    start = vae_reconstruction.nearest_draws(decode, records, rng, 20)
    errors = vae_reconstruction.least_errors(decode, start, records.x, 200, 0.05)
    first = vae_reconstruction.least_errors(decode, start, records.x, 1, 0.05)
    assert (errors < 0.05 * first).all()
    alone = vae_reconstruction.least_errors(decode, start[7:8], records.x[7:8], 200, 0.05)
    assert alone[0] == pytest.approx(errors[7], rel=0.05, abs=1e-7)


def test_code_reconstruction_is_the_error_of_the_decoder() -> None:
    data = noise()
    targets, _, public = asked(data)
    encode = toy_releases.encoder(data, leak=True)
    release = Release(NonPrivateDpEvent(), encode=encode, retrain=lambda *_: pytest.fail("not asked for"))
    found = attack("code_reconstruction", release, targets, public, steps=5, calibrated=False)
    decode = trained_decoder(encode, public, code_reconstruction.derive(0, "release"), steps=5)
    pairs = zip(decode(encode(targets.records.x)), targets.records.x, strict=True)
    slow = [-np.log(np.square(back - x).sum()) for back, x in pairs]
    assert np.allclose(found, slow, rtol=1e-4)


def test_the_reference_is_made_of_what_is_public_of_this_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked about public records, the attacker's own are others: neither reference may see the ones in question."""
    data = noise()
    challenge = MEMBERSHIP.challenge(data, np.random.default_rng(0), "public")
    seen: list[Examples] = []

    def retrain(private: Examples, seed: int, public: Examples | None = None) -> Release:
        assert public is not None
        seen.extend([private, public])
        return Release(NonPrivateDpEvent(), encode=toy_releases.encoder(data, leak=False))

    def reference(public: Examples, seed: int) -> Published:
        seen.append(public)
        return reference_decoder(public, seed, steps=2)

    for module in (nearest_sample, vae_reconstruction):
        monkeypatch.setattr(module, "reference_decoder", reference)
    release = replace(fake(data, leak=True), retrain=retrain)
    for name in ("nearest_sample", "vae_reconstruction", "code_reconstruction"):
        attack(name, release, challenge.targets, challenge.public)
    assert len(seen) == 4
    assert all(part is challenge.public for part in seen)


# Mutants


@pytest.mark.parametrize("name", ["nearest_sample", pytest.param("vae_reconstruction", marks=pytest.mark.slow)])
def test_calibration_by_the_wrong_reference_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a generator that saw the private records too, what they have in common is divided away."""
    data = noise(private=150, holdout=150)
    targets, ground_truth, public = asked(data)
    release = fake(data, leak=True)
    assert auc(ground_truth, attack(name, release, targets, public)) > 0.9
    module = {"nearest_sample": nearest_sample, "vae_reconstruction": vae_reconstruction}[name]
    monkeypatch.setattr(module, "reference_decoder", lambda *_: release.decode)
    assert auc(ground_truth, attack(name, release, targets, public)) < 0.8


def test_codes_of_other_labels_are_caught() -> None:
    data = noise(private=150, holdout=150)
    targets, ground_truth, public = asked(data)
    records = targets.records
    shifted = replace(targets, records=Examples(records.x, (records.y + 1) % 3, 3))
    release = fake(data, leak=True)
    assert auc(ground_truth, attack("vae_reconstruction", release, targets, public, calibrated=False)) > 0.9
    assert auc(ground_truth, attack("vae_reconstruction", release, shifted, public, calibrated=False)) < 0.65


def test_codes_learnt_the_other_way_are_caught() -> None:
    data = noise(private=150, holdout=150)
    targets, ground_truth, public = asked(data)
    lied_to = replace(targets, known_member=~targets.known_member)
    assert auc(ground_truth, attack("code_distance", fake(data, leak=True), targets, public)) > 0.9
    assert auc(ground_truth, attack("code_distance", fake(data, leak=True), lied_to, public)) < 0.1


def by_chance(ground_truth: NDArray[Any]) -> float:
    """The standard error of the AUC of an answer that knows nothing."""
    members, others = int(ground_truth.sum()), int((~ground_truth).sum())
    return float(np.sqrt((members + others + 1) / (12 * members * others)))


def null_aucs(play: Callable[[Release, Targets, NDArray[Any], Examples], NDArray[Any]]) -> tuple[float, float]:
    """The mean AUC over 20 draws of a release that knows nothing, and its standard error by what chance alone gives."""
    found = []
    for seed in range(20):
        data = noise(seed)
        targets, ground_truth, public = asked(data, seed)
        found.append(auc(ground_truth, play(fake(data, leak=False), targets, ground_truth, public)))
    return float(np.mean(found)), by_chance(ground_truth) / np.sqrt(len(found))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "domias" else pytest.mark.slow) for name in sorted(FAST)]
)
def test_chance_over_twenty_releases_that_know_nothing(name: str) -> None:
    mean, error = null_aucs(lambda release, targets, _, public: attack(name, release, targets, public, **FAST[name]))
    assert abs(mean - 0.5) < 4.8916 * error  # 1e-6, two-sided


def test_a_learner_of_codes_scored_on_its_own_fit_is_caught() -> None:
    def mutant(release: Release, targets: Targets, ground_truth: NDArray[Any], public: Examples) -> NDArray[Any]:
        own_fit = replace(targets, known=targets.records, known_member=ground_truth)
        return attack("code_distance", release, own_fit, public)

    mean, error = null_aucs(mutant)
    assert mean - 0.5 > SIGMAS * error


# Whatever comes out of a release


@pytest.mark.parametrize("name", [*GENERATOR, *ENCODER])
def test_a_release_that_collapsed_stays_finite(name: str) -> None:
    """One picture for everything, which may even be a record in question; one code for everything."""
    import tensorflow as tf

    data = noise()
    targets, _, public = asked(data)
    one = targets.records.x[0]
    same = tf.keras.layers.Lambda(lambda codes: 0 * codes[:, :1, None, None] + one)
    model = tf.keras.Sequential([tf.keras.Input((5,)), same])

    def encode(x: NDArray[Any]) -> NDArray[Any]:
        return np.zeros((len(x), 3), np.float32)

    release = Release(
        NonPrivateDpEvent(),
        encode=encode,
        decode=Published(model, mapping(model), labels=3),
        generate=lambda n, _: Examples(np.tile(one, (n, 1, 1, 1)), np.arange(n) % 3, 3),
        retrain=lambda *_: Release(NonPrivateDpEvent(), encode=encode),
    )
    assert np.isfinite(attack(name, release, targets, public)).all()


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("nearest_sample", {"samples": 0}),
        ("domias", {"samples": 0}),
        ("domias", {"components": 0}),
        ("monte_carlo", {"samples": -1}),
        ("monte_carlo", {"components": 0}),
        ("vae_reconstruction", {"draws": 0}),
        ("vae_reconstruction", {"steps": 0}),
        ("code_distance", {"components": 0}),
        ("code_reconstruction", {"steps": 0}),
    ],
)
def test_an_option_out_of_range_is_one_sentence(name: str, option: dict[str, int]) -> None:
    data = noise()
    targets, _, public = asked(data)
    with pytest.raises(UserError, match="at least 1") as caught:
        attack(name, fake(data, leak=True), targets, public, **option)
    assert "\n" not in str(caught.value)


def test_the_reference_makes_records_of_their_label(digits: Split) -> None:
    """Nearer to the public mean of its own class than a record of another class is, for every class."""
    made = generator(reference_decoder(digits.public, 0), np.full(10, 0.1))(200, 1)
    means = np.stack([digits.public.x[digits.public.y == k].mean(0).ravel() for k in range(10)])
    own = np.stack([made.x[made.y == k].mean(0).ravel() for k in range(10)])
    assert (cdist(own, means).argmin(1) == np.arange(10)).mean() >= 0.9


# Real releases


@cache
def positive(name: str, seen: bool) -> tuple[Release, Targets, NDArray[Any], Examples]:
    """A defense without privacy, over-fitted to a few digits, and a question about these (`seen`) or about others."""
    registry = components()
    size, options = {
        "dp_vaegm": (100, {"steps": 1000, "rate": 0.5, "hidden": (256,), "cosines": 0}),
        "dp_augm": (200, {"steps": 200, "hidden": (512,)}),
    }[name]
    data = registry.data["digits"].function(
        DataLocation(), np.random.default_rng(0), private=size, holdout=1300, public=297
    )
    defense = registry.defenses[name]
    settings = {**quick(defense), **options, "epsilon": float("inf")}
    release = trained_release(data, Choice(defense, settings), 0)
    halves = data.holdout[:size], data.holdout[size:]
    inside, outside = (data.private, data.holdout) if seen else halves
    targets, ground_truth, public = asked(replace(data, private=inside, holdout=outside))
    return release, targets, ground_truth, public


FLOORS = {
    "nearest_sample": 0.9,
    "domias": 0.85,
    "monte_carlo": 0.85,
    "vae_reconstruction": 0.9,
    "code_distance": 0.6,
    "code_reconstruction": 0.6,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "code_distance" else pytest.mark.slow) for name in (*GENERATOR, *ENCODER)],
)
def test_an_over_fitted_release_gives_its_records_away_and_no_others(name: str) -> None:
    defense = "dp_vaegm" if name in GENERATOR else "dp_augm"
    play = partial(attack, name)
    release, targets, ground_truth, public = positive(defense, True)
    found = auc(ground_truth, play(release, targets, public))
    assert found > max(FLOORS[name], 0.5 + SIGMAS * by_chance(ground_truth))
    release, targets, ground_truth, public = positive(defense, False)
    assert abs(auc(ground_truth, play(release, targets, public)) - 0.5) < 4.8916 * by_chance(ground_truth)
