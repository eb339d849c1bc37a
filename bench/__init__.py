"""Differentially private generators put to the test: defenses, attacks and the board that judges both."""

import os

# Read by TensorFlow when it is first imported, whoever imports it: no start-up chatter, sums in one fixed order, and
# of a GPU's memory only what is needed.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # decides last digits, so no matter of taste
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

__version__ = "0.1.0"
