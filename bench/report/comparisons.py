"""Is one figure larger than another beyond noise, on the same targets? Paired differences, and ranks with ties.

Two cells of one data set, game and seed were judged on the same targets, so their difference is a paired one, and
much surer than two intervals side by side. The units that it is computed from (`Store.load_answers`) stay with the
checkout that measured the cells; the difference is kept in comparisons.csv, under a digest of the cells.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import astuple

from bench.core.digest import digest
from bench.core.errors import Caveat
from bench.core.files import read_regular, write_if_changed
from bench.games.intervals import Z
from bench.games.paired import is_made_of, standard_error
from bench.store.differences import PairedDifference, two_sided
from bench.store.figures import TINY
from bench.store.read_write import SEAL, Damaged, difference, seal_of

if TYPE_CHECKING:
    from bench.store.records import CellResult
    from bench.store.store import Store

FILE = "comparisons.csv"
SLACK = 1.5  # intervals are not symmetric, and so the error that is read off them is a rough one
MOST = 1 << 28  # bytes of the file
_FIELDS = PairedDifference.__struct_fields__


@dataclass(frozen=True)
class Side:
    """What is compared: cells of one defense and attack, one per seed."""

    results: Sequence[CellResult]

    @property
    def label(self) -> str:
        """Its defense and attack."""
        return f"{self.results[0].defense} / {self.results[0].attack}"


class Comparisons:
    """Differences on request: from the file where it has them for these very cells, else computed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known = {(one.what, one.of): one for one in _read(store)}
        self._used: dict[tuple[str, str], PairedDifference] = {}

    def leakage(self, first: Side, second: Side) -> PairedDifference | None:
        """Of the headline figures; None where the two share no measured seed."""
        return self._between("leakage", first, second, _headline, _units)

    def accuracy(self, first: Side, second: Side) -> PairedDifference | None:
        """Of the utilities."""
        return self._between("accuracy", first, second, _accuracy, _correct)

    def save(self) -> None:
        """Write the differences that were requested since, and nothing else. A Caveat counts those not paired.

        Without that Caveat a line deleted from the file would move ranks silently.
        """
        used = sorted(self._used.values(), key=lambda one: (one.what, one.data, one.first, one.second))
        if apart := sum(not one.paired and (one.what, one.of) not in self._known for one in used):
            what = f"{apart} of {len(used)} differences rest on separate intervals in place of the same targets"
            warnings.warn(
                f"{what}: what they need is in no file here, so more rows share a rank.", Caveat, stacklevel=2
            )
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow([*_FIELDS, SEAL])
        lines.writerows((*astuple(one), seal_of(one)) for one in used)
        if used:
            write_if_changed(self._store.root / FILE, text.getvalue().encode())

    def _between(
        self, what: str, first: Side, second: Side, figure: Callable[[CellResult], Any], units: Callable[[Any], Any]
    ) -> PairedDifference | None:
        theirs = {result.seed: result for result in second.results}
        pairs = [(one, theirs[one.seed]) for one in first.results if one.seed in theirs]
        pairs = [pair for pair in pairs if all("value" in figure(one) for one in pair)]
        if not pairs:
            return None
        of = digest([(one.defense, one.attack, one.digest, figure(one)["value"]) for pair in pairs for one in pair])
        names = what, first.results[0].data, first.label, second.label
        known = self._known.get((what, of))
        if known and not _follows(known, names, pairs, figure):
            _left_out(self._store, f"the difference of {first.label} and {second.label} is not that of their cells")
            known = None
        if known is None or not known.paired:
            known = _difference(names, of, pairs, figure, lambda result: units(self._store.load_answers(_key(result))))
        self._used[what, of] = known
        return known


def _difference(
    names: tuple[str, str, str, str],
    of: str,
    pairs: Sequence[tuple[CellResult, CellResult]],
    figure: Callable[[CellResult], Any],
    units: Callable[[CellResult], Any],
) -> PairedDifference:
    values, variances, on_the_same = [], [], True
    for pair in pairs:
        values.append(figure(pair[0])["value"] - figure(pair[1])["value"])
        made_of = [units(one) for one in pair]
        whole = all(is_made_of(parts, figure(one)["value"]) for parts, one in zip(made_of, pair, strict=True))
        se = _paired(*made_of) if whole else None
        on_the_same &= se is not None
        alone = math.hypot(*(_error(figure(one)) for one in pair))
        variances.append((alone if se is None else se) ** 2)
    k, value = len(values), statistics.fmean(values)
    se = max(math.sqrt(sum(variances)) / k, _between_seeds(values))
    p, unmatched = two_sided(value, se), _unmatched(*pairs[0])
    return PairedDifference(*names, k, value, value - Z * se, value + Z * se, p, on_the_same, unmatched, of)


def _error(figure: Any) -> float:
    """The standard error of a figure, read off its interval."""
    return float((figure["high"] - figure["low"]) / (2 * Z))


def _between_seeds(values: Sequence[float]) -> float:
    """The standard error of a mean over seeds, by what they differ."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _follows(
    known: PairedDifference,
    names: tuple[str, str, str, str],
    pairs: Sequence[tuple[CellResult, CellResult]],
    figure: Callable[[CellResult], Any],
) -> bool:
    """Whether a stored difference is that of these cells: names, seeds, value, claims, and an error that can be theirs.

    Of its error only bounds are known here, for the units that it was computed from may be in another checkout: at
    least what the seeds differ by, at most that of figures that err in opposite directions.
    """
    values = [figure(one)["value"] - figure(other)["value"] for one, other in pairs]
    least = _between_seeds(values)
    most = math.hypot(*(_error(figure(one)) + _error(figure(other)) for one, other in pairs)) / len(pairs)
    return (
        (known.what, known.data, known.first, known.second) == names
        and known.seeds == len(pairs)
        and math.isclose(known.value, statistics.fmean(values), abs_tol=TINY)
        and least - TINY <= known.se <= SLACK * max(least, most) + TINY
        and known.unmatched == _unmatched(*pairs[0])
    )


def _paired(first: Any, second: Any) -> float | None:
    try:
        return standard_error(first, second)
    except ValueError:
        return None


def _unmatched(first: CellResult, second: CellResult) -> str:
    """The parts in which two claims differ, all of which must agree before utilities are compared at equal privacy."""
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


def _read(store: Store) -> list[PairedDifference]:
    """The differences in the file. What is damaged is left out with a Caveat, and computed again."""
    path = store.root / FILE
    try:
        text = read_regular(path, MOST).decode()
        lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if lines.fieldnames != [*_FIELDS, SEAL]:
            raise ValueError("its first line does not name the columns of differences with their seals")
        rows = list(lines)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        _left_out(store, "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error))
        return []
    found, why = [], ""
    for row in rows:
        try:
            found.append(_of_row(row))
        except Damaged as error:
            why = str(error)
    if why:
        _left_out(store, f"{len(rows) - len(found)} of its {len(rows)} lines are damaged, one because {why}")
    return found


def _of_row(row: dict[str, Any]) -> PairedDifference:
    """The difference in a line. Raises Damaged where it is none, or another than was written."""
    if row.keys() != {*_FIELDS, SEAL} or None in row.values():
        raise Damaged("it has fewer or more cells than there are columns")
    seal = row.pop(SEAL)
    found = difference(row)
    if seal_of(found) != seal:
        raise Damaged("its seal is not that of its figures: it was edited")
    return found


def _left_out(store: Store, why: str) -> None:
    what = f"{store.root / FILE}: left out, and computed again as far as this checkout can ({why})."
    warnings.warn(what, Caveat, stacklevel=2)
