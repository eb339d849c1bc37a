"""The one way in which this benchmark imports TensorFlow: deterministic and quiet."""

from __future__ import annotations

from typing import Any

from bench.core.environment import prepare


def tensorflow() -> Any:
    """TensorFlow with deterministic operations.

    Its environment is set before the first import, because it decides the last digits of every result.
    """
    prepare()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    tf.get_logger().setLevel("ERROR")
    return tf
