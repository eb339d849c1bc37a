"""The undefended classifier with perturbed outputs: what defenses of the output have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import accounting
from bench.models.classifier import classify, standard


def answering(
    private: Examples, seed: int, change: Callable[[NDArray[Any]], NDArray[Any]], what: str, *, steps: int
) -> Release:
    """The classifier of the defense "none", whose probabilities (n, classes) are published after `change`.

    They are scaled to a sum of 1; where all of an answer are 0, every class is equally likely.
    """
    predict = classify(private, seed, standard(private, steps=steps), what).predict

    def answer(x: NDArray[Any]) -> NDArray[Any]:
        changed = change(predict(x).astype(np.float64))  # in float32 some of ART's logits are infinite
        none_left = changed.sum(axis=1, keepdims=True) == 0
        shares = changed + none_left
        return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)

    return Release(accounting.no_privacy(), predict=answer)
