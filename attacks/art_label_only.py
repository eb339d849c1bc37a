"""ART's attacks on a model that returns the predicted label alone (Choquette-Choo et al. 2021; Li and Zhang 2021)."""

from __future__ import annotations

import math
import warnings
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples, record_keys
from bench.core.errors import UserError
from bench.core.randomness import derive
from bench.core.release import Map, Release
from bench.games import MEMBERSHIP, Targets

RULES = ("gap", "boundary")
BATCH = 4096
CHUNK = 1000  # records that are compared with the pool at once
BISECTIONS = 12


@attack("art_label_only", game=MEMBERSHIP, needs={"predict"}, required_score=0.8)
def art_label_only(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    rule: Annotated[
        str,
        Option(
            "score a record by whether its label is right, or by its distance to the decision boundary", one_of=RULES
        ),
    ] = "gap",
    iterations: Annotated[int, Option("HopSkipJump iterations, for rule=boundary", at_least=1)] = 2,
    queries: Annotated[int, Option("predictions asked for in the first iteration, for rule=boundary", at_least=1)] = 50,
) -> NDArray[Any]:
    """ART's LabelOnlyGapAttack (right or wrong), or the distance to the nearest decision boundary (rule=boundary).

    The boundary is found by ART's HopSkipJump: `iterations`, of which the first makes `queries` queries and later ones
    more; minutes for a thousand records. The score is the distance itself; LabelOnlyDecisionBoundary would round it to
    0 or 1 at a threshold. A misclassified record has distance 0, as there.
    """
    if rule not in RULES or iterations < 1 or queries < 1:
        raise UserError(
            f"art_label_only takes rule={'|'.join(RULES)}, iterations and queries from 1, "
            f"not rule={rule}, iterations={iterations}, queries={queries}."
        )
    assert release.predict is not None
    records, estimator = targets.records, _estimator(release.predict, targets.records)
    correct = _gap(estimator, records)
    if rule == "gap":
        return correct
    rows, features = np.flatnonzero(correct), math.prod(records.shape)
    starts, found = _starts(estimator, records.x[rows], np.concatenate([targets.known.x, public.x]))
    distances = np.zeros(len(records))
    distances[rows] = math.sqrt(features)  # where no other label is known: the largest distance in the unit cube
    rows = rows[found]
    x = records.x[rows]
    nearer = _hop_skip_jump(estimator, records[rows], starts[found], seed, iterations, queries)
    distances[rows] = np.linalg.norm((_to_boundary(estimator, x, nearer) - x).reshape(len(x), features), axis=1)
    return distances


def _estimator(predict: Map, records: Examples) -> Any:
    """ART's view of a release that returns the predicted label alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)  # not needed for these attacks
        from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    def label(x: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.eye(records.classes, dtype=np.float32)[predict(x).argmax(1)])

    return BlackBoxClassifierNeuralNetwork(
        label, records.shape, records.classes, clip_values=(0.0, 1.0), channels_first=False
    )


def _labels(estimator: Any, x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(estimator.predict(x, batch_size=BATCH).argmax(1))


def _gap(estimator: Any, records: Examples) -> NDArray[np.float64]:
    """1 where the label is correct, else 0. Labels are one-hot: of integers ART infers the number of classes."""
    from art.attacks.inference.membership_inference import LabelOnlyGapAttack

    y = np.eye(records.classes, dtype=np.float32)[records.y]
    return np.asarray(LabelOnlyGapAttack(estimator).infer(records.x, y), np.float64)


def _starts(estimator: Any, x: NDArray[Any], pool: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """For each of x the nearest of the pool with another label, moved to the boundary; and where there is one."""
    from scipy.spatial.distance import cdist

    labels, pool_labels = _labels(estimator, x), _labels(estimator, pool)
    flat = pool.reshape(len(pool), -1)
    nearest, found = np.zeros(len(x), np.int64), np.zeros(len(x), bool)
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        distances = cdist(x[rows].reshape(len(x[rows]), -1), flat)
        distances[labels[rows, None] == pool_labels] = np.inf
        nearest[rows], found[rows] = distances.argmin(1), np.isfinite(distances).any(1)
    starts = pool[nearest].copy()
    starts[found] = _to_boundary(estimator, x[found], starts[found])
    return starts, found


def _to_boundary(estimator: Any, x: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """The points between x and others of another label where the label changes, on the far side, by bisection."""
    label = _labels(estimator, x)
    low, high = np.zeros(len(x), np.float32), np.ones(len(x), np.float32)

    def between(at: NDArray[Any]) -> NDArray[Any]:
        at = at.reshape(-1, *[1] * (x.ndim - 1))
        return np.asarray((1 - at) * x + at * other, np.float32)

    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        changed = _labels(estimator, between(middle)) != label
        low, high = np.where(changed, low, middle), np.where(changed, middle, high)
    return between(high)


def _hop_skip_jump(
    estimator: Any, records: Examples, starts: NDArray[Any], seed: int, iterations: int, queries: int
) -> NDArray[Any]:
    """ART's HopSkipJump from given starts: the starts that it draws itself come from a generator that has no seed.

    Its other draws come from NumPy's global state, which is seeded for each record by the record's content, so that a
    score does not depend on other records, and restored afterwards.
    """
    from art.attacks.evasion import HopSkipJump

    most = max(BATCH, queries)
    search = HopSkipJump(estimator, BATCH, max_iter=iterations, init_eval=queries, max_eval=most, verbose=False)
    out, state = np.empty_like(records.x), np.random.get_state()  # noqa: NPY002
    try:
        for k, key in enumerate(record_keys(records)):
            np.random.seed(derive(seed, "hop", key.hex()) % 2**32)  # noqa: NPY002
            one = slice(k, k + 1)
            out[one] = search.generate(records.x[one], x_adv_init=starts[one].copy())
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return out
