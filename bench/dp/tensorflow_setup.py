"""The one way in which this benchmark imports TensorFlow: deterministic, on one thread, and quiet."""

from __future__ import annotations

from typing import Any

from bench.core import environment


def tensorflow() -> Any:
    """TensorFlow as `bench.core.environment.configure` sets it up.

    Its environment is set before the first import, because it decides the last digits of every result.
    """
    environment.prepare()
    import tensorflow as tf

    environment.configure(tf)
    return tf
