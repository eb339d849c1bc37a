"""What a file of scores proves: every bound with what it rests on, kept as a row of the board of its own."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.audit.bounds import clopper_pearson, one_run, rank
from bench.audit.score_file import Scores
from bench.core.errors import Doubt, UserError
from bench.core.randomness import stream
from bench.games import metrics
from bench.store.store import SCORES, Store, digest, source_digest, write

RESTS_ON = {
    "beta_binomial": "every score is an independent trial",
    "clopper_pearson": "the same, with two tails in place of one",
    "gaussian_dp": "the same, and a Gaussian trade-off curve (mechanism='gaussian')",
    "one_run": "every record was included by a fair coin of its own",
}
FPRS = (0.01, 0.001)
HEAD = ("defense", "data", "attack", "utility", "epsilon", "delta", "audited epsilon", "at most", *RESTS_ON,
        "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "held in", "held out")  # fmt: skip
NOTES = (
    "Scores handed in: measured elsewhere, in whatever framework; what is judged here are the scores in the file.",
    "Audited epsilon: a lower bound; VIOLATION where it lies above the claim. At most: what a perfect attack could "
    "have proved with as many trials.",
)
Words = dict[str, Any]


@dataclass(frozen=True)
class Audit:
    """The figures of one file. bounds: by name, {"value", "most"} or {"not_measurable": why}; headline: one of them.

    An infinite epsilon is "inf"; tpr: by false positive rate; code: digest of what computed it.
    """

    defense: str
    data: str
    attack: str
    utility: float | None
    epsilon: float | str
    delta: float
    confidence: float
    held_in: int
    held_out: int
    headline: str
    bounds: Mapping[str, Words]
    auc: Words
    tpr: Mapping[str, Words]
    code: str

    @property
    def lower(self) -> float:
        """The bound that counts."""
        return float(self.bounds[self.headline].get("value", 0.0))

    @property
    def violated(self) -> bool:
        """Whether the scores prove more than is claimed."""
        return self.lower > float(self.epsilon)


def audit(scores: Scores, confidence: float = 0.95) -> Audit:
    """Every bound that the scores allow, each at this confidence by itself, AUC and TPR at low FPR.

    Which of the bounds counts is decided by what the file says of its scores, never by their values: the largest of
    several would be too large more often than 1 - confidence. Raises UserError for a confidence that is none.
    """
    if not 0.5 <= confidence < 1:
        raise UserError(f"a confidence lies between 0.5 and 1, as 0.95 does, but not at {confidence:g}.")
    alpha, delta = 1 - confidence, scores.delta
    held_in, held_out = (np.sort(scores.scores[side]) for side in (scores.member, ~scores.member))
    if scores.coins:
        headline, bounds = "one_run", _of_coins(scores, alpha)
    else:
        headline = "gaussian_dp" if scores.gaussian and delta else "beta_binomial"
        bounds = _of_trials(held_in, held_out, delta, alpha)
    ordered = np.concatenate([held_in, held_out])  # in which everything is found in half the time
    member = np.arange(len(ordered)) < len(held_in)
    tpr = {str(fpr): metrics.tpr_at_fpr(ordered, member, fpr) for fpr in FPRS}
    claim = "inf" if math.isinf(scores.epsilon) else scores.epsilon
    return Audit(
        scores.defense, scores.data, scores.attack, scores.utility, claim, delta, confidence, len(held_in),
        len(held_out), headline, bounds, metrics.auc(ordered, member), tpr, code(),
    )  # fmt: skip


def _of_trials(held_in: NDArray[Any], held_out: NDArray[Any], delta: float, alpha: float) -> dict[str, Words]:
    n, m = len(held_in), len(held_out)
    found, best = rank.rules(held_in, held_out), rank.perfect(n, m)
    bounds: dict[str, Words] = {
        "beta_binomial": {
            "value": rank.epsilon(found, delta, alpha),
            "most": max(rank.epsilon([one], delta, alpha) for one in best),
        },
        "clopper_pearson": {
            "value": clopper_pearson.epsilon(clopper_pearson.at_ranks(found, alpha), delta),
            "most": clopper_pearson.epsilon(clopper_pearson.at_counts(0, m, n, n, alpha), delta),
        },
        "gaussian_dp": {"not_measurable": "delta is 0"},
        "one_run": {"not_measurable": "no coins: the file holds no `included`"},
    }
    if delta:
        most = max(rank.mu([one], alpha) for one in best)
        both = ("value", rank.mu(found, alpha)), ("most", most)
        bounds["gaussian_dp"] = {name: rank.epsilon_of_mu(mu, delta) for name, mu in both}
    return bounds


def _of_coins(scores: Scores, alpha: float) -> dict[str, Words]:
    n = len(scores.scores)
    value = one_run.bound(scores.scores, scores.member, scores.delta, alpha, stream(0, "audit", "ties"))
    most = one_run.epsilon(n, n, n, scores.delta, alpha)
    dependent = {"not_measurable": "records of one training are no independent trials"}
    return dict.fromkeys(RESTS_ON, dependent) | {"one_run": {"value": value, "most": most}}


@cache
def code() -> str:
    """A digest of the code that computes the figures."""
    here = Path(__file__).parent
    files = [here / f"{name}.py" for name in ("one_run", "ranks", "rates", "report", "scores")]
    return digest([source_digest(path) for path in (*files, here.parent / "metrics.py")])


def save(found: Audit, store: Store) -> Path:
    """Keep it as a row of the board, over an older one of the same defense, data and attack."""
    path = _folder(store).path(found.data, found.defense, found.attack, 0)
    write(path, json.dumps(asdict(found), sort_keys=True, indent=1, allow_nan=False).encode() + b"\n")
    return path


def handed_in(store: Store) -> tuple[Audit, ...]:
    """Every row that was kept, by data set and audited epsilon; a file that is no row is named in a Doubt."""
    found = []
    for path in sorted(_folder(store).root.rglob("*.json")):
        try:
            row = _row(json.loads(path.read_bytes()))
            if path != _folder(store).path(row.data, row.defense, row.attack, 0):
                raise ValueError("it holds the row of another file")
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} is left out ({error}): delete it or run `bench score` again.", Doubt, stacklevel=2)
        else:
            found.append(row)
    return tuple(sorted(found, key=lambda row: (row.data, row.lower, row.defense, row.attack)))


def _folder(store: Store) -> Store:
    return Store(store.root / SCORES)


def _row(values: Any) -> Audit:
    """Raises ValueError where the words of a file are not those of an Audit."""
    if not isinstance(values, dict) or values.keys() != {field.name for field in fields(Audit)}:
        raise ValueError("it does not hold the keys of a row")
    row = Audit(**values)
    try:
        json.dumps(values, allow_nan=False)  # json.loads takes NaN, and 1e400 for infinity
        shown = [row.data, row.defense, row.attack, _down(row.lower), *row_of(row)]
    except (TypeError, ValueError, KeyError, AttributeError):
        raise ValueError("a figure in it is not of its kind") from None
    if not all(isinstance(word, str) and word for word in shown):
        raise ValueError("a name in it is no word")
    return row


def row_of(row: Audit) -> list[str]:
    """The words of a row of the board under HEAD; figures of other code are stale and not shown."""
    names = [row.defense, row.data, row.attack]
    claims = ["-" if row.utility is None else f"{row.utility:.3f}", _claim(row), f"{row.delta:g}"]
    trials = [str(row.held_in), str(row.held_out)]
    if row.code != code():
        return [*names, *claims, "stale: score it again", *["-"] * (len(HEAD) - 9), *trials]
    audited = f"{_down(row.lower)} at {row.confidence * 100:g} % ({row.headline})"
    audited = f"**VIOLATION** {audited}" if row.violated else audited
    bounds = [_bound(row.bounds[name], "value") for name in RESTS_ON]
    figures = [_figure(one) for one in (row.auc, *(row.tpr[str(fpr)] for fpr in FPRS))]
    return [*names, *claims, audited, _bound(row.bounds[row.headline], "most"), *bounds, *figures, *trials]


def report(row: Audit) -> list[str]:
    """The figures of one file in lines, for a terminal."""
    percent = f"{row.confidence * 100:g} %"
    lines = [
        f"{row.defense} on {row.data}, attack {row.attack}: claims epsilon {_claim(row)} at delta {row.delta:g}",
        f"{row.held_in} scores held in, {row.held_out} held out",
        f"{'epsilon is at least':22}{percent:>12}{'at most*':>10}  rests on",
    ]
    for name, why in RESTS_ON.items():
        one = row.bounds[name]
        value, most = _bound(one, "value"), _bound(one, "most")
        lines.append(f"  {name:20}{value:>12}{most:>10}  {one.get('not_measurable', why)}")
    lines.append("  * what a perfect attack could have proved with as many trials")
    lines.append(f"AUC {_figure(row.auc)} (95 %)")
    lines += [f"TPR at {fpr * 100:g} % FPR {_figure(row.tpr[str(fpr)])} (95 %)" for fpr in FPRS]
    claim = f"the claimed {_claim(row)}"
    verdict = f"VIOLATION: above {claim}" if row.violated else f"not above {claim}"
    lines.append(f"Audited epsilon ({row.headline}): {_down(row.lower)}, {verdict}")
    return lines


def one_line(row: Audit) -> str:
    """What the board says of it in a terminal."""
    said = dict(zip(HEAD, row_of(row), strict=True))
    audited = said["audited epsilon"].replace("**", "")
    return f"{row.defense} on {row.data}, {row.attack}: claims {said['epsilon']}, audited {audited}, AUC {said['AUC']}"


def _claim(row: Audit) -> str:
    epsilon = float(row.epsilon)
    return "inf" if math.isinf(epsilon) else f"{math.ceil(round(epsilon * 100, 6)) / 100:.2f}"


def _down(bound: float) -> str:
    """Two digits, rounded down: nothing that is shown was not proved."""
    return f"{math.floor(bound * 100) / 100:.2f}"


def _bound(one: Words, key: str) -> str:
    return "n/a" if "not_measurable" in one else _down(one[key])


def _figure(one: Words) -> str:
    if "not_measurable" in one:
        return f"not measurable: {one['not_measurable']}"
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
