"""What a run would do and cost, as past cells tell: read before anything is paid for, and by a run with a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bench.report.leaderboard import name_of
from bench.runner.cell import Cell, is_stored, playable

if TYPE_CHECKING:
    from bench.runner.request import Request
    from bench.store.records import CellResult
    from bench.store.store import Store

# Of which cell a past one tells the cost, nearest first.
ITSELF, SEED, OPTIONS, DATA, UNKNOWN = BASES = (
    "the same cell", "another seed", "other options", "other data (by private records)", "no past cell",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Seconds that something will take and its peak in MiB; None and 0 where `basis` is that no past cell is near.

    fits: the trainings within, by key, with the seconds of each; elsewhere: the past cell came from another machine.
    """

    basis: str = UNKNOWN
    seconds: float | None = None
    peak: float = 0.0
    fits: Mapping[str, float] = field(default_factory=dict)
    elsewhere: bool = False

    def without(self, fits: Iterable[str]) -> Cost:
        """The same where these fits are remembered."""
        saved = sum(self.fits.get(key, 0.0) for key in fits)
        return self if self.seconds is None else replace(self, seconds=max(0.0, self.seconds - saved))


@dataclass(frozen=True)
class Group:
    """Cells that share one training, and what is left to pay for it and for each of them.

    remembered: whether the training is stored; fits: how many the attacks ask for besides, as far as notes here tell.
    """

    cells: tuple[Cell, ...]
    training: Cost
    costs: tuple[Cost, ...]
    remembered: bool
    fits: int

    @property
    def seconds(self) -> float:
        """All that is known of what is left to pay."""
        return sum(cost.seconds or 0.0 for cost in (self.training, *self.costs))

    @property
    def peak(self) -> float:
        """MiB; 0 where nothing is known."""
        return max(cost.peak for cost in (self.training, *self.costs))

    @property
    def unknown(self) -> int:
        """Cells of which no past cell tells the cost."""
        return sum(cost.seconds is None for cost in self.costs)


class Past:
    """Stored cells, stale ones as well as fresh, and what they tell of the cost of others."""

    def __init__(self, store: Store) -> None:
        self._store, self._machine = store, store.known_machine
        self._rows: dict[tuple[str, str, str], dict[tuple[str, int], CellResult]] = {}
        self._alike: dict[tuple[str, str], dict[tuple[str, str, str, int], CellResult]] = {}
        for result in store.results():
            self.add(result)

    def add(self, result: CellResult) -> None:
        """Take one more cell into account, or a newer state of one."""
        name = result.data, result.defense, result.attack, result.seed
        for attack in ("", result.attack):  # "" for the training, which every attack tells of
            self._rows.setdefault((result.data, result.defense, attack), {})[name[2:]] = result
            self._alike.setdefault((name_of(result.defense), name_of(attack)), {})[name] = result

    def group(self, cells: Sequence[Cell]) -> Group:
        """What is left to pay for cells that share one training, in their order."""
        asked_for = self._store.load_asked(cells[0].training_digest()) or {}
        there = {key for key in asked_for if self._store.weights.has(key)}
        training = replace(self._cost(cells[0], "defense"), fits=asked_for).without(there)
        costs, shared = [], set[str]()  # attacks of one group share shadow models: the first pays
        for cell in cells:
            cost = self._cost(cell, "attack")
            costs.append(cost.without(shared))
            shared |= cost.fits.keys()
        return Group(tuple(cells), training, tuple(costs), bool(there) and len(there) == len(asked_for), len(shared))

    def _cost(self, cell: Cell, part: str) -> Cost:
        attack = cell.attack.label if part == "attack" else ""
        past = self._rows.get((cell.data.label, cell.defense.label, attack)) or self._alike.get(
            (cell.defense.name, name_of(attack)), {}
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
    """How many times as many private records, 1 where that is not said."""
    sizes = wanted.get("private"), past.get("private")
    return sizes[0] / sizes[1] if all(isinstance(size, int) and size > 0 for size in sizes) else 1.0  # type: ignore[operator]


@dataclass(frozen=True)
class Row:
    """A defense on a data set: cells asked for and stored, and what is left as one group a seed."""

    data: str
    defense: str
    asked: int
    stored: int
    groups: tuple[Group, ...]


def make(request: Request, store: Store, within: Callable[[list[Cell]], list[Cell]] = list) -> list[Row]:
    """What `bench run` would do; what cannot be played is left out. within: which of these cells a budget gets to."""
    past, machine = Past(store), None if request.accept_published else store.known_machine
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


HEAD = ("data", "defense", "asked", "stored", "to measure", "trainings", "minutes", "MiB")


def lines(rows: Sequence[Row]) -> list[str]:
    """The plan as a table and a few sentences on how the estimate was made."""
    table = [HEAD, *((row.data, row.defense, *_words([row])) for row in rows), ("total", "", *_words(rows))]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    left, right = slice(0, 2), slice(2, None)
    said = []
    for line in table:
        words = [word.ljust(width) for word, width in zip(line[left], widths[left], strict=True)]
        words += [word.rjust(width) for word, width in zip(line[right], widths[right], strict=True)]
        said.append("  ".join(words).rstrip())
    groups = [group for row in rows for group in row.groups]
    beyond = sum(row.asked - row.stored for row in rows) - sum(len(group.cells) for group in groups)
    return [*said, *_how(groups, beyond)]


def _words(rows: Sequence[Row]) -> tuple[str, ...]:
    groups = [group for row in rows for group in row.groups]
    counts = sum(row.asked for row in rows), sum(row.stored for row in rows), sum(len(g.cells) for g in groups)
    trainings = sum(not group.remembered for group in groups)
    peak = max((group.peak for group in groups), default=0.0)
    return (*map(str, counts), str(trainings), minutes(groups), f"{peak:.0f}" if peak else "unknown" if groups else "0")


def minutes(groups: Sequence[Group]) -> str:
    """What is left to pay: "unknown" where no past cell tells, "at least" where some do not."""
    known = f"{sum(group.seconds for group in groups) / 60:.1f}"
    unknown, cells = sum(group.unknown for group in groups), sum(len(group.cells) for group in groups)
    return known if not unknown else "unknown" if unknown == cells else f"at least {known}"


def _how(groups: Sequence[Group], beyond: int) -> list[str]:
    if not groups:
        return [f"None of {beyond} cells ends within the budget." if beyond else "Nothing is left to measure."]
    costs = [cost for group in groups for cost in group.costs]
    bases = Counter(cost.basis for cost in costs)
    told = ", ".join(f"{bases[basis]} by {basis}" for basis in BASES if bases[basis])
    found = [f"Estimates of cells: {told}."]
    if beyond:
        found.append(f"The budget leaves {beyond} more cells; what is found on the way may change which these are.")
    if elsewhere := sum(cost.elsewhere for cost in costs):
        found.append(f"{elsewhere} of these past cells come from another machine, which may be faster or slower.")
    if any(cost.basis == ITSELF and not cost.elsewhere for cost in costs):
        found.append("Stale cells may find their trainings still remembered, and take less.")
    if remembered := sum(group.remembered for group in groups):
        found.append(f"{remembered} more trainings are remembered.")
    if fits := sum(group.fits for group in groups):
        found.append(f"Attacks ask for {fits} trainings of their own, as past cells did; their time is counted.")
    found.append("Starting TensorFlow, loading data, blind answers and judging come on top.")
    return found
