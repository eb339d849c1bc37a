"""Encoders other than that of DP-AuGM: noisy principal components, a random one, and none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from defense_runs import train
from noise_checks import variance_fits
from numpy.typing import NDArray

import defenses.pca_encoder as pca
from bench.core.dataset import Examples, Split
from bench.core.errors import UserError
from bench.core.release import Release
from bench.dp import accounting, gaussian_mechanism, networks
from bench.models import published_encoder


def flat(examples: Examples) -> NDArray[Any]:
    return examples.x.reshape(len(examples), -1).astype(np.float64)


# Second moments


def test_second_moments_are_a_sum_over_records() -> None:
    x = np.random.default_rng(0).normal(size=(20, 5))
    x[3] = 0
    naive = np.zeros((5, 5))
    for record in x:
        length = math.sqrt(sum(value**2 for value in record))
        clipped = record if length <= 1.5 else [1.5 * value / length for value in record]
        for i in range(5):
            for k in range(5):
                naive[i, k] += clipped[i] * clipped[k]
    assert np.allclose(pca.second_moments(x, 1.5), naive)
    assert np.allclose(pca.second_moments(x, np.inf), x.T @ x)


@pytest.mark.parametrize("scale", [0.1, 1.0, 1e3])
def test_one_record_changes_the_noised_moments_by_at_most_the_squared_clip(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compares the values that the mechanism receives with and without each record."""
    calls: list[tuple[NDArray[Any], float]] = []
    gaussian = gaussian_mechanism.gaussian
    monkeypatch.setattr(
        gaussian_mechanism, "gaussian", lambda v, s, z, rng: (calls.append((v, s)), gaussian(v, s, z, rng))[1]
    )
    x = scale * np.random.default_rng(0).normal(size=(12, 6))
    clip, farthest = 1.5, 0.0
    for rows in (range(12), *(np.delete(np.arange(12), row) for row in range(12))):
        pca.noisy(pca.second_moments(x[list(rows)], clip), clip, 1.0, np.random.default_rng(0))
    (whole, sensitivity), *fewer = calls
    assert len(whole) == 6 * 7 // 2
    assert sensitivity == clip**2
    farthest = max(np.linalg.norm(whole - values) for values, _ in fewer)
    assert farthest <= sensitivity * (1 + 1e-9)
    assert scale < 1 or farthest == pytest.approx(sensitivity), "the bound is not attained by records with a large norm"


def test_the_noise_matrix_is_symmetric_and_has_the_accounted_scale() -> None:
    d, clip, z = 40, 2.0, 0.7
    noise = pca.noisy(np.zeros((d, d)), clip, z, np.random.default_rng(0))
    assert np.array_equal(noise, noise.T)
    off_diagonal, diagonal = (
        noise[np.triu_indices(d, 1)],
        np.concatenate([np.diag(pca.noisy(np.zeros((d, d)), clip, z, np.random.default_rng(k))) for k in range(20)]),
    )
    assert variance_fits(diagonal, z * clip**2)
    assert variance_fits(off_diagonal, z * clip**2 / math.sqrt(2))
    for numbers, right in ((diagonal, z * clip**2), (off_diagonal, z * clip**2 / math.sqrt(2))):
        for wrong in (right * math.sqrt(2), right / math.sqrt(2), right / clip):
            assert not variance_fits(numbers, wrong)


def test_without_noise_the_encoder_is_principal_component_analysis(cancer: Split) -> None:
    release = train("pca_encoder", cancer.private, cancer.public, epsilon=math.inf, code_dim=4)
    assert release.encode
    centred = flat(cancer.private) - flat(cancer.public).mean(0)
    known = np.linalg.svd(centred, full_matrices=False)[2][:4]
    embeddings = (flat(cancer.holdout) - flat(cancer.public).mean(0)) @ known.T
    assert np.allclose(np.abs(release.encode(cancer.holdout.x)), np.abs(embeddings), atol=1e-4)
    assert release.dp_event == accounting.no_privacy()


def test_components_are_the_leading_eigenvectors_largest_first() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    values = np.array([-9.0, 5, 3, 2, 1, -0.5])  # noise can make eigenvalues negative; those are excluded
    found = pca.components(basis @ np.diag(values) @ basis.T, 3)
    assert np.allclose(np.abs(found.T @ basis[:, 1:4]), np.eye(3), atol=1e-9)


# The defense


@pytest.mark.parametrize("target", [1.0, 8.0])
def test_pca_accounts_one_gaussian_mechanism(target: float, digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    gaussian = gaussian_mechanism.gaussian
    monkeypatch.setattr(gaussian_mechanism, "gaussian", lambda *values: (calls.append(values), gaussian(*values))[1])
    release = train("pca_encoder", digits.private, digits.public, epsilon=target, l2_norm_clip=3.0)
    [(_, sensitivity, noise, _)] = calls
    assert sensitivity == 9
    assert release.dp_event == accounting.training_event(1.0, noise, 1)
    assert 0.98 * target < accounting.claim(release.dp_event, 200)["epsilon"] <= target


def test_the_encoder_of_components_is_one_linear_layer(digits: Split) -> None:
    release = train("pca_encoder", digits.private, digits.public, code_dim=20)
    assert isinstance(release.encode, networks.Published)
    kernel, bias = release.encode.model.get_weights()
    assert kernel.shape == (64, 20)
    x = flat(digits.holdout)
    assert np.allclose(release.encode(digits.holdout.x), x @ kernel + bias, atol=1e-4)
    assert np.allclose(kernel.T @ kernel, np.eye(20), atol=1e-5)
    assert release.model.layers[0] is release.encode.model


def test_pca_does_not_depend_on_private_labels(cancer: Split) -> None:
    others = Examples(cancer.private.x, 1 - cancer.private.y, 2)
    first, second = (train("pca_encoder", private, cancer.public) for private in (cancer.private, others))
    assert first.predict
    assert second.predict
    assert np.array_equal(first.predict(cancer.holdout.x), second.predict(cancer.holdout.x))
    assert first.dp_event == second.dp_event


def test_components_are_at_most_the_features_and_too_many_features_are_refused(cancer: Split) -> None:
    release = train("pca_encoder", cancer.private, cancer.public, code_dim=500)
    assert release.encode
    assert release.encode(cancer.holdout.x).shape == (120, 30)
    large = Examples(np.zeros((2, 80, 80, 1)), np.zeros(2, int), 2)
    with pytest.raises(UserError, match="at most 4096 features, not 6400"):
        train("pca_encoder", large, large)


@pytest.mark.parametrize("name", ["dp_augm", "random_encoder", "pca_encoder"])
def test_the_classifier_of_embeddings_is_shared(name: str, cancer: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """All encoders use the same classifier, so that they differ only in the encoder."""
    calls: list[dict[str, Any]] = []
    downstream = published_encoder.downstream

    def recorded(encode: Any, dp_event: Any, public: Examples, seed: int, **options: Any) -> Release:
        calls.append({"public": public, "seed": seed, "steps": options["steps"]})
        return downstream(encode, dp_event, public, seed, **options)

    monkeypatch.setattr(published_encoder, "downstream", recorded)
    release = train(name, cancer.private, cancer.public)
    assert calls == [{"public": cancer.public, "seed": 0, "steps": 4}]
    assert release.encode
    assert release.model.layers[0] is release.encode.model  # type: ignore[attr-defined]


def test_public_only_is_the_standard_classifier_of_public_records(cancer: Split) -> None:
    """With inverted public labels its predictions are inverted."""
    release = train("public_only", cancer.private, cancer.public, classifier_steps=200)
    assert release.predict
    x, y = cancer.holdout.x, cancer.holdout.y
    assert (release.predict(x).argmax(1) == y).mean() > 0.85
    relabelled = Examples(cancer.public.x, 1 - cancer.public.y, 2)
    other = train("public_only", cancer.private, relabelled, classifier_steps=200)
    assert other.predict
    assert (other.predict(x).argmax(1) == y).mean() < 0.15
