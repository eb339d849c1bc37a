"""Weights of trained networks, kept under a digest of all that decides them, so that nothing is trained twice."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.arrays import load_arrays
from bench.core.files import write

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class WeightsCache:
    """A folder of `.npz` files, arrays only: nothing in it can run code."""

    folder: Path

    def path(self, key: str) -> Path:
        """Where the weights under a digest are or will be."""
        return self.folder / f"{key}.npz"

    def save(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep weights under a digest. Raises ValueError on arrays of objects, UserError where the disk refuses."""
        for name, array in arrays.items():
            if array.dtype.hasobject:  # numpy would pickle it
                raise ValueError(f"{name} holds objects, not numbers")
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write(self.path(key), buffer.getvalue())

    def load(self, key: str) -> dict[str, NDArray[Any]] | None:
        """The weights under a digest, or None where there are none that can be read without running foreign code."""
        return load_arrays(self.path(key))

    def has(self, key: str) -> bool:
        """Whether weights are kept under a digest."""
        return self.path(key).is_file()
