"""Whether the files that a person is editing are the files that run."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def unused_edit(folder: Path) -> str | None:
    """A note where `folder` is a source checkout whose components or bench are not the installed ones, else None."""
    if not (folder / "setup.cfg").is_file() or not (folder / "bench" / "registry.py").is_file():
        return None
    if (folder / "bench").resolve() == Path(__file__).resolve().parent:
        return None
    differing = []
    for package in ("defenses", "attacks", "bench"):
        spec = importlib.util.find_spec(package)
        installed = Path(spec.origin).parent if spec and spec.origin else Path("/nowhere")
        for file in sorted((folder / package).glob("*.py")):
            other = installed / file.name
            if not other.is_file() or other.read_bytes() != file.read_bytes():
                differing.append(f"{package}/{file.name}")
    if not differing:
        return None
    more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
    return f"{differing[0]}{more} here is not what is installed and does not count: `pip install -e .`, or --plugin."
