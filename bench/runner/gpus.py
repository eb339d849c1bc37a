"""The GPUs that this process may use, found without TensorFlow, which would take memory on each of them."""

from __future__ import annotations

import os
import re
import subprocess

LISTING = ("nvidia-smi", "-L")
PART = re.compile(r"\(UUID: (MIG-[^)]+)\)")  # of a GPU that is divided: a process can use one part, not the whole
WHOLE = re.compile(r"\(UUID: (GPU-[^)]+)\)")


def available() -> tuple[str, ...]:
    """A value of CUDA_VISIBLE_DEVICES for each GPU; none where there is no driver or the variable is empty."""
    if (stated := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return visible(stated)
    try:
        listing = subprocess.run(LISTING, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return listed(listing)


def visible(stated: str) -> tuple[str, ...]:
    """The devices in a value of CUDA_VISIBLE_DEVICES; as in CUDA, those behind an invalid one do not count."""
    found: list[str] = []
    for word in (part.strip() for part in stated.split(",")):
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", word) or word in found:
            break
        found.append(word)
    return tuple(found)


def listed(listing: str) -> tuple[str, ...]:
    """The devices that `nvidia-smi -L` prints, the parts of a divided GPU in place of the whole."""
    found: list[list[str]] = []
    for line in listing.splitlines():
        if whole := WHOLE.search(line):
            found.append([whole[1]])
        elif (part := PART.search(line)) and found:
            found[-1].append(part[1])
    return tuple(device for whole, *parts in found for device in (parts or [whole]))
