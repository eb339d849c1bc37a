"""Independent random streams from one master seed, named by their purpose."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *words: str | int) -> int:
    """A seed below 2**63 for the stream that `words` name: other words give other seeds, in any order of calls."""
    text = "\x1f".join(f"{type(word).__name__}:{word}" for word in (seed, *words))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *words: str | int) -> np.random.Generator:
    """A NumPy generator for the stream that `words` name."""
    return np.random.default_rng(derive(seed, *words))
