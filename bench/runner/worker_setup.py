"""What a worker process does before it takes its first group (Dask's `--preload`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Worker


def dask_setup(worker: Worker) -> None:
    """Load TensorFlow, in each process at the same time, so that the first group does not wait for it."""
    from bench.dp.tensorflow_setup import tensorflow
    from bench.runner import play  # noqa: F401 - it loads the accountant and SciPy

    tensorflow()
