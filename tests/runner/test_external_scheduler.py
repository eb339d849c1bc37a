"""A Dask scheduler that runs already: its workers are used and kept."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.runner import clusters
from bench.runner.clusters import connected
from bench.runner.request import Workers

pytestmark = pytest.mark.usefixtures("cores")

START = 60.0  # seconds that a start may take on a busy machine


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """The address of `dask scheduler` with one worker."""
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    file = tmp_path / "scheduler.json"
    log = (tmp_path / "log").open("w")
    one = subprocess.Popen(
        [*command, "--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)],
        stdout=log, stderr=log,
    )  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--no-nanny",
         "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)],
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        end = time.monotonic() + START
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.1)
        import json

        yield json.loads(file.read_text())["address"]
    finally:
        for process in (worker, one):
            process.kill()
            process.wait()
        log.close()


def test_a_scheduler_that_runs_already_keeps_its_workers(scheduler: str, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with connected(Workers(scheduler=scheduler), 5) as client:
            client.wait_for_workers(1, START)
            assert client.submit(sum, (1, 2)).result() == 3
    assert capfd.readouterr() == ("", "")


def test_a_scheduler_that_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clusters, "CONNECTING", 1.0)
    with (
        pytest.raises(UserError, match=r"the scheduler tcp://127.0.0.1:9 cannot be reached: start it"),
        connected(Workers(scheduler="tcp://127.0.0.1:9"), 5),
    ):
        pass
    assert capfd.readouterr() == ("", "")
