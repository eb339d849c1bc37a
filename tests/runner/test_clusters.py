"""Workers are started, found and ended: nothing of them is left, whatever happens to the process that started them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import psutil
import pytest
from worker_fixtures import where_am_i

from bench.core.environment import prepare
from bench.core.errors import UserError
from bench.runner import clusters
from bench.runner.clusters import check, connected
from bench.runner.request import Workers

pytestmark = pytest.mark.usefixtures("cores")

START = 60.0  # seconds that a start may take on a busy machine
CLIENT = '''
"""Starts two workers that both run what does not listen, prints their processes and waits."""
import os, sys, time
from bench.runner.clusters import connected
from bench.runner.request import Workers

if __name__ == "__main__":
    with connected(Workers(2), 2, preload=None) as client:
        tasks = [client.submit(time.sleep, 1000, pure=False) for _ in range(2)]
        while sum(map(len, client.processing().values())) < 2:
            time.sleep(0.05)
        print(*client.run(os.getpid).values(), flush=True)
        if "fails" in sys.argv:
            raise LookupError("what the caller does failed")
        time.sleep(1000)
'''


def started(tmp_path: Path, *words: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A client as a process and a process group of its own, and its workers."""
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    client = subprocess.Popen(
        [sys.executable, str(script), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert client.stdout is not None
    return client, [psutil.Process(int(word)) for word in client.stdout.readline().split()]


def ended(processes: list[psutil.Process], seconds: float) -> bool:
    """Whether all are gone in that time; a zombie that nobody waits for is gone, too."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_no_signal_leaves_a_worker_behind(tmp_path: Path, scratch: Path, number: signal.Signals) -> None:
    client, workers = started(tmp_path)
    try:
        assert len(workers) == 2
        if number is signal.SIGINT:
            os.killpg(client.pid, number)  # a terminal sends Ctrl-C to all of them
        else:
            client.send_signal(number)
        err = client.communicate(timeout=5)[1]
        assert ended(workers, 1)
    finally:
        client.kill()
        for worker in workers:
            if worker.is_running():
                worker.kill()
    if number is not signal.SIGKILL:
        assert list(scratch.iterdir()) == []
    assert client.returncode == {"SIGINT": -2, "SIGTERM": 143, "SIGKILL": -9}[number.name]
    assert err.count("Traceback") == (number is signal.SIGINT), err
    assert "distributed" not in err.replace("site-packages/distributed", ""), err


def test_an_error_of_the_caller_ends_the_workers_and_leaves_no_folder(tmp_path: Path, scratch: Path) -> None:
    client, workers = started(tmp_path, "fails")
    err = client.communicate(timeout=10)[1]
    assert len(workers) == 2
    assert ended(workers, 1)
    assert list(scratch.iterdir()) == []
    assert err.splitlines()[-1] == "LookupError: what the caller does failed"
    assert err.count("Traceback") == 1, err


def test_ctrl_c_while_workers_start_leaves_nothing(tmp_path: Path, scratch: Path) -> None:
    """The longest part of a start is what each worker loads."""
    (tmp_path / "slow.py").write_text("import time\ndef dask_setup(worker):\n    time.sleep(1000)\n")
    script = tmp_path / "client.py"
    script.write_text(CLIENT.replace("preload=None", "preload=sys.argv[1]"))
    client = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "slow.py")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    children: list[psutil.Process] = []
    end = time.monotonic() + START
    while len(children) < 2 and time.monotonic() < end:
        time.sleep(0.1)
        every = psutil.Process(client.pid).children(recursive=True)
        children = [child for child in every if "spawn_main" in " ".join(child.cmdline())]
    assert len(children) == 2
    time.sleep(1)
    os.killpg(client.pid, signal.SIGINT)
    err = client.communicate(timeout=5)[1]
    assert ended(children, 0.1)
    assert list(scratch.iterdir()) == []
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert err.count("Traceback") == 1, err


def test_workers_are_processes_of_one_thread_that_listen_on_this_machine_alone(
    scratch: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = dict(os.environ)
    with connected(Workers(2), 5, preload=None) as client:
        found = client.scheduler_info()["workers"]
        pids = {pid for pid, *_ in client.run(where_am_i).values()}
        sockets = [
            connection.laddr.ip
            for pid in (os.getpid(), *pids)
            for connection in psutil.Process(pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert [worker["nthreads"] for worker in found.values()] == [1, 1]
        assert [worker["memory_limit"] for worker in found.values()] == [0, 0]
        assert all(worker["local_directory"].startswith(str(scratch)) for worker in found.values())
        assert len(pids - {os.getpid()}) == 2
        assert {threads for *_, threads in client.run(where_am_i).values()} == {"1"}
    assert set(sockets) == {"127.0.0.1"}
    assert os.environ == environment
    assert list(scratch.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_killed_worker_comes_back_in_silence(scratch: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with connected(Workers(1), 5, preload=None) as client:
        [before] = client.run(os.getpid).values()
        os.kill(before, signal.SIGKILL)
        end = time.monotonic() + START
        while time.monotonic() < end and before in (
            after := [*client.run(os.getpid, on_error="ignore").values()] or [before]
        ):
            time.sleep(0.1)
        assert len(after) == 1
        assert after != [before]
    assert ended([psutil.Process(pid) for pid in after if psutil.pid_exists(pid)], 0.1)
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_is_not_started_again_is_replaced(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask gives a lost worker up, with whatever would start it, after a while that a slow start can exceed."""
    monkeypatch.setattr(clusters, "LOST", 0.01)
    monkeypatch.setattr(clusters, "REPLACING", 0.2)
    with connected(Workers(1), 1, preload=None) as client:
        for _ in range(2):
            before = client.submit(os.getpid, pure=False).result(START)
            with suppress(ProcessLookupError):  # Dask may have ended it since
                os.kill(before, signal.SIGKILL)
            assert client.submit(os.getpid, pure=False).result(START) != before


def test_loggers_are_as_they_were(scratch: Path) -> None:
    import distributed  # noqa: F401

    levels = {name: logging.getLogger(name).level for name in ("distributed", "tornado", "asyncio")}
    with connected(Workers(1), 1, preload=None):
        assert logging.getLogger("distributed").level > logging.CRITICAL
    assert {name: logging.getLogger(name).level for name in levels} == levels


def test_a_thread_that_is_not_the_main_one_can_start_and_end_workers(scratch: Path) -> None:
    found = list[int]()

    def start() -> None:
        with connected(Workers(1), 1, preload=None) as client:
            found.extend(client.run(os.getpid).values())

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(START)
    assert len(found) == 1
    assert not psutil.pid_exists(found[0])


def test_a_worker_that_cannot_start_is_one_sentence(
    tmp_path: Path, scratch: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("import os\ndef dask_setup(worker):\n    os._exit(1)\n")
    with (
        pytest.raises(UserError, match="no worker could be started"),
        connected(Workers(1), 1, preload=str(tmp_path / "broken.py")),
    ):
        pass
    assert list(scratch.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_cannot_start_does_not_stop_the_others(
    tmp_path: Path, scratch: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import os\ndef dask_setup(worker):\n    if worker.name == 1:\n        os._exit(1)\n"
    (tmp_path / "broken.py").write_text(code)
    with connected(Workers(2), 2, preload=str(tmp_path / "broken.py")) as client:
        assert [worker["name"] for worker in client.scheduler_info()["workers"].values()] == [0]
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("bench: note: 1 of 2 workers did not start: ")
    assert err.count("\n") == 1


def test_the_module_that_is_loaded_first_loads_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called in this process, in which another test may have loaded TensorFlow already."""
    loaded = list[str]()
    monkeypatch.setattr("bench.dp.tensorflow_setup.tensorflow", lambda: loaded.append("tensorflow"))
    import_module(clusters.PRELOAD).dask_setup(None)
    assert loaded == ["tensorflow"]
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH", raising=False)
    prepare()
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


@pytest.mark.parametrize(
    ("workers", "jobs", "number"),
    [(Workers(), 99, 3), (Workers(), 2, 2), (Workers(7), 99, 7), (Workers(7), 4, 4), (Workers(), 0, 1),
     (Workers(cluster="slurm"), 99, 1), (Workers(9, cluster="slurm"), 99, 9)],
)  # fmt: skip
def test_as_many_workers_as_cores_or_as_asked_for_and_no_more_than_jobs(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, jobs: int, number: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5})
    assert clusters.count(workers, jobs) == number


CONTRADICTIONS = {
    Workers(0): "from 1, not 0",
    Workers(-2): "from 1, not -2",
    Workers(scheduler="tcp://a:1", cluster="slurm"): "--scheduler or --cluster",
    Workers(2, scheduler="tcp://a:1"): "--scheduler or --workers",
    Workers(scheduler="a:1"): "as in tcp://HOST:8786",
    Workers(scheduler="tcp://a"): "as in tcp://HOST:8786",
    Workers(scheduler="tcp://:1"): "as in tcp://HOST:8786",
    Workers(scheduler="http://a:1"): "as in tcp://HOST:8786",
    Workers(cluster_options=(("queue", "gpu"),)): "--cluster-option needs --cluster",
    Workers(cluster="slurn"): "did you mean 'slurm'?",
    Workers(cluster="slurm", cluster_options=(("quere", "gpu"),)): "did you mean 'queue'?",
    Workers(cluster="sge", cluster_options=(("account", "me"),)): "no option 'account'",
    Workers(cluster="slurm", cluster_options=(("queue", "a"), ("queue", "b"))): "set twice, to a and b",
    Workers(cluster="slurm", cluster_options=(("cores", "two"),)): "a whole number from 1, not 'two'",
    Workers(cluster="slurm", cluster_options=(("cores", "0"),)): "a whole number from 1, not '0'",
    Workers(cluster="slurm", cluster_options=(("queue", ""),)): "is empty",
    Workers(cluster="lsf", cluster_options=(("use_stdin", "yes"),)): "true or false",
    Workers(cluster="htcondor", cluster_options=(("job_extra_directives", "x"),)): "KEY=VALUE",
}


@pytest.mark.parametrize(("workers", "why"), CONTRADICTIONS.items(), ids=range(len(CONTRADICTIONS)))
def test_what_cannot_be_is_refused_before_anything_starts(workers: Workers, why: str) -> None:
    with pytest.raises(UserError) as caught:
        check(workers)
    assert why in str(caught.value)
    with pytest.raises(UserError), connected(workers, 1):
        pass


def test_what_killed_workers_leave_is_cleared_up_in_silence(tmp_path: Path, scratch: Path) -> None:
    """Python's resource tracker warns of each semaphore of a killed process, when the program ends."""
    leaving = CLIENT.replace(
        'if "fails" in sys.argv:',
        "from multiprocessing import resource_tracker\n"
        "        resource_tracker.register('/of_a_killed_one', 'semaphore')\n"
        "        if True:",
    ).replace('raise LookupError("what the caller does failed")', "sys.exit(0)")
    script = tmp_path / "client.py"
    script.write_text(leaving)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=START)
    assert done.returncode == 0
    assert done.stderr == ""
