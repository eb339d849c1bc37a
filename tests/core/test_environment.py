"""One thread for each library that computes, set before any of them starts; the processor's instruction set."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.core import environment
from bench.core.errors import UserError


def threads(first: str) -> set[str]:
    """The numbers of threads of all libraries of a new process that starts with the statement `first`."""
    code = f"{first}; import bench, numpy, scipy.linalg, sklearn.metrics; from threadpoolctl import threadpool_info; "
    code += "print(*{one['num_threads'] for one in threadpool_info()}, len(threadpool_info()))"
    variables = {"PATH": "/usr/bin", "PYTHONPATH": str(Path(__file__).parents[2]), "OPENBLAS_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables)
    *numbers, libraries = done.stdout.split()
    assert int(libraries) >= 2
    return set(numbers)


@pytest.mark.parametrize("first", ["pass", "import numpy"])
def test_every_library_has_one_thread(first: str) -> None:
    assert threads(first) == {"1"}


def test_tensorflow_with_other_threads_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(count: int) -> None:
        raise RuntimeError("cannot be modified after initialization")

    threading = SimpleNamespace(set_intra_op_parallelism_threads=refuse, set_inter_op_parallelism_threads=refuse)
    started: Any = SimpleNamespace(config=SimpleNamespace(threading=threading))
    started.config.experimental = SimpleNamespace(enable_op_determinism=lambda: None)
    started.get_logger = lambda: SimpleNamespace(setLevel=lambda level: None)
    monkeypatch.setattr(environment, "_tensorflow_came_first", True)
    with pytest.raises(UserError, match="TensorFlow already runs with another number of threads"):
        environment.configure(started)
    monkeypatch.setattr(environment, "_tensorflow_came_first", False)
    environment.configure(started)  # a component that imports TensorFlow by itself finds one thread


def test_a_component_that_imports_tensorflow_by_itself_finds_one_thread() -> None:
    """TensorFlow reads these variables at its first operation, which may come before the benchmark's own."""
    code = "import os, bench; print(os.environ['TF_NUM_INTRAOP_THREADS'], os.environ['TF_NUM_INTEROP_THREADS'])"
    variables = {**os.environ, "TF_NUM_INTRAOP_THREADS": "3", "TF_NUM_INTEROP_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables)
    assert done.stdout.split() == ["1", "1"]


@pytest.mark.slow
def test_tensorflow_that_was_started_before_is_refused_and_one_that_was_imported_is_not() -> None:
    code = "import tensorflow as tf; {}; from bench.dp.tensorflow_setup import tensorflow; tensorflow(); print('fine')"
    variables = {name: value for name, value in os.environ.items() if name not in environment.THREADS}
    for first, fine in (("tf.constant(1)", False), ("pass", True), ("import bench; tf.constant(1)", False)):
        command = [sys.executable, "-c", code.format(first)]
        done = subprocess.run(command, capture_output=True, text=True, env=variables)
        assert ("fine" in done.stdout) == fine
        assert fine or "bench.core.errors.UserError: TensorFlow already runs" in done.stderr


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("processor: 0\nflags\t\t: fpu sse4_2 avx avx2 fma\n\nflags\t\t: fpu sse4_2 avx avx2 avx512f", " avx2"),
        ("flags : sse4_2 avx avx2 avx512f avx512_vnni\n", " avx512f"),
        ("Features\t: fp asimd evtstrm\n", " asimd"),
        ("flags : avx2000\nbugs : avx2\n", ""),
        ("", ""),
    ],
)
def test_the_widest_instruction_set_is_named(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert environment.instruction_set(tmp_path / "cpuinfo") == platform.machine() + found
    assert environment.instruction_set(tmp_path / "nowhere") == platform.machine()
