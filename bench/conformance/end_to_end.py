"""The last of a component's trials are the real ones: a defense is put into a board, an attack through its controls."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.conformance.attack_checks import Player
from bench.conformance.check import Broken, Skip, check, lines_of
from bench.conformance.short_runs import Tried
from bench.core.component import Choice, missing
from bench.core.dataset import Where
from bench.core.errors import UserError
from bench.core.progress import Progress
from bench.core.release import GIVEN
from bench.lint.short_options import SIZES
from bench.report import render
from bench.runner import controls, run
from bench.runner.registry import Registry
from bench.runner.request import Grid, Request
from bench.store.freshness import freshness
from bench.store.store import Store


def cheapest(defense: Choice, data: str, registry: Registry) -> Choice | None:
    """An attack that can meet the defense on this data: without shadows if any can, and its game's baseline at that."""
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


@check("gets into a board")
def gets_into_a_board(tried: Tried) -> Iterator[str]:
    """Trained on a small split, attacked, judged, stored and shown."""
    from rich.console import Console

    if tried.release().published() != tried.component.publishes:
        raise Skip("it does not publish what it declares.")
    registry = tried.registry
    attack = cheapest(tried.choice, tried.ground, registry)
    if attack is None:
        raise Skip(f"no attack here works on what it publishes ({', '.join(sorted(tried.component.publishes))}).")
    data = Choice(registry.data[tried.ground], SIZES)
    with tempfile.TemporaryDirectory() as folder:
        store, page = Store(Path(folder) / "results"), io.StringIO()
        grid = Grid((tried.choice,), (attack,), (data,), (0,))
        quiet = Progress(Console(file=io.StringIO()))
        outcome = run.run(Request((grid,), store.root, Where()), registry, store, quiet)
        for reason in outcome.failed.values():
            raise Broken(f"against {attack.label} on {data.name} {reason}: mend that and test again.")
        board = render.build(store, registry, {}, freshness(registry.find), lambda label: None)
        render.write(board, store)
        render.show(board, Console(file=page, width=200))
    if tried.component.name not in page.getvalue():
        yield f"the board does not show its cell against {attack.label}: report this as a fault of the bench."


@check("passes its controls")
def passes_its_controls(player: Player) -> Iterator[str]:
    """It reaches its required score where nothing defends, and finds nothing on models of unrelated records."""
    start = time.monotonic()

    def say(what: str) -> None:
        seconds = (time.monotonic() - start) * place.null / controls.POSITIVE
        player.say(f"{what}: at most {seconds:.0f} s more" if what.startswith("null") else what)

    try:
        place = controls.control_setting(player.choice, player.registry)
        seeds = f"{controls.POSITIVE} models of {place.defense} and {place.null} more of unrelated records"
        player.say(f"{player.component.name}: its controls train and attack {seeds}: some minutes (or --no-controls)")
        with tempfile.TemporaryDirectory() as folder:
            found = controls.measure(player.choice, player.registry, Store(Path(folder)), player.where, say)
    except UserError as error:
        if lines_of(error, player.component):
            raise
        raise Skip(str(error)) from error
    for red in found.red:
        positive = red.startswith("positive")
        mend = "mend the attack or lower its required_score" if positive else "it finds what is not there"
        yield f"{red}: {mend}."
