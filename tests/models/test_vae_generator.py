"""How much a classifier of synthetic records is trained: by the numbers of private records and pixels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from bench.core.dataset import Examples
from bench.dp.recipe import Recipe
from bench.models import vae_generator
from bench.models.vae_generator import Effort, downstream, effort

DIGITS, MNIST, LOCATIONS = (8, 8, 1), (28, 28, 1), (446,)


def test_the_rule_gives_what_was_measured_to_suffice() -> None:
    assert effort(1000, DIGITS) == Effort(39528, 800, 256, 1e-2)
    assert effort(300, DIGITS) == effort(1, DIGITS) == effort(1000, DIGITS), "fewer records need no less effort"
    assert effort(3000, MNIST) == Effort(68465, 2660, 256, 1e-2)
    assert effort(1200, LOCATIONS) == effort(10_000, (104,)) == Effort(38400, 300, 128, 2e-3)


@pytest.mark.parametrize("shape", [DIGITS, MNIST, (32, 32, 3)])
def test_more_records_take_more_up_to_what_every_generator_took(shape: tuple[int, ...]) -> None:
    found = [effort(n, shape) for n in (1000, 1300, 3000, 9000)]
    for a, b in itertools.pairwise(found):
        assert a.samples < b.samples < 120_000
        assert a.steps < b.steps <= 4000
    assert effort(10**6, MNIST) == Effort(120_000, 4000, 256, 1e-2)
    assert min(found[0].samples, found[0].steps) > 0


def test_more_pixels_take_more_steps() -> None:
    assert effort(500, DIGITS).steps < effort(500, MNIST).steps < effort(500, (32, 32, 1)).steps
    assert effort(500, (32, 32, 1)) == effort(500, (32, 32, 3))  # colours of a pixel tell much the same


@pytest.mark.parametrize("shape", [DIGITS, LOCATIONS])
def test_what_is_asked_for_is_what_is_done(shape: tuple[int, ...]) -> None:
    ruled = effort(700, shape)
    assert effort(700, shape, samples=30) == Effort(30, ruled.steps, ruled.batch_size, ruled.learning_rate)
    asked = effort(700, shape, steps=50)
    assert asked.steps == 50
    assert asked.samples == (50 * 128 if shape == LOCATIONS else ruled.samples)


def test_a_classifier_is_trained_by_its_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Examples, Recipe]] = []

    def classify(examples: Examples, seed: int, recipe: Recipe, what: str) -> None:
        seen.append((examples, recipe))

    def generate(n: int, seed: int) -> Examples:
        return Examples(np.full((n, *DIGITS), 0.5, np.float32), np.arange(n) % 10, 10)

    monkeypatch.setattr(vae_generator, "classify", classify)
    public: Any = generate(20, 0)
    downstream(generate, public, 0, Effort(640, 7, 64, 0.03), shift=2, noise=0.4, what="")
    [(examples, recipe)] = seen
    assert len(examples) == 640
    assert (recipe.steps, recipe.rate, recipe.batch_size) == (7, 0.1, 64)
    assert (recipe.learning_rate, recipe.schedule) == (0.03, "cosine")
