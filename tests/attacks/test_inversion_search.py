"""The search of inversion attacks: its minimum, its starting pictures and its smoothness penalty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.models.inversion_search import canvas, search, total_variation


def test_search_finds_the_minimum_and_selects_the_best_start() -> None:
    """A function with a shallow minimum at -1 and a deep one at 1: a single start may reach only the shallow one."""
    import tensorflow as tf

    def loss(points: Any, *_: Any) -> Any:
        return tf.reduce_sum(tf.square(tf.square(points) - 1) - 0.3 * points, 1)

    starts = np.array([[[-1.2], [1.4]], [[0.7], [-0.8]]], np.float32)
    found = search(starts, lambda numbers: numbers, loss, steps=120, learning_rate=0.05)
    grid = np.linspace(-2, 2, 40001)
    best = grid[np.argmin((grid**2 - 1) ** 2 - 0.3 * grid)]
    assert np.allclose(found, best, atol=2e-3)
    single = search(starts[:, :1], lambda numbers: numbers, loss, steps=120, learning_rate=0.05)
    assert np.allclose(single[1], best, atol=2e-3)
    assert single[0, 0] < 0


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 12, 3), (4, 4, 1)])
def test_canvas_starts_at_the_public_mean_and_reaches_other_pictures(shape: tuple[int, ...]) -> None:
    public = np.random.default_rng(0).random((200, *shape), np.float32)
    size, draw = canvas(public)
    assert np.allclose(draw(np.zeros((2, size), np.float32)), public.mean(0), atol=1e-3)
    moved = draw(np.random.default_rng(1).standard_normal((3, size), np.float32)).numpy()
    assert moved.shape == (3, *shape)
    assert moved.std() > 0.05


def test_total_variation_is_the_mean_difference_of_neighbours() -> None:
    x = np.random.default_rng(0).random((2, 4, 5, 3), np.float32)
    down = [abs(x[:, i + 1, j] - x[:, i, j]) for i in range(3) for j in range(5)]
    across = [abs(x[:, i, j + 1] - x[:, i, j]) for i in range(4) for j in range(4)]
    truth = np.mean(down, axis=(0, 2)) + np.mean(across, axis=(0, 2))
    assert np.allclose(total_variation(x), truth, atol=1e-6)
