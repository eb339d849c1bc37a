"""Whether the files that a user edits are the files that run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]


def unused_edit(folder: Path) -> str | None:
    """A note where `folder` is a source checkout whose components or bench are not the installed ones, else None."""
    if not (folder / "setup.cfg").is_file() or not (folder / "bench" / "runner" / "registry.py").is_file():
        return None
    if (folder / "bench").resolve() == BENCH:
        return None
    differing = []
    for package in ("defenses", "attacks", "bench"):
        spec = importlib.util.find_spec(package)
        installed = Path(spec.origin).parent if spec and spec.origin else Path("/nowhere")
        for file in sorted((folder / package).rglob("*.py")):
            path = file.relative_to(folder / package)
            other = installed / path
            if not other.is_file() or other.read_bytes() != file.read_bytes():
                differing.append(f"{package}/{path}")
    if not differing:
        return None
    more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
    return f"{differing[0]}{more} here is not what is installed and has no effect: `pip install -e .`, or --plugin."
