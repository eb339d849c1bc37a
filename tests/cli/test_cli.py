"""The program's words: what they mean, and that each mistake is one sentence and exit 2."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import bench
from bench.cli.main import main
from bench.core import progress
from bench.core.errors import Caveat, UserError
from bench.core.progress import Progress
from bench.data.card import FIELDS
from bench.report import catalogue
from bench.runner.registry import discover
from bench.runner.request import Grid, Request
from bench.runner.run import editable_install

COMPONENTS = """
from bench.games import MEMBERSHIP
from bench.core.component import attack, defense

@defense("shield", publishes={"predict"})
def shield(private, public, *, seed, epsilon=8.0, hidden=(64, 32)):
    '''A shield.'''

@attack("spear", game=MEMBERSHIP, needs={"predict"})
def spear(release, targets, public, *, seed, learner="lr"):
    '''A spear.'''
"""
MISTAKES: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "run, plan, why, list, table"),
    "verb": (["rnu"], "did you mean 'run'"),
    "flag": (["run", "--defence", "shield"], "did you mean '--defense'"),
    "abbreviated flag": (["run", "--def", "shield"], "--def"),
    "flag before the verb": (["--defense", "shield", "run"], "--defense"),
    "flag without a value": (["run", "--seeds"], "expected one argument"),
    "stray word": (["table", "now"], "'now' by itself: write a flag before it"),
    "bytes that are no text": (["run", "--defense", "sh\udcffeld"], "'sh\\udcffeld' is not text in this locale"),
    "whose records": (["run", "--attack", "membership,of=publik"], "did you mean 'public'"),
    "no epsilon": (["run", "--defense", "shield,epsilon=-1"], "above 0"),
    "part": (["list", "defences"], "did you mean 'defenses'"),
    "card of what is no data": (["list", "attacks", "spear"], "only data sets have a card"),
    "card of no data": (["list", "data", "digit"], "did you mean 'digits'"),
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
YAMLS = {
    "a: [1\nb: 2": "line 2",
    "seeds: 0-4\n\tepsilon: 1": "line 2",
    "defence: shield": "did you mean 'defense'",
    "3: x": "unknown word 3",
    "seeds: 0\ndefense: shield\ndefense: none": "line 3: 'defense' stands there again",
    "parts:\n- seeds: 0\n  seeds: 1": "line 3: 'seeds' stands there again",
    "- run": "word: value",
    "just words": "word: value",
    "defense: {shield: 1}": "a list of them",
    "defense: [shield, [spear]]": "a list of them",
    "defense: []": "a list of them",
    "seeds: true": "a list of them",
    "seeds: 2020-01-01": "a list of them",
    "offline: maybe": "true or false",
    "seeds: many": "no seed",
    "parts: []": "a list of parts",
    "parts: digits": "a list of parts",
    "parts: [digits]": "a list of parts",
    "parts: [{results: out}]": "unknown word 'results'",
    "parts: [{parts: []}]": "unknown word 'parts'",
    "x: !!python/object/apply:os.system [ls]": "line 1",
    "x: \x00": "not valid YAML",
    "a: 2020-99-99": "not valid YAML",
}


class Fakes:
    """Stand-ins for the runner and the table, which remember what they were asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.calls: list[str] = []
        self.failed: dict[tuple[str, str, str, int], str] = {}
        self.raises: BaseException | None = None
        self.left: list[tuple[str, str, str, int]] = []

    def run(self, request: Request, registry: Any, store: Any, progress: Any) -> Any:
        self.requests.append(request)
        progress.step("digits, shield", 1, 1)
        warnings.warn("only 3 non-members.", Caveat, stacklevel=1)
        if self.raises:
            raise self.raises
        return SimpleNamespace(failed=self.failed, measured=1, stored=0, left=self.left)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fakes:
    """An empty folder to work in, no environment, no runner."""
    made = Fakes()
    table = SimpleNamespace(
        build=lambda store, registry, failed, *_: made.calls.append("build") or SimpleNamespace(sections=()),
        write=lambda board, store: made.calls.append("write"),
        show=lambda board, wanted: made.calls.append("show"),
    )
    standing = SimpleNamespace(compared=lambda board, compare: board)
    for name, fake in {"runner": SimpleNamespace(run=made.run), "table": table, "standing": standing}.items():
        monkeypatch.setattr(bench, name, fake, raising=False)
        monkeypatch.setitem(sys.modules, f"bench.{name}", fake)
    monkeypatch.setattr("bench.cli.run_commands._probe", lambda request, registry: False)
    monkeypatch.setattr("bench.report.ranking.compared", lambda board, compare: board)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    Path("mine.py").write_text(COMPONENTS)
    Path("broken.py").write_text("1 / 0")
    Path("empty.npz").touch()
    return made


def words(argv: list[str]) -> list[str]:
    """The same command with the components of these tests."""
    return [argv[0], "--plugin", "mine.py", *argv[1:]] if argv[:1] in (["run"], ["list"], ["table"]) else argv


def is_one_sentence(err: str) -> None:
    assert err.startswith("bench: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err


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


@pytest.mark.parametrize(("content", "why"), YAMLS.items())
def test_a_mistake_in_a_configuration_is_one_sentence_and_exit_2(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], content: str, why: str
) -> None:
    Path("board.yaml").write_text(content)
    assert main(words(["run", "--config", "board.yaml"])) == 2
    err = capsys.readouterr().err
    is_one_sentence(err)
    assert "board.yaml" in err or "seed" in err
    assert why in err
    assert fakes.requests == []


def test_a_configuration_that_is_not_text(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("board.yaml").write_bytes(b"seeds: \xff")
    assert main(["run", "--config", "board.yaml"]) == 2
    is_one_sentence(capsys.readouterr().err)


def asked(fakes: Fakes, argv: list[str]) -> dict[str, Any]:
    assert main(argv) == 0
    request = fakes.requests[-1]
    [grid] = request.grids
    rest = {name: getattr(request, name) for name in ("results", "where", "accept_published")}
    return spelled(grid) | rest


def spelled(grid: Grid) -> dict[str, Any]:
    labels = {kind: [c.label for c in getattr(grid, kind)] for kind in ("defenses", "attacks", "data")}
    return {**labels, "seeds": grid.seeds}


def test_flags_become_a_request(fakes: Fakes) -> None:
    Path("files").mkdir()
    argv = "run --plugin mine.py --defense shield,hidden=8 --defense shield,epsilon=3 --attack membership,learner=gb"
    argv += " --data digits,private=600 --seeds 0,3 --epsilon 1,inf --results out --data-dir files --offline"
    found = asked(fakes, [*argv.split(), "--accept-published"])
    assert found["defenses"] == ["shield,epsilon=1,hidden=8", "shield,epsilon=inf,hidden=8", "shield,epsilon=3"]
    assert "spear,learner=gb" in found["attacks"]
    assert found["data"] == ["digits,private=600"]
    assert found["seeds"] == (0, 3)
    assert found["results"] == Path("out")
    assert found["accept_published"]
    assert found["where"].data_dir == Path("files")
    assert found["where"].offline
    assert fakes.calls == ["build", "write", "show"]


def test_nothing_chosen_is_the_whole_small_board(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = discover([Path("mine.py")])
    found = asked(fakes, ["run", "--plugin", "mine.py"])
    assert found["defenses"] == list(registry.defenses)
    assert found["attacks"] == list(registry.attacks)
    assert (found["data"], found["seeds"], found["results"]) == (["digits"], (0, 1, 2), Path("results"))
    assert not found["accept_published"]
    assert found["where"].data_dir is None
    assert not found["where"].offline
    Path("files").mkdir()
    monkeypatch.setenv("BENCH_DATA_DIR", "files")
    assert asked(fakes, ["run", "--plugin", "mine.py"])["where"].data_dir == Path("files")


def test_a_configuration_says_the_same_as_flags_and_flags_win(fakes: Fakes) -> None:
    Path("files").mkdir()
    Path("board.yaml").write_text(
        "plugin: mine.py\ndefense: ['shield,hidden=8', shield]\nattack: membership\nseeds: 0-1\n"
        "epsilon: [1, 8.0, .inf]\ndata: [digits, breast_cancer]\nresults: out\n"
        "data-dir: files\noffline: true\naccept-published: true\n"
    )
    flags = "run --plugin mine.py --defense shield,hidden=8 --defense shield --attack membership --seeds 0-1"
    flags += " --epsilon 1,8,inf --data digits --data breast_cancer --results out --data-dir files --offline"
    config = ["run", "--config", "board.yaml"]
    plugged = [*config, "--plugin", "mine.py"]
    assert asked(fakes, config) == asked(fakes, [*flags.split(), "--accept-published"])
    found = asked(fakes, [*config, "--seeds", "7", "--defense", "shield", "--epsilon", "2", "--no-offline"])
    assert found["seeds"] == (7,)
    assert found["defenses"] == ["shield,epsilon=2"]
    assert not found["where"].offline
    assert found["data"] == ["digits", "breast_cancer"]
    Path("board.yaml").write_text("")
    assert asked(fakes, plugged)["seeds"] == (0, 1, 2)
    Path("board.yaml").write_text("seeds: 4")
    assert asked(fakes, plugged)["seeds"] == (4,)
    Path("board.yaml").write_text("seeds: [4, 0-1]")
    assert asked(fakes, plugged)["seeds"] == (4, 0, 1)


def test_parts_of_a_configuration_are_crossings_of_their_own(fakes: Fakes) -> None:
    Path("board.yaml").write_text(
        "plugin: mine.py\nattack: spear\nseeds: 0-1\naccept-published: true\nparts:\n"
        "  - {defense: shield, data: digits, epsilon: [1, 8]}\n"
        "  - {defense: shield, data: 'digits,private=600', seeds: 3}\n"
    )
    assert main(["run", "--config", "board.yaml"]) == 0
    request = fakes.requests[-1]
    assert request.accept_published
    first, second = map(spelled, request.grids)
    assert first == {
        "defenses": ["shield,epsilon=1", "shield"],  # 8 is the default
        "attacks": ["spear"],
        "data": ["digits"],
        "seeds": (0, 1),
    }
    assert second == {
        "defenses": ["shield"],
        "attacks": ["spear"],
        "data": ["digits,private=600"],
        "seeds": (3,),
    }
    assert main(["run", "--config", "board.yaml", "--seeds", "7"]) == 0
    assert [grid.seeds for grid in fakes.requests[-1].grids] == [(7,), (7,)]


def test_a_failed_cell_is_named_and_exit_1(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.failed = {("digits", "shield", "spear", 2): "ValueError: of\n no use"}
    assert main(["run", "--plugin", "mine.py"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert "bench: failed: digits/shield/spear/2: ValueError: of no use" in err
    assert "bench: note: only 3 non-members." in err
    assert fakes.calls == ["build", "write", "show"]


def test_a_budget_that_ran_out_is_no_failure(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.left = [("digits", "shield", "spear", seed) for seed in range(4)]
    assert main(["run", "--plugin", "mine.py", "--budget", "20m"]) == 0
    assert fakes.requests[-1].budget == 1200
    left = "left 4 to measure (digits/shield/spear/0, digits/shield/spear/1, digits/shield/spear/2, ...)"
    assert f"bench: note: the budget {left}" in capsys.readouterr().err
    Path("board.yaml").write_text("plugin: mine.py\nbudget: 90s\n")
    assert main(["run", "--config", "board.yaml"]) == 0
    assert fakes.requests[-1].budget == 90
    assert fakes.calls == ["build", "write", "show"] * 2


@pytest.mark.parametrize(("error", "code"), [(UserError("The disk is full."), 2), (KeyboardInterrupt(), 130)])
def test_what_stops_a_run_is_one_line(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    fakes.raises = error
    assert main(["run", "--plugin", "mine.py"]) == code
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("bench: ")
    assert "Traceback" not in err
    assert fakes.calls == []


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_that_nothing_can_be_played_is_said(fakes: Fakes, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    words = ["--plugin", "mine.py", "--defense", "shield", "--attack", "nearest_sample"]
    assert main([verb, *words]) == 0
    assert "for want of generate: choose others" in capsys.readouterr().err
    assert main([verb, *words, "--attack", "spear"]) == 0
    assert "for want of" not in capsys.readouterr().err


@pytest.fixture
def _stoppable() -> Iterator[None]:
    """Ctrl-C as in a terminal: whoever starts tests in the background has Python ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_stoppable")
def test_a_stop_that_was_swallowed_stops_at_the_next_step() -> None:
    """TensorFlow's C code makes a SystemError of it, which the runner takes for a training that failed."""
    with Progress(Console(file=io.StringIO())) as progress:
        progress.step("first", 0, 2)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            progress.step("second", 1, 2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("_stoppable")
@pytest.mark.parametrize("made_of_it", [None, SystemError("returned a result with an exception set")])
def test_a_stop_that_was_swallowed_stops_at_the_end(made_of_it: Exception | None) -> None:
    def swallow() -> None:
        with Progress(Console(file=io.StringIO())):
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            if made_of_it:
                raise made_of_it

    with pytest.raises(KeyboardInterrupt):
        swallow()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("run", "goes on from there"), ("run --release --defense shield", "starts the rest anew"),
        ("list", "starts the rest anew"), ("test", "starts the rest anew"), ("table", "starts the rest anew"),
    ],
)  # fmt: skip
def test_who_is_stopped_is_told_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: str, says: str
) -> None:
    """The plugin stops it, as Ctrl-C would at that moment."""
    monkeypatch.chdir(tmp_path)
    Path("stops.py").write_text("raise KeyboardInterrupt\n")
    assert main([*argv.split(), *(["stops.py"] if argv == "test" else ["--plugin", "stops.py"])]) == 130
    err = capsys.readouterr().err
    is_one_sentence(err)
    assert says in err


def test_records_that_are_not_there_are_missed_before_anything_is_probed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.lint.verdicts.measure", lambda choice, registry: pytest.fail("probed"))
    many = ["run", "--defense", "dp_sgd", "--data", "digits,private=99999", "--results", str(tmp_path)]
    assert main(many) == 2
    err = capsys.readouterr().err
    is_one_sentence(err)
    assert "1797 distinct records" in err


def test_an_error_of_the_program_is_not_hidden(fakes: Fakes) -> None:
    fakes.raises = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        main(["run", "--plugin", "mine.py"])


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["run", "--help"], ["list", "-h"]])
def test_help_and_version(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert main(argv) == 0
    assert ("usage: bench" in (out := capsys.readouterr().out)) or bench.__version__ in out


@pytest.mark.parametrize("width", [1, 20, 99, 120, 300])
@pytest.mark.parametrize("terminal", [True, False])
def test_the_list_is_whole_at_any_width(fakes: Fakes, width: int, terminal: bool) -> None:
    registry = discover([Path("mine.py")])
    registry.broken.append("defenses/x.py could not be loaded: [red]Error")
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=terminal, color_system=None, highlight=False, soft_wrap=True
    )
    catalogue.show(registry, ["defenses", "attacks", "games", "data"], console)
    shown = out.getvalue()
    assert "…" not in shown
    wanted = ["shield", "A shield.", "hidden=64x32", "spear", "learner=lr", "membership", "digits", "[red]Error"]
    if not terminal or width < catalogue.NARROW or width == 300:  # between, a table folds words
        assert all(word in shown for word in wanted)


def test_the_card_of_a_data_set_is_shown_whole(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "data", "digits"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("digits: Handwritten digits")
    for field in (*FIELDS, "Options"):
        assert f"  {field}: " in out
    assert "none stated" not in out
    mine = Path("mine.py")
    declared = "from bench.runner.registry import dataset\n@dataset('bare')\ndef bare(where, rng):\n    'Bare.'\n"
    mine.write_text(COMPONENTS + declared)
    assert main(["list", "data", "bare", "--plugin", "mine.py"]) == 0
    assert "  Licence: none stated" in capsys.readouterr().out


def test_list_names_what_is_broken(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("again.py").write_text(COMPONENTS)
    assert main(["list", "defenses", "--plugin", "mine.py", "--plugin", "again.py"]) == 0
    out = capsys.readouterr().out
    assert "again.py" in out
    assert "shield: A shield." in out
    assert "options: epsilon=8, hidden=64x32" in out
    assert "location30" not in out


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
    code = (
        "import sys; from bench.cli.main import main; main(['--help']); assert not {'numpy', 'rich'} & set(sys.modules)"
    )
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


def test_an_edit_that_does_not_count_is_noted(fakes: Fakes, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    installed = Path(bench.__file__).parent
    (tmp_path / "bench").mkdir()
    (tmp_path / "defenses").mkdir()
    (tmp_path / "bench" / "registry.py").write_bytes((installed / "registry.py").read_bytes())
    assert editable_install.unused_edit(tmp_path) is None  # no setup.cfg: somebody else's folder
    (tmp_path / "setup.cfg").touch()
    assert editable_install.unused_edit(tmp_path) is None
    (tmp_path / "bench" / "data.py").write_text("edited")
    (tmp_path / "defenses" / "new.py").touch()
    assert main(["list", "games"]) == 0
    err = capsys.readouterr().err
    is_one_sentence(err)
    assert "defenses/new.py (and 1 more)" in err
    assert "pip install -e ." in err
    assert "--plugin" in err
    assert editable_install.unused_edit(installed.parent) is None


def test_progress_off_a_terminal_is_the_first_the_last_and_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 1.0, 4.9, 5.0, 5.0, 6.0, 7.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    out = io.StringIO()
    with Progress(Console(file=out, soft_wrap=True, width=10)) as shown:
        for done in range(6):
            shown.step("cell [a]", done, 5)
        shown.print("a line of [any] length stays one line")
    assert out.getvalue().splitlines() == [
        "[0/5] cell [a]", "[3/5] cell [a]", "[5/5] cell [a]", "a line of [any] length stays one line",
    ]  # fmt: skip


def test_progress_on_a_terminal_clears_its_line() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True, width=80)) as shown:
        shown.step("cell [a]", 0, 2)
        shown.print("kept")
        shown.step("cell b", 1, 2)
    assert "cell [a]" in out.getvalue()
    assert "kept" in out.getvalue()
    assert shown.bar is None
