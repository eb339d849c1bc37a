"""What a worker of the engine runs: it is prepared once per run, then asked for one message of a job after the other.

The client calls these functions by name, with JSON and bytes alone (`bench.runner.pool`).
"""

from __future__ import annotations

import contextvars
import functools
import gc
import hashlib
import importlib
import json
import os
import platform
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.dataset import DataLocation
from bench.core.source_code import BENCH
from bench.dp.weights_cache import WeightsCache
from bench.runner import garbage, memory
from bench.runner.group import Tools
from bench.runner.messages import Failed, Message, Wire, failed, pack
from bench.runner.registry import Registry, discover
from bench.store.freshness import versions

if TYPE_CHECKING:
    from bench.runner.job import Job

# The jobs that a worker can run, by their `kind`: module and class.
JOBS = {
    "group": "bench.runner.group:Group",
    "controls": "bench.runner.control_job:Controls",
    "audit": "bench.audit.job:Audit",
}
PROGRESS = "bench-progress"  # the topic of what a worker does now
INTERVAL = 1.0  # seconds between two of its events


class Gone(Exception):
    """The worker does not know the job: it was started again since."""


@dataclass
class _Run:
    """What a worker keeps of one run: its components, its tools, and the job that it is in the midst of."""

    registry: Registry
    tools: Tools
    folder: Path
    left_out: frozenset[tuple[Any, ...]] = frozenset()
    key: str = ""
    messages: Iterator[Message] | None = None
    context: contextvars.Context | None = None
    job: Job | None = None


_runs: dict[str, _Run] = {}


def identity() -> dict[str, str]:
    """What must be the same on the client and its workers: code, Python and packages, each by name."""
    return dict(_identity())


@functools.cache
def _identity() -> Mapping[str, str]:
    root = BENCH.parent
    files = [path for folder in ("bench", "defenses", "attacks") for path in (root / folder).rglob("*.py")]
    code = {
        path.relative_to(root).as_posix(): hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        for path in sorted(files)
    }
    python = {"Python": platform.python_version()}
    return {**python, **versions(), "distributed": version("distributed"), **code}


def difference(client: Mapping[str, str], worker: Mapping[str, str]) -> str | None:
    """In words, the first thing in which a worker's `identity` differs from the client's; None where they are one."""
    for name in sorted(client.keys() | worker.keys()):
        here, there = client.get(name), worker.get(name)
        if here != there:
            if name.endswith(".py"):
                return f"its {name} is another one" if here and there else f"only one of the two has {name}"
            return f"it has {name} {there}, the client {here}"
    return None


def prepare(run: str, settings: str, plugins: Mapping[str, bytes], files: Mapping[str, bytes]) -> str:
    """Get ready for a run: write the plugins and the user's files, load the components; the identity, as JSON.

    settings: JSON of `machine`, `code`, `offline`, and, of workers on the client's machine, `weights` and `data`, the
    folders of weights and of official files. Others keep weights in a folder of the worker and find official files by
    $BENCH_DATA_DIR.
    """
    given = json.loads(settings)
    local_folder = _local_folder()
    if local_folder:
        gc.disable()  # for as long as the process lives: Dask's threads are always there (`bench.runner.garbage`)
        memory.keep_freed()
        _stop_profiler()
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=local_folder))
    for name, data in {**plugins, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    official = given["data"] if given["weights"] else os.environ.get("BENCH_DATA_DIR")
    tools = Tools(
        where=DataLocation(Path(official) if official else None, given["offline"]),
        weights=WeightsCache(Path(given["weights"]) if given["weights"] else folder / "fits"),
        machine=given["machine"],
        code=given["code"],
        on_progress=_progress(run),
        may_start=lambda name: name not in _runs[run].left_out,
    )
    _runs.clear()  # a client that is gone left them
    _runs[run] = _Run(discover([folder / name for name in plugins]), tools, folder)
    return json.dumps(identity())


def advance(run: str, key: str, job: str | None, left_out: str) -> Wire | None:
    """The next message of a job, None at its end. job: its kind and specification as JSON, in the first call only.

    left_out: JSON of the names for which there is no time any more. Raises Gone where the job is unknown.
    """
    state = _runs.get(run)
    if state is None or (job is None and state.key != key):
        raise Gone
    state.left_out = frozenset(map(tuple, json.loads(left_out)))
    if job is not None:
        state.key, state.messages, state.job = key, None, None
    try:
        if job is not None:
            _begin(state, json.loads(job))
        assert state.messages
        assert state.context
        garbage.collect()
        # A context of its own: the calls come in different threads.
        message = state.context.run(next, state.messages, None)
        return None if message is None else pack(message)
    except Exception as error:  # noqa: BLE001 - it fails the rest of its job, wherever it comes from
        return pack(_failure(state, json.loads(job) if job else {}, error))


def _begin(state: _Run, job: Mapping[str, Any]) -> None:
    module, _, name = JOBS[job["kind"]].partition(":")
    kind = getattr(importlib.import_module(module), name)
    state.job = kind.from_spec(job["spec"], state.registry, state.folder)
    state.context = contextvars.copy_context()
    state.messages = state.job.messages(state.tools)


def _failure(state: _Run, job: Mapping[str, Any], error: Exception) -> Failed:
    state.messages = iter(())
    state.context = contextvars.copy_context()
    names = tuple(tuple(name) for name in job.get("names", ())) or (state.job.names if state.job else ())
    last = traceback.extract_tb(error.__traceback__)[-1]
    return failed(names, f"the worker failed in {Path(last.filename).name}, line {last.lineno}", error)


def _local_folder() -> str | None:
    """The folder that the worker may fill and that goes with it; None where this process is no worker."""
    from distributed import get_worker

    try:
        return str(get_worker().local_directory)
    except ValueError:
        return None


def _stop_profiler() -> None:
    """Stop Dask's profiler, which interrupts the thread that works 100 times a second."""
    from distributed import get_worker

    worker = get_worker()
    for name in ("profile", "profile-cycle"):
        if callback := worker.periodic_callbacks.get(name):
            worker.loop.add_callback(callback.stop)


def _progress(run: str) -> Callable[[str], None]:
    """Tells the client what is being done, now and then."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return lambda what: None
    told = [float("-inf")]

    def on_progress(what: str) -> None:
        if time.monotonic() - told[0] >= INTERVAL:
            told[0] = time.monotonic()
            worker.log_event(f"{PROGRESS}-{run}", {"worker": worker.address, "what": what})

    return on_progress
