"""What is stored is printed without loading what measures: the same command again answers at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cells import cell as made

from bench.cli.main import parse
from bench.cli.options import requested
from bench.lint import verdicts
from bench.runner.cell import playable
from bench.store import code_release
from bench.store.freshness import versions
from bench.store.store import Store

WORDS = ("run", "--defense", "dp_vaegm", "--attack", "membership")
MEASURING = ("tensorflow", "keras", "tensorflow_privacy", "tensorflow_datasets", "dp_accounting", "art", "sklearn",
             "dask", "distributed", "dask_jobqueue")  # fmt: skip
PAGES = ("scipy", "pandas", "matplotlib", "seaborn", "yaml")


def measured(results: Path) -> Store:
    """A store in which the command has nothing left to do."""
    store = Store(results)
    request, registry = requested(parse([*WORDS, "--results", str(results)]), references=True)
    code = code_release.keep(store, registry.components)
    for one in playable(request.grids):
        data, defense, attack, seed = one.name
        own = {"options": one.options, "digest": one.digest(), "versions": versions(), "machine": store.machine}
        store.save(made(defense, attack, seed, data=data, code=code, **own))
    unknown = verdicts.copy_shipped(store, registry, verdicts.stale(store, registry, request.grids[0].defenses))
    for choice in unknown:  # while the shipped ones are of other code
        store.save(verdicts.LintVerdict(choice.label, verdicts._digest(choice, registry), ()))
    return store


def again(results: Path, absent: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which prints at its end what it has loaded of `absent`."""
    script = (
        "import sys\nfrom bench.cli.main import main\n"
        f"code = main({[*WORDS, '--results', str(results)]!r})\n"
        f"print('loaded:', *sorted({set(absent)!r} & set(sys.modules)), file=sys.stderr)\nsys.exit(code)"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


def test_the_same_again_prints_the_board_and_loads_nothing_that_measures(results: Path) -> None:
    store = measured(results)
    before = {path: path.stat().st_mtime_ns for path in results.rglob("[0-9].json")}
    done = again(results, (*MEASURING, *PAGES))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "loaded:"
    assert "lira" in done.stdout
    assert all(name in done.stdout for name in ("dp_vaegm", "none"))
    assert {path: path.stat().st_mtime_ns for path in results.rglob("[0-9].json")} == before
    assert {cell.defense for cell in store.results()} == {"dp_vaegm", "none"}


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_loads_no_library_of_numbers(word: str) -> None:
    absent = (*MEASURING, *PAGES, "numpy", "scipy", "msgspec")
    script = (
        f"import sys\nfrom bench.cli.main import main\nmain([{word!r}])\nprint(*{set(absent)!r} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""
