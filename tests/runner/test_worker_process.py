"""A process that measures keeps the memory that it frees, and nothing interrupts its work."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bench.runner import memory, worker
from bench.runner.clusters import connected
from bench.runner.request import Workers

# Faults of pages while 24 arrays of 1 MiB are made and freed 50 times: 6,144 pages each time, where none is kept.
FAULTS = """
import ctypes, resource, sys
import numpy as np
from bench.runner import memory
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no huge pages, of which a machine may use fewer
if "keep" in sys.argv:
    memory.keep_freed()
for repeat in range(52):
    if repeat == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [np.ones(1 << 17) for _ in range(24)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*words: str) -> int:
    ended = subprocess.run([sys.executable, "-c", FAULTS, *words], capture_output=True, text=True, check=True)
    return int(ended.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what glibc does")
def test_freed_arrays_are_not_mapped_again() -> None:
    assert faults("keep") < 10_000
    assert faults() > 200_000, "the counterpart: without it they are"


def test_a_c_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.keep_freed()


def profiled(dask_worker: Any) -> list[bool]:
    return [dask_worker.periodic_callbacks[name].is_running() for name in ("profile", "profile-cycle")]


@pytest.mark.usefixtures("cores", "scratch")
def test_a_prepared_worker_stops_the_profiler_of_dask() -> None:
    settings = json.dumps({"machine": "", "code": "", "offline": True, "weights": None, "data": None})
    with connected(Workers(1), 1, preload=None) as client:
        assert [*client.run(profiled).values()] == [[True, True]]
        client.submit(worker.prepare, "run", settings, {}, {}).result(60)
        assert [*client.run(profiled).values()] == [[False, False]]
