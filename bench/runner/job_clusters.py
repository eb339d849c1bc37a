"""Workers as jobs of a cluster: the options of a job, its script, and the cluster that submits it (dask-jobqueue)."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError, suggest

if TYPE_CHECKING:
    from dask_jobqueue.core import Job, JobQueueCluster

    from bench.runner.request import Workers

# The options of every kind of cluster, with the types that dask-jobqueue takes. `list` collects what is repeated.
SHARED: dict[str, type] = {
    "cores": int, "memory": str, "processes": int, "interface": str, "death_timeout": str, "local_directory": str,
    "worker_extra_args": list, "job_extra_directives": list, "job_script_prologue": list, "job_directives_skip": list,
    "log_directory": str, "shebang": str, "python": str, "job_name": str,
}  # fmt: skip
OPTIONS: dict[str, dict[str, type]] = {
    "slurm": SHARED | {"queue": str, "account": str, "walltime": str, "job_cpu": int, "job_mem": str},
    "pbs": SHARED | {"queue": str, "account": str, "resource_spec": str, "walltime": str},
    "sge": SHARED | {"queue": str, "project": str, "resource_spec": str, "walltime": str},
    "lsf": SHARED
    | {"queue": str, "project": str, "ncpus": int, "mem": int, "walltime": str, "lsf_units": str, "use_stdin": bool},
    "htcondor": SHARED
    | {"disk": str, "job_extra_directives": dict, "submit_command_extra": list, "cancel_command_extra": list},
}
CLASSES = {"slurm": "SLURM", "pbs": "PBS", "sge": "SGE", "lsf": "LSF", "htcondor": "HTCondor"}
MEMORY = 4  # GB of a worker
WALLTIME = "04:00:00"
DEFAULTS: dict[str, dict[str, Any]] = {"lsf": {"walltime": "04:00"}, "htcondor": {"disk": "4GB"}}
# A worker that is near its limit of memory would pause, and its group never end: the cluster holds jobs to theirs.
WORKER_ARGUMENTS = ("--no-dashboard", "--memory-limit", "0")
PLACEHOLDER = "tcp://ADDRESS-OF-THE-SCHEDULER"
WORDS = {"true": True, "false": False}


def options(workers: Workers) -> dict[str, Any]:
    """What the user sets for a job, as dask-jobqueue takes it. Raises UserError for what it would not take."""
    cluster = workers.cluster
    if cluster not in OPTIONS:
        raise UserError(f"there is no kind of cluster {cluster!r}: {suggest(str(cluster), OPTIONS)}")
    types, found = OPTIONS[cluster], dict[str, Any]()
    for name, value in workers.cluster_options:
        if name not in types:
            raise UserError(f"a job of {cluster} has no option {name!r}: {suggest(name, types)}")
        if types[name] is list:
            found.setdefault(name, []).append(value)
        elif types[name] is dict:
            key, equals, word = value.partition("=")
            if not (equals and key):
                raise UserError(f"the cluster option {name} is written {name}=KEY=VALUE, not {value!r}.")
            found.setdefault(name, {})[key] = word
        elif name in found:
            raise UserError(f"the cluster option {name} is set twice, to {found[name]} and {value}: remove one.")
        else:
            found[name] = _value(name, value, types[name])
    return found


def _value(name: str, value: str, wanted: type) -> str | int | bool:
    if wanted is bool:
        if value not in WORDS:
            raise UserError(f"the cluster option {name} is true or false, not {value!r}.")
        return WORDS[value]
    if wanted is int:
        if not (value.isdecimal() and value.isascii() and int(value)):
            raise UserError(f"the cluster option {name} is a whole number from 1, not {value!r}.")
        return int(value)
    if not value:
        raise UserError(f"the cluster option {name} is empty: write {name}=VALUE.")
    return value


def settings(workers: Workers, preload: str | None) -> dict[str, Any]:
    """All settings of a job: one core and 4 GB for each of its workers, where the user sets no other."""
    chosen = options(workers)
    processes = chosen.get("processes") or chosen.get("cores", 1)
    arguments = (*WORKER_ARGUMENTS, *(("--preload", preload) if preload else ()), *chosen.pop("worker_extra_args", ()))
    default = {
        "cores": processes,
        "processes": processes,
        "memory": f"{MEMORY * processes}GB",
        "job_name": "bench-worker",
        "worker_extra_args": list(arguments),
    }
    walltime = {"walltime": WALLTIME} if "walltime" in OPTIONS[str(workers.cluster)] else {}
    return {**default, **walltime, **DEFAULTS.get(str(workers.cluster), {}), **chosen}


def _classes(cluster: str) -> tuple[type[JobQueueCluster], type[Job]]:
    """The classes of a cluster and of its jobs. Raises UserError where dask-jobqueue is not installed."""
    try:
        import dask_jobqueue
    except ImportError:
        raise UserError(
            f"--cluster {cluster} needs dask-jobqueue: run `pip install 'dp-generative-bench[cluster]'`."
        ) from None
    found: type[JobQueueCluster] = getattr(dask_jobqueue, f"{CLASSES[cluster]}Cluster")
    return found, found.job_cls


def job_script(workers: Workers, preload: str | None) -> str:
    """The script of one job, with words in place of the scheduler's address. Starts nothing.

    Raises UserError for a value that dask-jobqueue refuses.
    """
    chosen = settings(workers, preload)
    _, job = _classes(str(workers.cluster))
    try:
        script: str = job(PLACEHOLDER, name="bench", **chosen).job_script()
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise UserError(
            f"dask-jobqueue refuses these cluster options ({' '.join(str(error).split())}): correct --cluster-option."
        ) from error
    return script


def cluster(workers: Workers, loop: Any, preload: str | None, kept: Mapping[str, Any]) -> JobQueueCluster:
    """A cluster without a job, its scheduler in this process. Raises UserError where no job can be submitted from here.

    kept: settings of the scheduler.
    """
    job_script(workers, preload)
    found, job = _classes(str(workers.cluster))
    submit = shlex.split(job.submit_command)[0]
    if shutil.which(submit) is None:
        raise UserError(
            f"there is no command {submit!r} here: start --cluster {workers.cluster} where jobs are submitted."
        )
    chosen = settings(workers, preload)
    return found(n_workers=0, loop=loop, scheduler_options=dict(kept), **chosen)
