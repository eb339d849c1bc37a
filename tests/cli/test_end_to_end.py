"""The program in new processes, as a user calls it; and the shipped leaderboard is built from the shipped cells."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.main import parse
from bench.cli.options import requested
from bench.cli.table import publish
from bench.report import comparisons
from bench.runner.cell import Cell, playable
from bench.runner.registry import discover
from bench.runner.selection import choose
from bench.store.freshness import freshness
from bench.store.read_write import encode
from bench.store.records import CellResult
from bench.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "results"
BOARDS = sorted((SHIPPED / "boards").glob("*.yaml"))
DATA = "digits,holdout=60,private=60,public=20"
AGAIN = "the code or a package changed since: re-run `bench run --config` with each file of results/boards, and commit"


def bench(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words], capture_output=True, text=True, cwd=folder, timeout=90
    )


def test_run_table_and_plot(tmp_path: Path) -> None:
    """From an empty folder to a leaderboard and a plot."""
    arguments = ("--defense", "constant", "--attack", "membership", "--seeds", "0", "--data", DATA, "--results", "tmp")
    run = bench("run", "--no-reference", *arguments, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    results = tmp_path / "tmp"
    kept = sorted(results.rglob("0.json"))
    attacks = {name for name, attack in discover().attacks.items() if attack.game and attack.game.name == "membership"}
    playable = {name for name in attacks if discover().attacks[name].needs <= {"predict", "retrain"}}
    assert {path.parent.name for path in kept} == playable
    for cell in Store(results).results():
        assert (cell.data, cell.defense, cell.game, cell.seed) == (DATA, "constant", "membership", 0)
        assert cell.privacy["epsilon"] == 0
        assert cell.privacy["sampler"] == "no access"
        assert cell.metrics["auc"]["value"] == pytest.approx(0.5, abs=0.15)
        assert cell.device
        assert cell.peak_memory_mib > 0
        assert cell.utility["n"] == 60
        assert cell.options["data"]["private"] == 60
    assert "constant" in run.stdout
    assert "Release-free baseline" in run.stdout
    assert "[2/2] done" in run.stderr or f"[{len(kept)}/{len(kept)}] done" in run.stderr

    leaderboard = {path: path.read_bytes() for path in results.glob("leaderboard.*")}
    assert {path.suffix for path in leaderboard} == {".md", ".csv"}
    for path in leaderboard:
        path.unlink()
    again = bench("table", "--results", "tmp", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == run.stdout
    assert {path: path.read_bytes() for path in results.glob("leaderboard.*")} == leaderboard

    drawn = bench("plot", "--results", "tmp", folder=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    pictures = [path for path in results.rglob("*") if path.suffix in (".png", ".svg", ".pdf")]
    assert pictures
    assert all(path.stat().st_size > 1000 for path in pictures)


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("run", "--defense", "constnat", "--attack", "membership"), "did you mean 'constant'?"),
        (("run", "--defense", "constant", "--data", "digits,private=5000"), "digits has 1797 distinct records"),
        (("run", "--defense", "dp_sgd,epsilon=-1", "--data", DATA), "epsilon=-1 of defense 'dp_sgd' must be above 0"),
        (("table", "--results", "nowhere"), "measure first with `bench run`"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(words: tuple[str, ...], printed: str, tmp_path: Path) -> None:
    found = bench(*words, *(("--results", "tmp") if words[0] == "run" else ()), folder=tmp_path)
    assert found.returncode == 2, found.stderr
    spoken = [line for line in found.stderr.splitlines() if not line.startswith("[")]  # but for progress
    assert len(spoken) == 1, found.stderr
    assert spoken[0].startswith("bench: ")
    assert printed in spoken[0]
    assert not found.stdout


# The leaderboard in the repository


@pytest.fixture(scope="module")
def shipped() -> list[CellResult]:
    cells = Store(SHIPPED).results() if SHIPPED.is_dir() else []
    if not cells:
        pytest.skip("results/ holds no cells: nothing was measured in this checkout")
    return cells


def test_the_shipped_leaderboard_is_built_from_its_cells(shipped: list[CellResult], tmp_path: Path) -> None:
    copy = Store(tmp_path / "results")
    shutil.copytree(SHIPPED, copy.root, ignore=shutil.ignore_patterns(".*", "*.tmp", "leaderboard.*", "details.md"))
    # As in a clone, which lacks the answers per record: differences come from comparisons.csv.
    publish(copy, discover(), {}, ())
    assert (copy.root / comparisons.FILE).read_text() == (SHIPPED / comparisons.FILE).read_text()
    pages = [str(page.relative_to(copy.root)) for page in copy.root.glob("*/details.md")]
    assert pages
    for name in ("leaderboard.md", "leaderboard.csv", *pages):
        ours, written = SHIPPED / name, copy.root / name
        assert ours.is_file(), f"results/{name} is missing: run `bench table` and commit it"
        assert ours.read_text() == written.read_text(), (
            f"results/{name} is not what `bench table` writes: run it, commit"
        )
    rows = list(csv.DictReader((SHIPPED / "leaderboard.csv").read_text().splitlines()))
    assert len(rows) == len(shipped)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_cells_of_the_small_boards_are_shipped_and_fresh(board: Path, shipped: list[CellResult]) -> None:
    """Those of the large one may be stale until it is measured again, which takes hours."""
    request, registry = requested(parse(["run", "--config", str(board)]), references=True)
    fresh, stored = freshness(registry.find), {(one.data, one.defense, one.attack, one.seed): one for one in shipped}
    names = [cell.name for cell in playable(request.grids)]
    stale = [name for name in names if name not in stored or not fresh(stored[name])]
    assert names
    assert not stale, f"{len(stale)} of {len(names)} cells are stale, {'/'.join(map(str, stale[0]))} first: {AGAIN}"


def test_shipped_cells_have_the_options_of_their_labels(shipped: list[CellResult]) -> None:
    """The stored options are those of the label, so that `bench run` finds the cell."""
    registry = discover()
    fresh = [cell for cell in shipped if freshness(registry.find)(cell)]
    assert fresh
    for cell in fresh:
        [data] = choose(registry, "data", cell.data)
        [defense] = choose(registry, "defense", cell.defense)
        [attack] = choose(registry, "attack", cell.attack)
        arguments = Cell(data, defense, attack, cell.seed)
        assert arguments.name == (cell.data, cell.defense, cell.attack, cell.seed)
        assert arguments.digest() == cell.digest


def test_shipped_cells_do_not_reveal_the_machine(shipped: list[CellResult]) -> None:
    """The machine is a random identifier of the checkout; no path and no user name."""
    for cell in shipped:
        assert str(Path.home()) not in encode(cell).decode()
        assert len(cell.machine) == 32
