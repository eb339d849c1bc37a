"""The program: a user error is one sentence and exit code 2; streams, exit codes, help, and lazy imports."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_fakes import Fakes, is_one_sentence, words

import bench
from bench.cli.main import main

MISTAKES: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "run, plan, table, list, why"),
    "command": (["rnu"], "did you mean 'run'"),
    "renamed check": (["check", "--sample", "3"], "`bench check` is now called `bench reproduce`"),
    "renamed control": (["control"], "`bench control` is now called `bench controls`"),
    "renamed exposed": (["exposed"], "`bench exposed` is now called `bench exposure`"),
    "renamed release": (["run", "--release"], "`bench run --release` is now called `bench release`"),
    "renamed release with a folder": (["run", "--release", "out"], "is now called `bench release`"),
    "renamed flag": (["run", "--accept-published"], "--accept-published is now called --reuse-committed"),
    "renamed flag of plan": (["plan", "--no-accept-published"], "is now called --no-reuse-committed"),
    "flag": (["run", "--defence", "shield"], "did you mean '--defense'"),
    "abbreviated flag": (["run", "--def", "shield"], "--def"),
    "flag before the command": (["--defense", "shield", "run"], "--defense"),
    "flag without a value": (["run", "--seeds"], "expected one argument"),
    "stray word": (["table", "now"], "'now' by itself: write a flag before it"),
    "bytes that are no text": (["run", "--defense", "sh\udcffeld"], "'sh\\udcffeld' is not text in this locale"),
    "whose records": (["run", "--attack", "membership,of=publik"], "did you mean 'public'"),
    "no epsilon": (["run", "--defense", "shield,epsilon=-1"], "epsilon=-1 of defense 'shield' must be above 0"),
    "part": (["list", "defences"], "did you mean 'defenses'"),
    "page of a figure": (["list", "figures", "samples"], "figures have no page"),
    "page of no data": (["list", "data", "digit"], "did you mean 'digits'"),
    "page of no game": (["list", "games", "membreship"], "did you mean 'membership'"),
    "page of no attack": (["list", "attacks", "speer"], "did you mean 'spear'"),
    "more records than there are": (["run", "--data", "digits,private=5000"], "digits has 1797 distinct records"),
    "beyond a limit": (["run", "--attack", "lira,shadows=1"], "shadows=1 of attack 'lira' must be at least 2"),
    "steps of a defense": (["run", "--defense", "none,steps=-5"], "steps=-5 of defense 'none' must be at least 1"),
    "steps of a defense, planned": (["plan", "--defense", "none,steps=-5"], "must be at least 1"),
    "beyond a limit, planned": (["plan", "--attack", "lira,shadows=1"], "must be at least 2"),
    "more records than there are, planned": (["plan", "--data", "digits,private=5000"], "1797 distinct records"),
    "a file of records": (["run", "--data", "missing.csv"], "missing.csv"),
    "a file that holds none": (["run", "--data", "empty.npz"], "empty.npz cannot be read"),
    "defense": (["run", "--defense", "sheild"], "did you mean 'shield'"),
    "attack": (["run", "--attack", "speer"], "did you mean 'spear'"),
    "data": (["run", "--data", "digit"], "did you mean 'digits'"),
    "option": (["run", "--defense", "shield,epsilom=1"], "did you mean 'epsilon'"),
    "value": (["run", "--defense", "shield,hidden=64,32"], "'32'"),
    "value of a type": (["run", "--data", "digits,private=many"], "a whole number"),
    "option of a game": (["run", "--attack", "membership,depth=1"], "depth"),
    "seeds": (["run", "--seeds", "0..4"], "seed"),
    "no seeds": (["run", "--seeds", ""], "seed"),
    "epsilon": (["run", "--epsilon", "0"], "epsilon"),
    "nothing to sweep": (["run", "--defense", "shield,epsilon=1", "--epsilon", "2"], "nothing to sweep"),
    "plugin": (["run", "--plugin", "missing.py"], "missing.py"),
    "broken plugin": (["list", "--plugin", "broken.py"], "ZeroDivisionError"),
    "data folder": (["run", "--data-dir", "missing"], "missing"),
    "results is a file": (["run", "--results", "broken.py"], "not a folder"),
    "no results": (["table", "--results", "missing"], "missing"),
    "no results to draw": (["plot", "--results", "missing"], "missing"),
    "no file": (["run", "--config", "missing.yaml"], "missing.yaml"),
    "a folder as a file": (["run", "--config", "."], "cannot be read"),
}


@pytest.mark.parametrize(("argv", "why"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_2(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], argv: list[str], why: str
) -> None:
    assert main(words(argv)) == 2
    out, err = capsys.readouterr()
    is_one_sentence(err)
    assert why in err
    assert out == ""
    assert fakes.requests == []


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ("run", "go on from there"), ("controls", "go on from there"), ("list", "start the rest again"),
        ("test", "start the rest again"), ("table", "start the rest again"),
        ("release --defense shield", "start the rest again"),
    ],
)  # fmt: skip
def test_an_interrupt_states_what_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: str, text: str
) -> None:
    """The plugin raises KeyboardInterrupt, as Ctrl-C would at that moment."""
    monkeypatch.chdir(tmp_path)
    Path("stops.py").write_text("raise KeyboardInterrupt\n")
    assert main([*argv.split(), *(["stops.py"] if argv == "test" else ["--plugin", "stops.py"])]) == 130
    err = capsys.readouterr().err
    is_one_sentence(err)
    assert text in err


def test_an_error_of_the_program_is_not_hidden(fakes: Fakes) -> None:
    fakes.raises = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        main(["run", "--plugin", "mine.py"])


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["run", "--help"], ["list", "-h"]])
def test_help_and_version(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert main(argv) == 0
    assert ("Usage: bench" in (out := capsys.readouterr().out)) or bench.__version__ in out


def test_reading_imports_nothing_heavy() -> None:
    code = """
import sys
from bench.cli.main import main

for argv in (["--help"], ["list"], ["run", "--defense", "no_such"]):
    main(argv)
heavy = {"tensorflow", "tensorflow_privacy", "keras", "art", "sklearn", "scipy", "pandas", "matplotlib"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_help_imports_not_even_numpy() -> None:
    code = """
import sys
from bench.cli.main import main
main(["rnu"])
assert "rich" not in sys.modules
main(["--help"])
assert not {"numpy", "argcomplete"} & set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, timeout=60).returncode == 0


def test_a_reader_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "bench", "list"], stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, where nothing can be written")
def test_an_output_that_takes_no_more_is_one_sentence() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", "bench", "list"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 2
    is_one_sentence(done.stderr.decode())


def test_an_error_of_a_file_is_not_taken_for_a_full_output(fakes: Fakes) -> None:
    fakes.raises = OSError(errno.ENOSPC, "No space left on device", "some file")
    with pytest.raises(OSError, match="some file"):
        main(["run", "--plugin", "mine.py"])


@pytest.mark.parametrize(("closed", "argv", "code"), [(">&-", "list games", 0), ("2>&-", "rnu", 2)])
def test_a_closed_stream_is_no_error(closed: str, argv: str, code: int) -> None:
    command = f"{sys.executable} -m bench {argv} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert done.stdout == done.stderr == ""


def test_a_locale_without_a_letter_spells_it_out(tmp_path: Path) -> None:
    (tmp_path / "é.csv").write_text("a,label\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bench", "list", "data", "é.csv"], cwd=tmp_path, env=ascii_only, capture_output=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\\xe9.csv" in done.stdout
