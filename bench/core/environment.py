"""The environment variables that TensorFlow reads when it is first imported."""

import os


def prepare() -> None:
    """No log messages at start-up, sums in one fixed order, and GPU memory allocated as needed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # changes the last digits of results
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
