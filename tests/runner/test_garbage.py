"""While jobs run, the thread that works collects garbage, and no other one."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from pathlib import Path

import pytest
from toy_runs import PLUGIN, Run

from bench.runner import clusters, engine, garbage
from bench.store.store import uncollected

SEES = '''

@attack("sees", game=QUICK, needs={"predict"})
def sees(release, targets, public, *, seed):
    """Fails unless the collector is off."""
    import gc

    if gc.isenabled():
        raise RuntimeError("any thread may collect garbage")
    return honest(release, targets, public, seed=seed)
'''


class Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_collector_is_off_while_a_job_runs(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: str
) -> None:
    code = tmp_path / "sees.py"
    code.write_text(PLUGIN + SEES)
    monkeypatch.setenv("BENCH_WORKERS", workers)
    monkeypatch.setattr(engine, "STARTING", 0.0)
    monkeypatch.setattr(clusters, "connected", partial(clusters.connected, preload=None))
    assert run("says", "constant", "against", "sees", code=code, more=("--no-reference",)) == 0
    assert gc.isenabled()


def test_garbage_does_not_pile_up() -> None:
    with uncollected():
        first = Cycle()
        dead = weakref.ref(first)
        del first
        garbage.collect()
        assert dead() is not None, "a little garbage is not worth a collection"
        kept = [Cycle() for _ in range(garbage.MANY + 1)]
        garbage.collect()
        assert dead() is None
        old = weakref.ref(kept[0])
        del kept
        for _ in range(garbage.FULL + 2):
            [Cycle() for _ in range(garbage.MANY + 1)]
            garbage.collect()
        assert old() is None, "what survived a collection is collected later"
    assert gc.isenabled()


def test_nothing_is_collected_by_hand_where_python_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "MANY", -1)
    collected: list[int] = []
    monkeypatch.setattr(gc, "collect", collected.append)
    garbage.collect()
    assert not collected
    with uncollected():
        garbage.collect()
    assert len(collected) == 1
