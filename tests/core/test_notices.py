"""Every artefact of a seeded run states that noise was seeded, or the README that names it does."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figure_cells import keep
from quick_components import PLUGIN

from bench.cli.figure import planned
from bench.cli.main import main
from bench.cli.options import SETTINGS
from bench.core.notices import SEEDED
from bench.report import figures
from bench.report.aggregate import SEEDED as ON_THE_BOARD
from bench.report.figures import FIGURES
from bench.runner.cell import playable
from bench.runner.registry import discover
from bench.store.store import CODE, Store

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the commands write for one run."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "plugin.py").write_text(PLUGIN)
    root = folder / "results"
    shared = ["--results", str(root), "--plugin", str(folder / "plugin.py")]
    selected = [
        "--data",
        "made",
        "--defense",
        "says",
        "--defense",
        "says,bias=1",
        "--attack",
        "honest",
        "--seeds",
        "0-1",
    ]
    assert main(["run", "--no-reference", *shared, *selected]) == 0
    store = Store(root)
    picture = np.zeros((4, 8, 8, 1), np.uint8)
    store.save_sheet(("made", "says", "honest", 0), {"true": picture, "baseline": picture})
    for verb in ("table", "plot", "exposure"):
        assert main([verb, *shared]) == 0
    plan, registry = FIGURES["vaegm_epsilon"], discover()
    cells = playable(planned(registry, plan, dict.fromkeys(SETTINGS)).grids)
    drawn = keep(folder / "figures", plan, cells)
    figures.draw({plan: cells}, FIGURES, drawn, lambda result: True)
    (drawn.root / "figures").rename(root / "figures")
    return root


def named(readme: Path) -> list[str]:
    """Patterns of the files that a README names in backquotes, if it contains the sentence."""
    text = readme.read_text() if readme.exists() else ""
    names = re.findall(r"`([^`\s*]+\.\w+)`", text) + re.findall(r"\]\(([^)]+)\)", text) if SEEDED in text else []
    return [re.sub(r"<[^>]+>", "*", name) for name in names]


def states_it(path: Path, root: Path) -> bool:
    """Whether the file, or a README beside it or in `results` that names it, contains the sentence."""
    here = SEEDED.encode() in path.read_bytes()
    beside = any(fnmatch(path.name, name) for name in named(path.parent / "README.md"))
    whole = str(path.relative_to(root))
    return here or beside or any(fnmatch(whole, name) for name in named(RESULTS / "README.md"))


def artefacts(root: Path) -> list[Path]:
    """All files except those of `.local` and the lists of source files, which contain no number."""
    found = (path for path in root.rglob("*") if path.is_file())
    return sorted(path for path in found if not {".local", CODE} & set(path.relative_to(root).parts))


def test_every_artefact_or_its_readme_states_that_noise_was_seeded(written: Path) -> None:
    found = artefacts(written)
    kinds = {path.name for path in found} | {path.parent.name for path in found}
    assert {"leaderboard.md", "leaderboard.csv", "details.md", "comparisons.csv", "README.md"} <= kinds
    assert {"exposed.md", "exposed.csv.gz"} <= kinds
    assert {"privacy_utility.png", "vaegm_epsilon.png", "vaegm_epsilon.csv", "0.json"} <= kinds
    assert [name for name in kinds if name.startswith("sheet_")]
    assert [path for path in found if not states_it(path, written)] == []


def test_pages_and_pictures_state_it_themselves(written: Path) -> None:
    shown = [path for path in artefacts(written) if path.suffix in (".md", ".png")]
    assert len(shown) >= 7
    for path in shown:
        assert path.read_bytes().count(SEEDED.encode()) == 1, path


def test_an_artefact_without_the_sentence_is_found(written: Path) -> None:
    """The guard itself: a file that a new command would write without the sentence."""
    for name in ("new.md", "new.csv", "figures/new.csv", "plots/new.png"):
        path = written / name
        path.write_text("numbers")
        assert not states_it(path, written), name
        path.unlink()


def test_a_picture_shows_it(tmp_path: Path) -> None:
    """In the visible page, not only in its metadata."""
    from matplotlib.text import Text

    from bench.report.drawing import legend, panels, save

    for with_legend in (True, False):
        picture, axes = panels(1, 4, 3)
        axes[0].plot([0, 1], label="a line")
        if with_legend:
            legend(picture, axes, 40)
        save(tmp_path / f"{with_legend}.png", picture)
        texts: list[Any] = [text for text in picture.findobj(Text) if text.get_text() == SEEDED]
        assert len(texts) == 1
        assert texts[0].get_visible()


def test_committed_pages_state_that_noise_was_seeded() -> None:
    assert ON_THE_BOARD is SEEDED
    pages = [RESULTS / name for name in ("README.md", "claims.md", "exposed.md", "leaderboard.md")]
    for page in [*pages, *RESULTS.glob("*/details.md")]:
        assert SEEDED in " ".join(page.read_text().split()), page
