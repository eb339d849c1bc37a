"""Workers are started, found and ended: nothing of them is left, whatever happens to the process that started them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import psutil
import pytest

from bench.core.environment import prepare
from bench.core.errors import UserError
from bench.runner import clusters, gpus, job_clusters
from bench.runner.clusters import check, connected
from bench.runner.request import Workers

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


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, of this process and of those that it starts."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, whatever this machine has, and no number of workers in the environment."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("BENCH_WORKERS")


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


def where_am_i() -> tuple[int, str | None, str | None]:
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")


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
            [before] = client.run(os.getpid).values()
            os.kill(before, signal.SIGKILL)
            end = time.monotonic() + START
            while time.monotonic() < end and before in (client.run(os.getpid, on_error="ignore").values() or [before]):
                time.sleep(0.1)
            assert client.submit(sum, (1, 2)).result(START) == 3


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


# A scheduler that runs already


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


# Job scripts


def given(cluster: str, *options: str) -> Workers:
    return Workers(
        2, cluster=cluster, cluster_options=tuple((o.partition("=")[0], o.partition("=")[2]) for o in options)
    )


def test_a_job_has_one_core_and_four_gigabytes_for_each_worker() -> None:
    script = job_clusters.job_script(given("slurm"), clusters.PRELOAD)
    for line in ("#SBATCH -J bench-worker", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=4G", "#SBATCH -t 04:00:00"):
        assert line in script.splitlines()
    assert f"{sys.executable} -m distributed.cli.dask_worker tcp://ADDRESS-OF-THE-SCHEDULER" in script
    assert "--nthreads 1 " in script
    assert script.strip().endswith(f"--no-dashboard --memory-limit 0 --preload {clusters.PRELOAD}")
    four = job_clusters.job_script(given("slurm", "cores=4"), None)
    assert "#SBATCH --cpus-per-task=4" in four
    assert "#SBATCH --mem=15G" in four  # 16 GB are 15 GiB, rounded up
    assert "--nthreads 1 " in four
    assert "--nworkers 4" in four


def test_options_of_a_job_reach_its_script() -> None:
    script = job_clusters.job_script(
        given("slurm", "queue=gpu", "account=me", "walltime=00:10:00", "memory=8GB",
              "job_extra_directives=--gres=gpu:1",
              "job_extra_directives=--qos=low", "job_script_prologue=module load python", "worker_extra_args=--name x"),
        None,
    )  # fmt: skip
    lines = script.splitlines()
    for line in ("-p gpu", "-A me", "-t 00:10:00", "--mem=8G", "--gres=gpu:1", "--qos=low"):
        assert f"#SBATCH {line}" in lines
    assert "module load python" in lines
    assert script.strip().endswith("--memory-limit 0 --name x")
    assert "#PBS -q gpu" in job_clusters.job_script(given("pbs", "queue=gpu"), None)
    assert "#$ -q gpu" in job_clusters.job_script(given("sge", "queue=gpu"), None)
    assert "#BSUB -W 04:00" in job_clusters.job_script(given("lsf"), None)
    assert "rank = KFlops" in job_clusters.job_script(given("htcondor", "job_extra_directives=rank=KFlops"), None)


@pytest.mark.parametrize("cluster", job_clusters.OPTIONS)
def test_every_option_is_one_of_dask_jobqueue(cluster: str) -> None:
    """By the signatures of its classes, whose options all are keywords."""
    import inspect

    _, job = job_clusters._classes(cluster)
    known = {
        name for one in job.__mro__ if "__init__" in vars(one) for name in inspect.signature(one.__init__).parameters
    }
    assert set(job_clusters.OPTIONS[cluster]) <= known


def test_what_dask_jobqueue_refuses_is_one_sentence() -> None:
    with pytest.raises(UserError, match="refuses these cluster options") as caught:
        job_clusters.job_script(given("slurm", "memory=much"), None)
    assert "\n" not in str(caught.value)


def test_where_no_job_can_be_submitted_that_is_one_sentence(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(scratch))
    with pytest.raises(UserError, match="there is no command 'qsub' here"), connected(given("pbs"), 1):
        pass
    assert list(scratch.iterdir()) == []


def test_what_the_queue_refuses_is_one_sentence(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    refusing = tmp_path / "sbatch"
    refusing.write_text("#!/bin/sh\necho no such partition >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with (
        pytest.raises(UserError, match=r"no worker could be started: .*no such partition") as caught,
        connected(given("slurm"), 1),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert list(scratch.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_without_dask_jobqueue_a_cluster_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(UserError, match=r"pip install 'dp-generative-bench\[cluster\]'"):
        job_clusters.job_script(given("slurm"), None)


# GPUs

LISTING = """\
GPU 0: NVIDIA H200 (UUID: GPU-5f1b2c3d-0000-1111-2222-333344445555)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaaaaaa-0000-1111-2222-333344445555)
  MIG 3g.20gb     Device  0: (UUID: MIG-11111111-0000-1111-2222-333344445555)
  MIG 3g.20gb     Device  1: (UUID: MIG-22222222-0000-1111-2222-333344445555)
"""


def test_devices_are_listed_with_the_parts_of_a_divided_one() -> None:
    assert gpus.listed(LISTING) == (
        "GPU-5f1b2c3d-0000-1111-2222-333344445555",
        "MIG-11111111-0000-1111-2222-333344445555",
        "MIG-22222222-0000-1111-2222-333344445555",
    )
    assert gpus.listed("No devices found.\n") == ()


@pytest.mark.parametrize(
    ("stated", "devices"),
    [("", ()), ("-1", ()), ("0", ("0",)), ("2, 0", ("2", "0")), ("0,-1,1", ("0",)), ("0,1,1", ("0", "1")),
     ("GPU-5f1b,MIG-11/1/0", ("GPU-5f1b", "MIG-11/1/0")), ("NoDevFiles", ())],
)  # fmt: skip
def test_the_variable_of_cuda_decides(monkeypatch: pytest.MonkeyPatch, stated: str, devices: tuple[str, ...]) -> None:
    monkeypatch.setattr(gpus, "LISTING", ("echo", LISTING))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", stated)
    assert gpus.available() == devices


def test_without_the_variable_the_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(gpus, "LISTING", ("echo", LISTING))
    assert len(gpus.available()) == 3
    for command in (("false",), ("/no/such/program",)):
        monkeypatch.setattr(gpus, "LISTING", command)
        assert gpus.available() == ()


def test_each_gpu_has_one_worker_and_each_worker_one_gpu(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    with connected(Workers(), 99, preload=None) as client:
        assert sorted(device or "" for _, device, _ in client.run(where_am_i).values()) == ["1", "3"]
        assert [one["resources"] for one in client.scheduler_info()["workers"].values()] == [{"GPU": 1}] * 2
        assert client.submit(sum, (1, 2), resources={"GPU": 1}).result(START) == 3
    with pytest.raises(UserError, match="one GPU, and 2 are visible"):
        check(Workers(3))
    check(Workers(2))
    check(Workers(3, cluster="slurm"))
