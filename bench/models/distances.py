"""How far records are from many others, in memory linear in both: what attacks on generators and encoders measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError

TINY = 1e-12  # distances, or their squares, below this are as good as none
AT_ONCE = 2**23  # distances, 64 MB of them
FLAT = 1e-6  # of the largest standard deviation: what varies less than this over records is no direction of theirs


def reduced(x: NDArray[Any], to: NDArray[Any], reduce: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """What `reduce` makes of the squared Euclidean distances (rows, m) of records x (n, …) to `to` (m, …): (n, …).

    Each piece of rows comes from one product of matrices, in float64 and about the mean of `to`, where little cancels:
    the error is some 1e-15 of the largest squared distance.
    """
    others = np.asarray(to, np.float64).reshape(len(to), -1)
    centre = others.mean(0)
    others = others - centre
    lengths = np.square(others).sum(1)
    rows = max(1, AT_ONCE // len(others))
    pieces = []
    for i in range(0, max(len(x), 1), rows):
        piece = np.asarray(x[i : i + rows], np.float64).reshape(-1, others.shape[1]) - centre
        squared = piece @ (-2 * others.T)
        squared += lengths
        squared += np.square(piece).sum(1)[:, None]
        pieces.append(reduce(np.maximum(squared, 0, out=squared)))
    return np.concatenate(pieces)


def nearest(x: NDArray[Any], to: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Which of `to` (m, …) is nearest to each record x (n, …), and its Euclidean distance, without cancellation."""
    which = reduced(x, to, lambda squared: squared.argmin(1))
    apart = np.subtract(x, to[which], dtype=np.float64).reshape(len(x), -1)
    return which, np.linalg.norm(apart, axis=1)


def log_distance(x: NDArray[Any], to: NDArray[Any]) -> NDArray[Any]:
    """The logarithm of the Euclidean distance of each record x (n, …) to the nearest of `to` (m, …)."""
    return np.asarray(np.log(nearest(x, to)[1] + TINY))


def principal(
    x: NDArray[Any], dimensions: int, *, whiten: bool = False
) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """The map onto the first principal components of records x (n, …), at most as many as they vary in.

    whiten: each component has variance 1 over x, else the variance that it has.
    """
    if dimensions < 1:
        raise UserError(f"components must be at least 1, not {dimensions}.")
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    centre = flat.mean(0)
    variances, directions = np.linalg.eigh(np.cov(flat, rowvar=False, bias=True).reshape(flat.shape[1], -1))
    varied = int((variances > FLAT**2 * variances[-1]).sum())
    first = slice(None, -1 - max(1, min(dimensions, varied)), -1)  # the largest come last
    basis = directions[:, first] / (np.sqrt(np.maximum(variances[first], TINY)) if whiten else 1)

    def project(x: NDArray[Any]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (np.asarray(x, np.float64).reshape(len(x), -1) - centre) @ basis
        return found

    return project


def log_density(x: NDArray[Any], of: NDArray[Any]) -> NDArray[Any]:
    """The logarithm, at points x (n, d), of a Gaussian kernel density estimate from points `of` (m, d).

    The bandwidth is Scott's, m^(-1/(d+4)) standard deviations, of one width in all directions: meant for points that
    were whitened.
    """
    m, d = of.shape
    variance = max(float(of.var(0).mean()), TINY) * m ** (-2 / (d + 4))

    def log_sum(squared: NDArray[Any]) -> NDArray[Any]:
        least = squared.min(1)
        squared -= least[:, None]
        squared /= -2 * variance
        summed: NDArray[Any] = np.log(np.exp(squared, out=squared).sum(1)) - least / (2 * variance)
        return summed

    return np.asarray(reduced(x, of, log_sum) - np.log(m) - d / 2 * np.log(2 * np.pi * variance))
