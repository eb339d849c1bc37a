"""The reference row: what the same attacks reach where nothing defends, which a run measures beside a defense."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from bench.core.component import Choice, Component, missing
from bench.core.release import GIVEN
from bench.runner.registry import Registry
from bench.runner.request import Grid


def reference_of(defense: Component, known: Iterable[Component]) -> Component | None:
    """The undefended component of `known` that publishes most of what `defense` publishes, and else the least.

    So it meets the attacks that the defense meets, as far as any undefended component does. None for an undefended
    defense, and where no undefended component publishes any of these accesses.
    """

    def common(one: Component) -> int:
        return len((one.publishes & defense.publishes) - GIVEN)

    fitting = [] if defense.undefended else [one for one in known if one.undefended and common(one)]
    return min(fitting, key=lambda one: (-common(one), len(one.publishes), one.name), default=None)


def with_references(grids: Sequence[Grid], registry: Registry) -> tuple[Grid, ...]:
    """The grids and, behind them, each reference with its default options against the attacks that its defenses meet.

    A grid that requests a reference itself, with whatever options, gets no other.
    """
    return (*grids, *itertools.chain.from_iterable(_references(grid, registry) for grid in grids))


def _references(grid: Grid, registry: Registry) -> Iterator[Grid]:
    requested = {choice.component for choice in grid.defenses}
    defended: dict[Component, list[Component]] = {}
    for component in requested:
        reference = reference_of(component, registry.defenses.values())
        if reference and reference not in requested:
            defended.setdefault(reference, []).append(component)
    for reference, components in sorted(defended.items(), key=lambda item: item[0].name):
        met = tuple(
            attack
            for attack in grid.attacks
            if any(
                not missing(attack.component, component, data.component)
                for component in components
                for data in grid.data
            )
        )
        yield Grid((Choice(reference),), met, grid.data, grid.seeds)
