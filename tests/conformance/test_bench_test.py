"""`bench test` through the program: verdicts, sentences and exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flawed_components import DRAWN, FIRST, MEANS, SURE, edited

from bench.cli.main import main
from bench.conformance.session import named
from bench.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def program(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], str]:
    code = main(["test", *words])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out.splitlines(), err


def test_a_right_file_is_exit_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talks = edited(MEANS, [("def predict(x):", "print('hello')\n\n    def predict(x):\n        print('asked')")])
    (tmp_path / "both.py").write_text(talks + SURE)
    code, lines, err = program(capsys, str(tmp_path / "both.py"), "--no-controls")
    assert code == 0, lines
    assert all(re.match(r"(means|sure): [a-z ,=0-9_]+: (passed$|skipped: .+\.$)", line) for line in lines[:-1])
    assert re.match(r"\d+ passed, 0 failed, \d skipped in \d+ s$", lines[-1])
    assert "means: appears on a leaderboard: passed" in lines
    assert "sure: passes its controls: skipped: --no-controls." in lines
    assert "[0/" in err


@pytest.mark.parametrize(
    ("text", "edits", "words"),
    [  # one mutant of each kind
        (MEANS, [(FIRST, "private.x *= 2\n    rng = np")], "modifies its input records at line 17 of bad.py: work on"),
        (MEANS, [("return Release(dp_event, ", "return dict(dp_event=dp_event, ")], "returned a dict: return a bench"),
        (MEANS, [(DRAWN, "default_rng(0)\n    sigma")], "two seeds give bit-identical releases"),
        (SURE, [("return score", "return -score")], "wrong sign: larger must mean more leakage"),
        (SURE, [("p = rel", "release.generate(5, 0)\n    p = rel")], "uses release.generate"),
    ],
    ids=["changes its records", "no release", "no noise of its own", "wrong sign", "undeclared access"],
)
def test_a_wrong_file_is_exit_1_and_its_sentence(
    text: str, edits: list[tuple[str, str]], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text(edited(text, edits))
    code, lines, _ = program(capsys, str(tmp_path / "bad.py"), "--no-controls")
    assert code == 1
    failed = [line for line in lines if ": FAILED: " in line]
    assert re.search(words, failed[0]), failed
    whys = [line.partition(": FAILED: ")[2] for line in failed]
    assert len(set(whys)) == len(whys), "one cause is reported once"
    assert f"{len(failed)} failed" in lines[-1]


DECLARATIONS = {
    "no seed": (MEANS, [(", seed, epsilon", ", epsilon")], "means must take the keyword-only argument seed"),
    "positional": (MEANS, [("public, *, seed, epsilon=8.0", "public, epsilon=8.0, *, seed")], "options after a bare"),
    "no default": (MEANS, [("epsilon=8.0", "epsilon")], "option epsilon must have a default"),
    "unknown access": (MEANS, [('"encode", "gen', '"weights", "gen')], "publishes names 'weights'"),
    "game": (
        "from bench import attack\n\n@attack('spear', game='membership', needs={'predict'})\n"
        "def spear(release, targets, public, *, seed): ...\n", [], "must be one of bench.games, .* not 'membership'",
    ),
    "crash": (MEANS, [("import numpy", "import nmpy")], "could not be loaded in line .*nmpy"),
    "nothing": ("x = 1", [], "declares no component"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", DECLARATIONS)
def test_a_wrong_declaration_is_exit_2(mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, edits, words = DECLARATIONS[mistake]
    (tmp_path / "bad.py").write_text(edited(text, edits))
    code, lines, err = program(capsys, str(tmp_path / "bad.py"))
    assert (code, lines) == (2, [])
    assert re.search(words, err)
    assert err.count("\n") == 1


def test_an_unknown_component_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word, text in (
        ("dp_vaegn", "did you mean 'dp_vaegm'"), (str(tmp_path / "no.py"), "does not exist"),
        ("dp_vaegm,epsilom=1", "did you mean 'epsilon'"), (f"{tmp_path / 'no.py'},epsilon=1", "does not exist"),
    ):  # fmt: skip
        code, lines, err = program(capsys, "constant", word)
        assert (code, lines) == (2, []), "no component is checked before all are found"
        assert text in err


def test_options_follow_a_file_as_they_follow_a_name(tmp_path: Path) -> None:
    mine = tmp_path / "mine, too.py"
    mine.write_text(MEANS)
    _, [choice] = named([str(mine)])
    assert choice.options == {}
    _, [choice] = named([f"{mine.rename(tmp_path / 'mine.py')},epsilon=2"])
    assert choice.label == "means,epsilon=2"
    with pytest.raises(UserError, match="did you mean 'epsilon'"):
        named([f"{tmp_path / 'mine.py'},epsilom=2"])


def test_a_registered_name_and_several_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = program(capsys, "constant", "confidence", "--no-controls")
    assert code == 0, lines
    assert {line.partition(":")[0] for line in lines[:-1]} == {"constant", "confidence"}


def test_the_examples_of_contributing_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    files = [tmp_path / f"example_{number}.py" for number in range(2)]
    for file, page in zip(files, pages, strict=False):
        file.write_text(page)
    code, lines, _ = program(capsys, *map(str, files), "--no-controls")
    assert code == 0, lines
    assert {line.partition(":")[0] for line in lines[:-1]} == {"noisy_means", "sure_and_right"}
