"""Defenses of the output alone: the undefended classifier, and what of its answers is let out."""

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


def answer(name: str, data: Split, **changed: Any) -> Any:
    predict = train(name, data, **changed).predict
    assert predict
    return predict(data.holdout.x)


@pytest.mark.parametrize("name", CHANGED)
def test_it_is_the_undefended_classifier(name: str, monkeypatch: pytest.MonkeyPatch, digits: Split) -> None:
    """With its default options too, so that what a row shows is the change of the answers and nothing else."""
    seen: list[tuple[Recipe, int]] = []
    classify = classifier.classify

    def spy(examples: Examples, seed: int, recipe: Recipe, what: str) -> Classified:
        assert examples is digits.private
        seen.append((recipe, seed))
        return classify(examples, seed, classifier.standard(examples, steps=1), what)

    monkeypatch.setattr(output_perturbation, "classify", spy)
    monkeypatch.setitem(components().defenses["none"].function.__globals__, "classify", spy)
    for one in (name, "none"):
        components().defenses[one].function(digits.private, digits.public, seed=7)
    assert seen[0] == seen[1]
    monkeypatch.undo()
    plain, changed = answer("none", digits, steps=40), answer(name, digits, steps=40)
    assert not np.allclose(plain, changed, atol=1e-3)
    if name != "rounding":  # which can leave two classes level
        assert np.array_equal(changed.argmax(1), plain.argmax(1))


def test_top1_tells_the_label_alone(digits: Split) -> None:
    plain, told = answer("none", digits, steps=40), answer("top1", digits, steps=40)
    assert np.array_equal(told, np.eye(10)[plain.argmax(1)])


@pytest.mark.parametrize("decimals", [1, 2])
def test_rounding_keeps_so_many_decimals(decimals: int, digits: Split) -> None:
    plain, told = answer("none", digits, steps=40), answer("rounding", digits, steps=40, digits=decimals)
    rounded = np.round(plain.astype(np.float64), decimals)
    left = rounded.sum(1, keepdims=True)
    assert (left > 0).all()
    np.testing.assert_allclose(told, rounded / left, atol=1e-6)


def test_nothing_left_is_no_answer(digits: Split) -> None:
    release = output_perturbation.answering(digits.private, 0, lambda p: 0 * p, "classifier", steps=1)
    assert release.predict
    np.testing.assert_allclose(release.predict(digits.holdout.x[:3]), 0.1, atol=1e-7)


def test_reverse_sigmoid_is_that_of_the_paper(digits: Split) -> None:
    """Lee et al. 2018, equation 4: y - beta (sigmoid(gamma logit(y)) - 1/2), scaled to a sum of 1."""
    plain, told = answer("none", digits, steps=40), answer("reverse_sigmoid", digits, steps=40, beta=0.6, gamma=0.3)
    y = np.clip(plain.astype(np.float64), 1e-9, 1 - 1e-9)
    bent = np.clip(y - 0.6 * (1 / (1 + ((1 - y) / y) ** 0.3) - 0.5), 0, 1)
    np.testing.assert_allclose(told, bent / bent.sum(1, keepdims=True), atol=1e-5)


def test_answers_that_are_certain_stay_finite(cancer: Split) -> None:
    predict = train("reverse_sigmoid", cancer, steps=1).predict
    assert predict
    assert np.isfinite(predict(1e6 * cancer.holdout.x)).all()
