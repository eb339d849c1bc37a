"""A board is the same wherever it is measured, and whatever happens to those who measure it."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import boards
import pytest
from boards import board, cells

from bench.cli.main import main
from bench.dp import train
from bench.runner import clusters, engine
from bench.runner.clusters import connected

SEED = 19


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers load no TensorFlow; they start however short the board is; no GPU."""
    monkeypatch.setattr(train, "device", lambda: "CPU")  # or what the plugin sets would stay
    monkeypatch.setattr(clusters, "connected", partial(connected, preload=None))
    monkeypatch.setattr(engine, "STARTING", 0.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_a_board_is_the_same_on_one_two_and_external_workers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plugin, log = boards.write_plugin(tmp_path)
    assert main(board(plugin, tmp_path / "one", "--workers=1")) == 0
    assert {line.split()[0] for line in log.read_text().splitlines()} == {str(os.getpid())}
    expected = cells(tmp_path / "one")
    assert len([name for name in expected if name.endswith(".json")]) == 12
    assert len([name for name in expected if name.endswith(".npz")]) == 12
    log.unlink()
    assert main(board(plugin, tmp_path / "two", "--workers=2")) == 0
    assert cells(tmp_path / "two") == expected
    pids = {line.split()[0] for line in log.read_text().splitlines()}
    assert len(pids - {str(os.getpid())}) == len(pids) == 2
    log.unlink()
    with boards.dask_cluster(tmp_path / "dask", 2) as (address, _):
        assert main(board(plugin, tmp_path / "external", f"--scheduler={address}")) == 0
        pids = {line.split()[0] for line in log.read_text().splitlines()}
        assert len(pids - {str(os.getpid())}) == len(pids) > 0
    assert cells(tmp_path / "external") == expected
    assert set(boards.begun(log).values()) == {1}
    err = capfd.readouterr().err
    assert "Traceback" not in err
    assert "distributed" not in err


class Killer(threading.Thread):
    """Kills busy workers at random, but none whose group was killed twice: after a third time it is given up."""

    def __init__(self, log: Path, kills: int) -> None:
        super().__init__(daemon=True)
        self.log, self.kills, self.random = log, kills, random.Random(SEED)
        self.killed: Counter[str] = Counter()  # by training: what each worker had begun last
        self.others = set(multiprocessing.active_children())

    def run(self) -> None:
        while self.killed.total() < self.kills:
            time.sleep(self.random.uniform(0.1, 0.5))
            workers = set(multiprocessing.active_children()) - self.others
            if busy := sorted(worker.pid for worker in workers if worker.pid and self._training(worker.pid)):
                self._kill(self.random.choice(busy))

    def _kill(self, worker: int) -> None:
        """Stop it first, so that what it is at cannot change between our look and its end."""
        with suppress(ProcessLookupError):  # the board has ended
            os.kill(worker, signal.SIGSTOP)
            training = self._training(worker)
            if training is None or self.killed[training] == 2:
                os.kill(worker, signal.SIGCONT)
            else:
                self.killed[training] += 1
                os.kill(worker, signal.SIGKILL)

    def _training(self, worker: int) -> str | None:
        """What a worker trained and attacks now; None from its last attack on: what comes next is not logged yet."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        begun = [line.split(" ", 1)[1] for line in lines if line.startswith(f"{worker} ")]
        if not begun or begun[-1].startswith("smallest"):
            return None
        return [words for words in begun if words.startswith("says")][-1]


@pytest.mark.parametrize(
    ("kills", "seeds"), [(10, "0-29"), pytest.param(100, "0-299", marks=pytest.mark.slow)], ids=("10", "100")
)
def test_kills_lose_no_cell_and_repeat_none_but_those_of_the_killed_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kills: int, seeds: str
) -> None:
    plugin, log = boards.write_plugin(tmp_path)
    assert main(board(plugin, tmp_path / "inline", "--workers=1", seeds=seeds)) == 0
    once = boards.begun(log)
    log.unlink()
    monkeypatch.setenv("PAUSE", "0.1")
    killer = Killer(log, kills)
    killer.start()
    assert main(board(plugin, tmp_path / "killed", "--workers=2", seeds=seeds)) == 0
    killer.join(1)
    assert killer.killed.total() >= kills / 2, "the board ended before"
    assert cells(tmp_path / "killed") == cells(tmp_path / "inline")
    again = boards.begun(log)
    assert again.keys() == once.keys()
    assert once.keys() >= killer.killed.keys()
    trained = {name: count for name, count in again.items() if name.startswith("says")}
    assert all(count <= 1 + killer.killed[name] for name, count in trained.items())
    assert (again - once).total() <= 3 * killer.killed.total()  # a group has one training and two attacks
    err = capfd.readouterr().err
    assert "Traceback" not in err
    assert "failed" not in err


def test_a_lost_scheduler_is_one_sentence_and_the_same_command_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plugin, log = boards.write_plugin(tmp_path)
    assert main(board(plugin, tmp_path / "inline", "--workers=1")) == 0
    log.unlink()
    monkeypatch.setenv("PAUSE", "0.2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = board(plugin, tmp_path / "lost", f"--scheduler=tcp://127.0.0.1:{port}")
    with boards.dask_cluster(tmp_path / "first", 1, port) as (_, scheduler):

        def lose() -> None:
            while boards.stored(tmp_path / "lost") < 4:
                time.sleep(0.05)
            scheduler.kill()

        threading.Thread(target=lose, daemon=True).start()
        capfd.readouterr()
        assert main(command) == 2
    sentences = [line for line in capfd.readouterr().err.splitlines() if line.startswith("bench: ")]
    assert len(sentences) == 1, sentences
    assert "the scheduler no longer answers" in sentences[0]
    kept = cells(tmp_path / "lost")
    assert 4 <= boards.stored(tmp_path / "lost") < 12
    before = boards.begun(log)
    with boards.dask_cluster(tmp_path / "second", 1, port):
        assert main(command) == 0
    assert cells(tmp_path / "lost") == cells(tmp_path / "inline")
    assert kept.items() <= cells(tmp_path / "lost").items()
    assert (boards.begun(log) - before).total() < boards.begun(log).total()
