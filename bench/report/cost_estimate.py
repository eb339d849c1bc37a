"""Estimates the cost of a run from the timings of stored cells: for `bench plan`, and for a run with a time budget."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from bench.core.text import one_line
from bench.report.leaderboard import component_name
from bench.runner import clusters, engine
from bench.runner.cell import Cell, is_stored, playable

if TYPE_CHECKING:
    from bench.runner.request import Request, Workers
    from bench.store.records import CellResult
    from bench.store.store import Store

# The stored cell that an estimate is based on, nearest first.
ITSELF, SEED, OPTIONS, DATA, UNKNOWN = BASES = (
    "the same cell", "another seed", "other options", "other data (scaled by private records)", "no stored cell",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Estimated seconds and peak memory in MiB; None and 0 where no stored cell is near (`basis` is UNKNOWN).

    fits: the trainings within, by key, with the seconds of each; elsewhere: the stored cell is from another machine.
    """

    basis: str = UNKNOWN
    seconds: float | None = None
    peak: float = 0.0
    fits: Mapping[str, float] = field(default_factory=dict)
    elsewhere: bool = False

    def without(self, fits: Iterable[str]) -> Cost:
        """The same cost where these fits are cached."""
        saved = sum(self.fits.get(key, 0.0) for key in fits)
        return self if self.seconds is None else replace(self, seconds=max(0.0, self.seconds - saved))


@dataclass(frozen=True)
class Group:
    """Cells that share one training, and the cost of what is left of it and of each of them.

    cached: whether the training is stored; fits: how many more the attacks need, as far as notes in this store say.
    """

    cells: tuple[Cell, ...]
    training: Cost
    costs: tuple[Cost, ...]
    cached: bool
    fits: int

    @property
    def seconds(self) -> float:
        """The sum of all known costs."""
        return sum(cost.seconds or 0.0 for cost in (self.training, *self.costs))

    @property
    def peak(self) -> float:
        """MiB; 0 where nothing is known."""
        return max(cost.peak for cost in (self.training, *self.costs))

    @property
    def unknown(self) -> int:
        """The number of cells of unknown cost."""
        return sum(cost.seconds is None for cost in self.costs)


class Past:
    """Stored cells, stale ones as well as fresh, and the costs that they predict of others."""

    def __init__(self, store: Store) -> None:
        self._store, self._machine = store, store.known_machine
        self._rows: dict[tuple[str, str, str], dict[tuple[str, int], CellResult]] = {}
        self._alike: dict[tuple[str, str], dict[tuple[str, str, str, int], CellResult]] = {}
        for result in store.results():
            self.add(result)

    def add(self, result: CellResult) -> None:
        """Take one more cell into account, or a newer state of one."""
        name = result.data, result.defense, result.attack, result.seed
        for attack in ("", result.attack):  # "" for the training, which is part of the cells of every attack
            self._rows.setdefault((result.data, result.defense, attack), {})[name[2:]] = result
            self._alike.setdefault((component_name(result.defense), component_name(attack)), {})[name] = result

    def group(self, cells: Sequence[Cell]) -> Group:
        """The cost of cells that share one training, in their order."""
        needed = self._store.load_asked(cells[0].training_digest()) or {}
        cached = {key for key in needed if self._store.weights.has(key)}
        training = replace(self._cost(cells[0], "defense"), fits=needed).without(cached)
        costs, shared = [], set[str]()  # attacks of one group share shadow models: the first is charged for them
        for cell in cells:
            cost = self._cost(cell, "attack")
            costs.append(cost.without(shared))
            shared |= cost.fits.keys()
        return Group(tuple(cells), training, tuple(costs), bool(cached) and len(cached) == len(needed), len(shared))

    def _cost(self, cell: Cell, part: str) -> Cost:
        attack = cell.attack.label if part == "attack" else ""
        past = self._rows.get((cell.data.label, cell.defense.label, attack)) or self._alike.get(
            (cell.defense.name, component_name(attack)), {}
        )
        if not past:
            return Cost()
        options = cell.options

        def distance(result: CellResult) -> tuple[bool, int, bool, int]:
            kinds = ("data", "defense", "attack") if attack else ("data", "defense")
            others = sum(_differing(options[kind], result.options[kind]) for kind in kinds)
            return result.data != cell.data.label, others, result.machine != self._machine, abs(result.seed - cell.seed)

        nearest = min(past.values(), key=distance)
        other_data, others, elsewhere, seeds = distance(nearest)
        basis = DATA if other_data else OPTIONS if others else SEED if seeds else ITSELF
        scale = _records(options["data"], nearest.options["data"]) if other_data else 1.0
        fits = self._store.load_asked(nearest.digest) or {} if attack else {}
        return Cost(
            basis,
            float(nearest.seconds[part]) * scale,
            nearest.peak_memory_mib,
            {key: seconds * scale for key, seconds in fits.items()},
            elsewhere,
        )


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(one.get(key) != other.get(key) for key in {*one, *other}) if one != other else 0


def _records(wanted: Mapping[str, Any], past: Mapping[str, Any]) -> float:
    """The ratio of the numbers of private records, 1 where one is not given."""
    sizes = wanted.get("private"), past.get("private")
    return sizes[0] / sizes[1] if all(isinstance(size, int) and size > 0 for size in sizes) else 1.0  # type: ignore[operator]


def seconds(store: Store) -> Callable[[Sequence[Cell]], float | None]:
    """Estimates what cells that share one training take together, None where no stored cell tells it of all of them.

    Reads the store at the first call: a run that finds nothing to measure does not wait for it.
    """
    past = cache(lambda: Past(store))

    def estimate(cells: Sequence[Cell]) -> float | None:
        group = past().group(cells)
        return None if group.unknown or group.training.seconds is None else group.seconds

    return estimate


def wall_time(groups: Sequence[float], workers: int) -> float:
    """The seconds from start to end where each worker that is free takes the longest group that is left."""
    free = [0.0] * workers
    for one in sorted(groups, reverse=True):
        heapq.heapreplace(free, free[0] + one)
    return max(free)


@dataclass(frozen=True)
class Row:
    """A defense on a data set: the numbers of requested and of stored cells; the others as one group per seed."""

    data: str
    defense: str
    requested: int
    stored: int
    groups: tuple[Group, ...]


def make(request: Request, store: Store, within: Callable[[list[Cell]], list[Cell]] = list) -> list[Row]:
    """What `bench run` would do, without cells that cannot be played. within: which of the cells fit into a budget."""
    past, machine = Past(store), None if request.reuse_committed else store.known_machine
    every = playable(request.grids)
    todo = [cell for cell in every if not is_stored(cell, store, machine)]
    missing, taken = ({cell.name for cell in cells} for cells in (todo, within(todo)))
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in every:
        rows.setdefault((cell.data.label, cell.defense.label), []).append(cell)
    found = []
    for (data, defense), cells in rows.items():
        groups: dict[int, list[Cell]] = {}
        for cell in cells:
            if cell.name in taken:
                groups.setdefault(cell.seed, []).append(cell)
        done = sum(cell.name not in missing for cell in cells)
        found.append(Row(data, defense, len(cells), done, tuple(map(past.group, groups.values()))))
    return found


HEAD = ("data", "defense", "requested", "stored", "to measure", "trainings", "minutes", "MiB")


def lines(rows: Sequence[Row], workers: str = "") -> list[str]:
    """The plan as a table, and a few sentences on how the estimate was made. workers: the one on the time with them."""
    names = [(one_line(row.data), one_line(row.defense)) for row in rows]
    words = [(*name, *_words([row])) for name, row in zip(names, rows, strict=True)]
    table = [HEAD, *words, ("total", "", *_words(rows))]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    left, right = slice(0, 2), slice(2, None)
    printed = []
    for line in table:
        columns = [word.ljust(width) for word, width in zip(line[left], widths[left], strict=True)]
        columns += [word.rjust(width) for word, width in zip(line[right], widths[right], strict=True)]
        printed.append("  ".join(columns).rstrip())
    groups = [group for row in rows for group in row.groups]
    beyond = sum(row.requested - row.stored for row in rows) - sum(len(group.cells) for group in groups)
    return [*printed, *_basis(groups, beyond), *([workers] if workers else ())]


def _words(rows: Sequence[Row]) -> tuple[str, ...]:
    groups = [group for row in rows for group in row.groups]
    counts = sum(row.requested for row in rows), sum(row.stored for row in rows), sum(len(g.cells) for g in groups)
    trainings = sum(not group.cached for group in groups)
    peak = max((group.peak for group in groups), default=0.0)
    return (*map(str, counts), str(trainings), minutes(groups), f"{peak:.0f}" if peak else "unknown" if groups else "0")


def minutes(groups: Sequence[Group]) -> str:
    """The estimated time: "unknown" where no cell has an estimate, "at least" where some have none."""
    known = f"{sum(group.seconds for group in groups) / 60:.1f}"
    unknown, cells = sum(group.unknown for group in groups), sum(len(group.cells) for group in groups)
    return known if not unknown else "unknown" if unknown == cells else f"at least {known}"


def in_parallel(rows: Sequence[Row], workers: Workers, *, budget: bool = False) -> str:
    """A sentence on the time from start to end with several workers; empty where one measures everything.

    budget: whether the rows are what ends within a budget, which is planned for one worker.
    """
    groups = [group for row in rows for group in row.groups]
    known = [group.seconds for group in groups]
    number = clusters.count(workers, len(groups))
    if workers.scheduler is not None:
        return f"The workers of {workers.scheduler} share these minutes; their number is known when a run starts."
    if not groups or engine.inline(workers, len(groups), None if any(g.unknown for g in groups) else sum(known)):
        return ""
    if budget:
        return f"This is what one worker measures in that time; {number} measure more."
    unknown, cells = sum(group.unknown for group in groups), sum(len(group.cells) for group in groups)
    if unknown == cells:
        return ""
    least = "at least " if unknown else ""
    total = (engine.STARTING + wall_time(known, number)) / 60
    return (
        f"{number} workers end after {least}{total:.1f} minutes, {engine.STARTING:g} s of them to start: the longest "
        "group first, and each as fast beside others as alone, which needs a core for each."
    )


def _basis(groups: Sequence[Group], beyond: int) -> list[str]:
    if not groups:
        return [f"None of {beyond} cells ends within the budget." if beyond else "Nothing is left to measure."]
    costs = [cost for group in groups for cost in group.costs]
    bases = Counter(cost.basis for cost in costs)
    counts = ", ".join(f"{bases[basis]} by {basis}" for basis in BASES if bases[basis])
    found = [f"Estimates of cells: {counts}."]
    if beyond:
        found.append(f"The budget leaves {beyond} more cells; results may change which cells these are.")
    if elsewhere := sum(cost.elsewhere for cost in costs):
        found.append(f"{elsewhere} of these stored cells come from another machine, which may be faster or slower.")
    if any(cost.basis == ITSELF and not cost.elsewhere for cost in costs):
        found.append("The trainings of stale cells may still be cached; then they take less.")
    if cached := sum(group.cached for group in groups):
        found.append(f"{cached} more trainings are cached.")
    if fits := sum(group.fits for group in groups):
        found.append(f"Attacks need {fits} more trainings, as the stored cells did; their time is counted.")
    found.append("Starting TensorFlow, loading data, release-free baselines and judging are not counted.")
    return found
