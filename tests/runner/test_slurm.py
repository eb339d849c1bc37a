"""Workers as jobs of a real batch system: a SLURM that runs on this machine alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from boards import cells, stored
from private_slurm import missing, private_slurm

from bench.core.errors import UserError
from bench.runner.clusters import connected
from bench.runner.request import Workers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"a private SLURM needs {missing()}"),
]
START = 90.0  # seconds that workers may take to come


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with private_slurm(tmp_path_factory.mktemp("slurm")) as path:
        yield path


@pytest.fixture(autouse=True)
def slurm(configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find it; what jobs print is written to an empty folder."""
    monkeypatch.setenv("SLURM_CONF", str(configuration))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))


def queue() -> list[str]:
    """The jobs that wait or run."""
    done = subprocess.run(
        ["squeue", "--noheader", "--format=%i"], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.split()


def emptied(seconds: float) -> bool:
    end = time.monotonic() + seconds
    while queue() and time.monotonic() < end:
        time.sleep(0.2)
    return not queue()


def test_jobs_are_workers_and_end_with_the_block() -> None:
    with connected(Workers(2, cluster="slurm"), 2, preload=None) as client:
        client.wait_for_workers(2, START)
        assert len(queue()) == 2
        assert client.submit(sum, (1, 2)).result(START) == 3
        found = client.scheduler_info()["workers"].values()
        assert [(worker["nthreads"], worker["memory_limit"]) for worker in found] == [(1, 0), (1, 0)]
        assert len(set(client.run(os.getenv, "SLURM_JOB_ID").values())) == 2
        processes = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
        busy = [client.submit(time.sleep, 1000, pure=False) for _ in range(2)]
        time.sleep(0.5)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert emptied(5)
    assert not any(process.is_running() for process in processes)
    del busy


def test_no_more_jobs_than_groups_and_several_workers_in_a_job() -> None:
    with connected(Workers(9, cluster="slurm", cluster_options=(("cores", "2"),)), 3, preload=None) as client:
        client.wait_for_workers(4, START)
        assert len(queue()) == 2
        assert len(set(client.run(os.getpid).values())) == 4
    assert emptied(5)


def test_a_job_that_is_cancelled_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.runner.clusters.REPLACING", 0.5)
    monkeypatch.setattr("bench.runner.clusters.LOST", 1)
    with connected(Workers(1, cluster="slurm"), 1, preload=None) as client:
        client.wait_for_workers(1, START)
        [before] = queue()
        subprocess.run(["scancel", before], check=True, timeout=30)
        end = time.monotonic() + START
        while before in queue() or not queue():
            assert time.monotonic() < end
            time.sleep(0.2)
        client.wait_for_workers(1, START)
        assert client.submit(sum, (1, 2)).result(START) == 3
    assert emptied(5)


def test_an_option_that_slurm_refuses_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    options = (("queue", "nowhere"),)
    with (
        pytest.raises(UserError, match=r"no worker could be started: .*invalid partition") as caught,
        connected(Workers(1, cluster="slurm", cluster_options=options), 1),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert queue() == []
    assert capfd.readouterr() == ("", "")


CLIENT = """
import time
from bench.runner.clusters import connected
from bench.runner.request import Workers

with connected(Workers(2, cluster="slurm"), 2, preload=None) as client:
    client.wait_for_workers(2, 90)
    tasks = [client.submit(time.sleep, 1000, pure=False) for _ in range(2)]
    print("ready", flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_no_signal_leaves_a_job_behind(number: signal.Signals) -> None:
    """Nobody cancels the jobs of a client that was killed: their workers find that its scheduler is gone."""
    client = subprocess.Popen([sys.executable, "-c", CLIENT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        assert len(queue()) == 2
        client.send_signal(number)
        client.wait(5)
        assert emptied(5 if number is not signal.SIGKILL else 60)
    finally:
        client.kill()
        client.communicate()


BOARD = (
    "--defense=none,steps=200 --defense=top1,steps=200 --attack=confidence --attack=entropy --seeds=0-2 --no-reference"
)
PROGRAM = (sys.executable, "-m", "bench", "run", *BOARD.split())


def test_a_board_of_12_cells_is_the_inline_one_though_a_job_is_killed(tmp_path: Path) -> None:
    subprocess.run([*PROGRAM, "--results=inline", "--workers=1"], check=True, capture_output=True)
    run = subprocess.Popen(
        [*PROGRAM, "--results=jobs", "--workers=2", "--cluster=slurm"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while stored(tmp_path / "jobs") < 2:
            assert run.poll() is None, run.communicate()[1]
            time.sleep(0.05)
        jobs = queue()
        subprocess.run(["scancel", "--signal=KILL", "--full", jobs[0]], check=True, timeout=30)
        err = run.communicate(timeout=500)[1]
    finally:
        run.kill()
        run.communicate()
    assert run.returncode == 0, err
    assert stored(tmp_path / "jobs") == stored(tmp_path / "inline") == 12
    assert cells(tmp_path / "jobs") == cells(tmp_path / "inline")
    assert "Traceback" not in err
    assert emptied(10)
