"""Output perturbation: the undefended classifier with changed predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import components, quick

from bench.core.dataset import Examples, Split
from bench.core.release import Release
from bench.dp.recipe import Recipe
from bench.models import classifier, output_perturbation
from bench.models.classifier import Classified

CHANGED = ["top1", "rounding", "reverse_sigmoid"]


def train(name: str, data: Split, **changed: Any) -> Release:
    component = components().defenses[name]
    release: Release = component.function(data.private, data.public, seed=0, **quick(component, **changed))
    return release


def predictions(name: str, data: Split, **changed: Any) -> Any:
    predict = train(name, data, **changed).predict
    assert predict
    return predict(data.holdout.x)


@pytest.mark.parametrize("name", CHANGED)
def test_the_classifier_is_the_undefended_one(name: str, monkeypatch: pytest.MonkeyPatch, digits: Split) -> None:
    """Also with default options, so that results differ from the undefended ones only by the changed predictions."""
    calls: list[tuple[Recipe, int]] = []
    classify = classifier.classify

    def recorded(examples: Examples, seed: int, recipe: Recipe, what: str) -> Classified:
        assert examples is digits.private
        calls.append((recipe, seed))
        return classify(examples, seed, classifier.standard(examples, steps=1), what)

    monkeypatch.setattr(output_perturbation, "classify", recorded)
    monkeypatch.setitem(components().defenses["none"].function.__globals__, "classify", recorded)
    for one in (name, "none"):
        components().defenses[one].function(digits.private, digits.public, seed=7)
    assert calls[0] == calls[1]
    monkeypatch.undo()
    plain, changed = predictions("none", digits, steps=40), predictions(name, digits, steps=40)
    assert not np.allclose(plain, changed, atol=1e-3)
    if name != "rounding":  # whose result can be a tie
        assert np.array_equal(changed.argmax(1), plain.argmax(1))


def test_top1_releases_only_the_label(digits: Split) -> None:
    plain, released = predictions("none", digits, steps=40), predictions("top1", digits, steps=40)
    assert np.array_equal(released, np.eye(10)[plain.argmax(1)])


@pytest.mark.parametrize("decimals", [1, 2])
def test_rounding_keeps_the_requested_decimals(decimals: int, digits: Split) -> None:
    plain, released = predictions("none", digits, steps=40), predictions("rounding", digits, steps=40, digits=decimals)
    rounded = np.round(plain.astype(np.float64), decimals)
    total = rounded.sum(1, keepdims=True)
    assert (total > 0).all()
    np.testing.assert_allclose(released, rounded / total, atol=1e-6)


def test_predictions_of_zero_become_uniform(digits: Split) -> None:
    release = output_perturbation.answering(digits.private, 0, lambda p: 0 * p, "classifier", steps=1)
    assert release.predict
    np.testing.assert_allclose(release.predict(digits.holdout.x[:3]), 0.1, atol=1e-7)


def test_reverse_sigmoid_matches_the_paper(digits: Split) -> None:
    """Lee et al. 2018, equation 4: y - beta (sigmoid(gamma logit(y)) - 1/2), scaled to a sum of 1."""
    plain = predictions("none", digits, steps=40)
    released = predictions("reverse_sigmoid", digits, steps=40, beta=0.6, gamma=0.3)
    y = np.clip(plain.astype(np.float64), 1e-9, 1 - 1e-9)
    perturbed = np.clip(y - 0.6 * (1 / (1 + ((1 - y) / y) ** 0.3) - 0.5), 0, 1)
    np.testing.assert_allclose(released, perturbed / perturbed.sum(1, keepdims=True), atol=1e-5)


def test_certain_predictions_stay_finite(cancer: Split) -> None:
    predict = train("reverse_sigmoid", cancer, steps=1).predict
    assert predict
    assert np.isfinite(predict(1e6 * cancer.holdout.x)).all()
