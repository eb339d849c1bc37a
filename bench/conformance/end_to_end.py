"""The checks that run a component as `bench run` does: a defense on a leaderboard, an attack through its controls."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.conformance.attack_checks import AttackRuns
from bench.conformance.check import Skip, Violation, check, component_lines
from bench.conformance.short_runs import ShortRuns
from bench.core.component import Choice, missing
from bench.core.dataset import DataLocation
from bench.core.errors import UserError
from bench.core.progress import Progress
from bench.core.release import GIVEN
from bench.dp.weights_cache import WeightsCache
from bench.lint.short_options import SIZES
from bench.report import aggregate, markdown, terminal
from bench.runner import controls, run
from bench.runner.registry import Registry
from bench.runner.request import Grid, Request
from bench.store.freshness import freshness
from bench.store.store import Store


def cheapest(defense: Choice, data: str, registry: Registry) -> Choice | None:
    """An attack that can be played against the defense on this data set.

    One without shadow models if there is any, and among these the reference attack of its game.
    """
    attacks = registry.attacks.values()
    playable = (one for one in attacks if not missing(one, defense.component, registry.data[data]))

    def cost(one: Choice) -> tuple[bool, bool, int]:
        game = one.component.game
        return (
            bool(one.component.needs & GIVEN),
            not game or one.name != game.reference_attack,
            len(one.component.needs),
        )

    return min(map(Choice, playable), key=cost, default=None)


@check("appears on a leaderboard")
def appears_on_leaderboard(runs: ShortRuns) -> Iterator[str]:
    """Trained on a small data set, attacked, judged, stored and shown."""
    from rich.console import Console

    if runs.release().published() != runs.component.publishes:
        raise Skip("it does not publish what it declares.")
    registry = runs.registry
    attack = cheapest(runs.choice, runs.data_name, registry)
    if attack is None:
        raise Skip(f"no attack here works on what it publishes ({', '.join(sorted(runs.component.publishes))}).")
    data = Choice(registry.data[runs.data_name], SIZES)
    with tempfile.TemporaryDirectory() as folder:
        store, page = Store(Path(folder) / "results"), io.StringIO()
        grid = Grid((runs.choice,), (attack,), (data,), (0,))
        quiet = Progress(Console(file=io.StringIO()))
        outcome = run.run(Request((grid,), store.root, DataLocation()), registry, store, quiet)
        for reason in outcome.failed.values():
            raise Violation(f"against {attack.label} on {data.name} {reason}: fix that and test again.")
        board = aggregate.build(store, registry, {}, freshness(registry.find), lambda label: None)
        markdown.write(board, store)
        terminal.show(board, Console(file=page, width=200))
    if runs.component.name not in page.getvalue():
        yield f"the leaderboard does not show its cell against {attack.label}: report this as a bug of bench."


@check("passes its controls")
def passes_its_controls(runs: AttackRuns) -> Iterator[str]:
    """It reaches its required score without a defense, and finds nothing on models of unrelated records."""
    start = time.monotonic()

    def on_progress(what: str) -> None:
        seconds = (time.monotonic() - start) * setting.null / controls.POSITIVE
        runs.on_progress(f"{what}: at most {seconds:.0f} s more" if what.startswith("null") else what)

    try:
        setting = controls.control_setting(runs.choice, runs.registry)
        seeds = f"{controls.POSITIVE} models of {setting.defense} and {setting.null} more of unrelated records"
        runs.on_progress(
            f"{runs.component.name}: its controls train and attack {seeds}: some minutes (or --no-controls)"
        )
        with tempfile.TemporaryDirectory() as folder:
            found = controls.measure(runs.choice, runs.registry, WeightsCache(Path(folder)), runs.where, on_progress)
    except UserError as error:
        if component_lines(error, runs.component):
            raise
        raise Skip(str(error)) from error
    for red in found.red:
        positive = red.startswith("positive")
        what = "fix the attack or lower its required_score" if positive else "it finds what is not there"
        yield f"{red}: {what}."
