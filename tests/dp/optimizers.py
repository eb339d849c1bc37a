"""DP optimizers and losses for the tests of the optimizer."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bench.dp.optimizer import PoissonDPSGD


def dp_optimizer(kind: Any = PoissonDPSGD, **changed: Any) -> Any:
    options = {"l2_norm_clip": 1.0, "noise_multiplier": 0.0, "batch_size": 1.0, "noise_keys": [12]}
    return kind(**{**options, "learning_rate": 1.0, **changed})


def vector_loss(w: Any) -> Any:
    return tf.linalg.matvec(tf.constant([[1.0, 2.0], [3.0, 1.0], [0.5, 0.0], [0.0, -4.0]]), w)
