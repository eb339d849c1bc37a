"""Is one figure larger than another beyond noise, asked about the same targets?

Two cells of one data set, game and seed were asked about the same targets, so their difference is a paired one, and
much surer than two intervals side by side. What it is made of (`Store.load_answers`) stays with the checkout that
measured the cells; what comes out is kept in comparisons.csv, under a digest of the cells.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

from bench.core.digest import digest
from bench.core.files import write
from bench.games.intervals import Z
from bench.games.paired import is_made_of, standard_error

if TYPE_CHECKING:
    from bench.store.records import CellResult
    from bench.store.store import Store

FILE = "comparisons.csv"


@dataclass(frozen=True)
class Difference:
    """The figure of `first` less that of `second` (labels of defense and attack), over the seeds that both have.

    what: "leakage", or "accuracy" of the release. se: the larger of the one within seeds and the one between them; p:
    two-sided, by the normal distribution. paired: on the same targets, in every seed. unmatched: in what the two claims
    differ, empty where they are alike. of: stands for the cells that were compared.
    """

    what: str
    data: str
    first: str
    second: str
    seeds: int
    value: float
    low: float
    high: float
    p: float
    paired: bool
    unmatched: str
    of: str


@dataclass(frozen=True)
class Side:
    """What is compared: cells of one defense and attack, one a seed."""

    results: Sequence[CellResult]

    @property
    def label(self) -> str:
        """Its defense and attack."""
        return f"{self.results[0].defense} / {self.results[0].attack}"


class Comparisons:
    """Differences as they are asked for: from the file where its cells are still these, else worked out."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known = {(one.what, one.of): one for one in _read(store)}
        self._used: dict[tuple[str, str], Difference] = {}

    def leakage(self, first: Side, second: Side) -> Difference | None:
        """Of the headline figures; None where the two share no seed that was measured."""
        return self._between("leakage", first, second, _headline, _units)

    def accuracy(self, first: Side, second: Side) -> Difference | None:
        """Of the utilities."""
        return self._between("accuracy", first, second, _accuracy, _correct)

    def save(self) -> None:
        """Keep what was asked for since, and nothing else."""
        used = sorted(self._used.values(), key=lambda one: (one.what, one.data, one.first, one.second))
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow([field.name for field in fields(Difference)])
        lines.writerows(map(astuple, used))
        path, data = self._store.root / FILE, text.getvalue().encode()
        if used and (not path.exists() or path.read_bytes() != data):
            write(path, data)

    def _between(
        self, what: str, first: Side, second: Side, figure: Callable[[CellResult], Any], units: Callable[[Any], Any]
    ) -> Difference | None:
        theirs = {result.seed: result for result in second.results}
        pairs = [(one, theirs[one.seed]) for one in first.results if one.seed in theirs]
        pairs = [pair for pair in pairs if all("value" in figure(one) for one in pair)]
        if not pairs:
            return None
        of = digest([(one.defense, one.attack, one.digest, figure(one)["value"]) for pair in pairs for one in pair])
        known = self._known.get((what, of))
        if known is None or not known.paired:
            names = what, first.results[0].data, first.label, second.label
            known = _difference(names, of, pairs, figure, lambda result: units(self._store.load_answers(_key(result))))
        self._used[what, of] = known
        return known


def _difference(
    names: tuple[str, str, str, str],
    of: str,
    pairs: Sequence[tuple[CellResult, CellResult]],
    figure: Callable[[CellResult], Any],
    units: Callable[[CellResult], Any],
) -> Difference:
    values, variances, on_the_same = [], [], True
    for pair in pairs:
        values.append(figure(pair[0])["value"] - figure(pair[1])["value"])
        made_of = [units(one) for one in pair]
        whole = all(is_made_of(parts, figure(one)["value"]) for parts, one in zip(made_of, pair, strict=True))
        se = _paired(*made_of) if whole else None
        on_the_same &= se is not None
        alone = math.hypot(*((figure(one)["high"] - figure(one)["low"]) / (2 * Z) for one in pair))
        variances.append((alone if se is None else se) ** 2)
    k, value = len(values), statistics.fmean(values)
    within, between = math.sqrt(sum(variances)) / k, statistics.stdev(values) / math.sqrt(k) if k > 1 else 0.0
    se = max(within, between)
    p = math.erfc(abs(value) / se / math.sqrt(2)) if se else float(value == 0)
    unmatched = _unmatched(*pairs[0])
    return Difference(*names, k, value, value - Z * se, value + Z * se, p, on_the_same, unmatched, of)


def _paired(first: Any, second: Any) -> float | None:
    try:
        return standard_error(first, second)
    except ValueError:
        return None


def _unmatched(first: CellResult, second: CellResult) -> str:
    """In what two claims differ that must agree before utilities are compared at equal privacy."""
    differing = []
    for word in ("epsilon", "delta", "relation"):
        one, other = first.privacy[word], second.privacy[word]
        numbers = [value for value in (one, other) if isinstance(value, (int, float))]
        if not (math.isclose(*numbers, rel_tol=0.01) if len(numbers) == 2 else one == other):
            differing.append(word)
    # "Poisson, rate 0.1, ...": how batches are drawn comes first
    if str(first.privacy["sampler"]).split(",")[0] != str(second.privacy["sampler"]).split(",")[0]:
        differing.append("sampler")
    return " ".join(differing)


def _headline(result: CellResult) -> Any:
    return result.metrics[str(result.metrics["headline"])]


def _accuracy(result: CellResult) -> Any:
    return result.utility.get("accuracy", {})


def _units(answers: Any) -> Any:
    return {name: values for name, values in (answers or {}).items() if name.startswith("units")}


def _correct(answers: Any) -> Any:
    correct = (answers or {}).get("correct", ())
    return {"units": correct} if len(correct) else {}


def _key(result: CellResult) -> tuple[str, str, str, int]:
    return result.data, result.defense, result.attack, result.seed


def _read(store: Store) -> list[Difference]:
    """What the file holds; one that cannot be read is made anew."""
    kinds: dict[str, Callable[[str], Any]] = {"seeds": int, "paired": "True".__eq__}
    kinds |= dict.fromkeys(("value", "low", "high", "p"), float)
    try:
        rows = list(csv.DictReader(io.StringIO((store.root / FILE).read_text("utf-8"))))
        return [Difference(**{name: kinds.get(name, str)(text) for name, text in row.items()}) for row in rows]
    except (OSError, ValueError, TypeError):
        return []
