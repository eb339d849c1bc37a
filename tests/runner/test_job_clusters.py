"""Jobs of a cluster: their options and scripts, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.runner import clusters, job_clusters
from bench.runner.clusters import connected
from bench.runner.request import Workers

pytestmark = pytest.mark.usefixtures("cores")


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
