"""What a process needs for the same numbers on any number of cores: one thread each for TensorFlow and for BLAS.

Which thread adds up what depends on how many there are, and so do the last digits of a sum. What remains is the
processor, whose instruction set is recorded with every cell.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.core.errors import UserError

# Of OpenBLAS (NumPy, SciPy), OpenMP (scikit-learn) and MKL, which read them when they are loaded, and of TensorFlow,
# which reads them at its first operation, also where a component imported it.
THREADS = (
    "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
)  # fmt: skip
# From wide to narrow; the kernels that multiply matrices choose the first one that the processor has.
INSTRUCTION_SETS = ("avx512f", "avx2", "avx", "sse4_2", "sve", "asimd")

_tensorflow_came_first = False  # it may have read other values than those of `prepare`


def prepare() -> None:
    """Set the environment variables that libraries read when they are first imported.

    One thread, no log messages at start-up, sums in one fixed order, and GPU memory allocated as needed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # changes the last digits of results
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    unset = any(os.environ.get(name) != "1" for name in THREADS)
    global _tensorflow_came_first
    _tensorflow_came_first |= unset and "tensorflow" in sys.modules
    os.environ.update(dict.fromkeys(THREADS, "1"))
    if unset and "numpy" in sys.modules:
        import threadpoolctl

        threadpoolctl.threadpool_limits(1)


def configure(tensorflow: Any) -> None:
    """Make TensorFlow use one thread and deterministic operations.

    Raises UserError where TensorFlow already runs with other threads, which it does not change any more.
    """
    threading = tensorflow.config.threading
    try:
        threading.set_intra_op_parallelism_threads(1)
        threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:  # it runs; if `prepare` came first, with one thread
        if _tensorflow_came_first:
            raise UserError(
                "TensorFlow already runs with another number of threads, and so its numbers would depend on the number "
                "of cores: import bench before the first operation of TensorFlow, or set its threads to 1."
            ) from error
    tensorflow.config.experimental.enable_op_determinism()
    tensorflow.get_logger().setLevel("ERROR")


def instruction_set(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The kind of processor and its widest instruction set that decides last digits: "x86_64 avx512f"."""
    words: set[str] = set()
    with suppress(OSError):
        found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
        words = set(found[1].split()) if found else words
    return " ".join([platform.machine(), *[name for name in INSTRUCTION_SETS if name in words][:1]])
