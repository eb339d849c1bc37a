"""Runs on several workers give what a run in one process gives, whatever happens to the workers."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_runs import DATA, PLUGIN, Run, names, numbers

from bench.cli.main import main
from bench.core import progress
from bench.core.dataset import DataLocation
from bench.core.errors import UserError
from bench.dp.weights_cache import WeightsCache
from bench.runner import clusters, engine, worker
from bench.runner.cell import Cell, playable
from bench.runner.control_job import Controls
from bench.runner.group import Group, Tools
from bench.runner.job import Job
from bench.runner.messages import Finished, Message, unpack
from bench.runner.registry import discover
from bench.runner.request import Grid, Workers
from bench.runner.selection import choose
from bench.store.store import Store

KILLER = '''

@attack("killer", game=QUICK, needs={"predict"})
def killer(release, targets, public, *, seed, times=1):
    """Kills the process that plays it, the first times that it is played."""
    import os
    from pathlib import Path

    marks = Path(r"FOLDER")
    if len(list(marks.iterdir())) < times:
        (marks / str(os.getpid())).touch()
        os.kill(os.getpid(), 9)
    return honest(release, targets, public, seed=seed)
'''


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, which need not load TensorFlow for toy components."""
    monkeypatch.setenv("BENCH_WORKERS", "2")
    monkeypatch.setattr(engine, "STARTING", 0.0)
    monkeypatch.setattr(clusters, "connected", partial(clusters.connected, preload=None))


def bare(folder: Path) -> dict[Path, Any]:
    """Each cell without what tells where and when it was measured."""
    found = {}
    for path in folder.rglob("*.json"):
        if path.stem.isdigit() and ".local" not in path.parts:
            record = json.loads(path.read_text())
            found[path.relative_to(folder)] = {
                name: value
                for name, value in record.items()
                if name not in ("machine", "seconds", "peak_memory_mib", "seal")
            }
    return found


def test_two_workers_measure_what_one_process_does(
    run: Run, tmp_path: Path, two_workers: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a plugin and a data file of the user, which reach the workers by content, and a cell that fails."""
    rng = np.random.default_rng(0)
    file = tmp_path / "mine.npz"
    np.savez(
        file, x=rng.random((200, 64)).astype(np.float32), y=np.arange(200) % 10, low=np.zeros(64), high=np.ones(64)
    )
    words = ("says", "constant", "against", "honest", "doubtful", "broken")
    again = tmp_path / "inline"
    more = ("--data", str(file), "--no-reference")
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    assert run(*words, seeds="0-1", more=more) == 1
    err = capsys.readouterr().err
    assert "broken/0 and 7 more: the attack failed, RuntimeError: out of luck" in err
    assert re.search(r"127\.0\.0\.1:\d+: ", err), "a line for each worker"
    monkeypatch.setenv("BENCH_WORKERS", "1")
    assert run(*words, seeds="0-1", more=more, folder=again) == 1
    found = bare(tmp_path / "results")
    assert len(found) == 16
    assert found == bare(again)
    for cell in Store(again).results():
        place = cell.data, cell.defense, cell.attack, cell.seed
        answers = [Store(folder).load_answers(place) for folder in (tmp_path / "results", again)]
        assert answers[0]
        assert answers[1]
        assert answers[0].keys() == answers[1].keys()
        for name, array in answers[0].items():
            np.testing.assert_array_equal(array, answers[1][name])


@pytest.mark.parametrize(("times", "code"), [(1, 0), (99, 1)])
def test_a_killed_worker_costs_no_cell(
    run: Run,
    results: Path,
    tmp_path: Path,
    two_workers: None,
    capsys: pytest.CaptureFixture[str],
    times: int,
    code: int,
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    plugin = tmp_path / "killing.py"
    plugin.write_text(PLUGIN + KILLER.replace("FOLDER", str(marks)))
    words = ("says", "constant", "against", "honest", f"killer,times={times}")
    assert (
        run("says", "constant", "against", "honest", code=plugin, more=("--no-reference",), folder=tmp_path / "one")
        == 0
    )
    assert run(*words, code=plugin, more=("--no-reference",)) == code
    assert len(list(marks.iterdir())) == (1 if code == 0 else 6), "three tries of each of two groups"
    measured = {name: number for name, number in numbers(results).items() if name[2] == "honest"}
    assert measured == numbers(tmp_path / "one")
    killed = {defense for defense, attack, _ in names(results) if attack.startswith("killer")}
    assert killed == ({"says", "constant"} if code == 0 else set())
    assert ("killed 3 times" in capsys.readouterr().err) == bool(code)


def test_what_takes_less_than_starting_workers_runs_in_this_process(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_WORKERS", "2")
    assert engine.inline(Workers(), 1, None), "one job"
    assert engine.inline(Workers(1), 9, None)
    assert engine.inline(Workers(4), 9, engine.STARTING - 1)
    assert not engine.inline(Workers(4), 9, engine.STARTING + 1)
    assert not engine.inline(Workers(4), 9, None), "nobody knows how long it takes"
    assert not engine.inline(Workers(scheduler="tcp://there:1"), 1, 0.0), "it was asked for"


def test_the_longest_job_comes_first_and_before_it_unknown_ones_with_the_most_records() -> None:
    registry = discover()
    [data] = choose(registry, "data", "digits")
    [defense], attacks = choose(registry, "defense", "none"), choose(registry, "attack", "membership")[:3]
    counts = (1, 1, 1, 3, 1)
    jobs = [
        Group(tuple(Cell(data, defense, attack, seed) for attack in attacks[:count]))
        for seed, count in enumerate(counts)
    ]
    seconds = dict(zip((job.names for job in jobs), (3.0, None, 9.0, None, 5.0), strict=True))
    ordered = engine.longest_first(jobs, lambda job: seconds[job.names])
    assert [job.names[0][3] for job in ordered] == [3, 1, 2, 4, 0]


def tools(folder: Path) -> Tools:
    return Tools(DataLocation(), WeightsCache(folder), "machine", "code")


def sent(job: Job, folder: Path) -> list[Message]:
    """The messages of a job that a worker was sent, called in this process."""
    settings = {"machine": "machine", "code": "code", "offline": True, "weights": str(folder), "data": None}
    worker.prepare("run", json.dumps(settings), {}, {})
    spec: str | None = json.dumps({"kind": job.kind, "spec": job.spec(), "names": job.names})
    found = []
    while wire := worker.advance("run", "key", spec, "[]"):
        found.append(unpack(wire))
        spec = None
    return found


@pytest.mark.parametrize("label", ["confidence", "lira,shadows=2"])
def test_a_group_is_the_same_from_its_specification(tmp_path: Path, label: str) -> None:
    registry = discover()
    [data] = choose(registry, "data", DATA)
    [defense], [attack] = choose(registry, "defense", "dp_sgd,epsilon=4,steps=3"), choose(registry, "attack", label)
    group = Group(tuple(playable([Grid((defense,), (attack,), (data,), (3,))])))
    here = [message for message in group.messages(tools(tmp_path)) if isinstance(message, Finished)]
    there = [message for message in sent(group, tmp_path / "there") if isinstance(message, Finished)]
    assert len(here) == len(there) == 1
    assert here[0].record.metrics == there[0].record.metrics  # type: ignore[union-attr]
    assert here[0].answers.keys() == there[0].answers.keys() != set()
    for name, array in here[0].answers.items():
        np.testing.assert_array_equal(array, there[0].answers[name])


def test_a_cell_that_would_be_another_one_on_the_worker_is_refused(tmp_path: Path) -> None:
    registry = discover()
    [data] = choose(registry, "data", DATA)
    [defense], [attack] = choose(registry, "defense", "constant"), choose(registry, "attack", "confidence")
    spec = Group(tuple(playable([Grid((defense,), (attack,), (data,), (0,))]))).spec()
    assert Group.from_spec(spec, registry, tmp_path).spec() == spec
    with pytest.raises(ValueError, match="not the same cell on this worker"):
        Group.from_spec({**spec, "digests": ["another"]}, registry, tmp_path)


def test_controls_that_fail_are_named_when_the_others_are_stored(tmp_path: Path) -> None:
    registry = discover()
    [attack] = choose(registry, "attack", "confidence")
    job = Controls(attack, registry)
    assert job.without(frozenset(job.names)) is None
    assert Controls.from_spec(job.spec(), registry, tmp_path).names == job.names


def test_a_worker_that_was_started_again_does_not_know_the_job() -> None:
    worker._runs.clear()
    with pytest.raises(worker.Gone):
        worker.advance("run", "key", None, "[]")


@pytest.mark.parametrize("stated", ["0", "two", "-1"])
def test_a_number_of_workers_in_the_environment_is_checked(monkeypatch: pytest.MonkeyPatch, stated: str) -> None:
    monkeypatch.setenv("BENCH_WORKERS", stated)
    with pytest.raises(UserError, match="BENCH_WORKERS is a whole number from 1"):
        clusters.count(Workers(), 2)


def test_a_scheduler_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["run", "--defense", "constant", "--attack", "confidence", "--results", str(tmp_path / "results")]
    assert main([*words, "--scheduler", "tcp://127.0.0.1:9"]) == 2
    err = capsys.readouterr().err
    assert "the scheduler tcp://127.0.0.1:9 cannot be reached" in err
    assert "Traceback" not in err
