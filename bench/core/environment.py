"""What TensorFlow reads from the environment when it is first imported, whoever imports it."""

import os


def prepare() -> None:
    """No start-up chatter, sums in one fixed order, and of a GPU's memory only what is needed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # decides last digits, so no matter of taste
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
