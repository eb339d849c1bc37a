"""Shell completion, called as the shells call it; in bash through the function that README has the user install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_fakes import COMPONENTS
from conftest import components

from bench.cli.main import COMMANDS

# The environment that argcomplete's function sets in each shell, and the shell's separator of descriptions.
SHELLS = {
    "bash": {"_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:", "COMP_TYPE": "9"},
    "zsh": {"_ARGCOMPLETE_SUPPRESS_SPACE": "1"},
    "fish": {"_ARGCOMPLETE_SUPPRESS_SPACE": "1", "_ARGCOMPLETE_DFS": "\t"},
}
SEPARATORS = {"bash": "\0", "zsh": ":", "fish": "\t"}


def described(line: str, folder: Path, shell: str = "zsh") -> dict[str, str]:
    """The completions of a line in a shell, with their descriptions."""
    out = folder / "completions"
    completed = {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": shell, "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line,
        "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(out), **SHELLS[shell],
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bench"], cwd=folder, env={**os.environ, **completed}, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    parts = (word.partition(SEPARATORS[shell]) for word in out.read_text().split("\n"))
    return {word.rstrip(): description for word, _, description in parts}


def complete(line: str, folder: Path, shell: str = "zsh") -> list[str]:
    """The completions alone."""
    return list(described(line, folder, shell))


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_completes_options_and_values(tmp_path: Path, shell: str) -> None:
    """Bash completes the text after the last `=`, the other shells the whole word."""
    assert complete("bench run --defense dp_vaegm,ste", tmp_path, shell) == ["dp_vaegm,steps="]
    head = "" if shell == "bash" else "decoder,method="
    assert complete("bench run --attack decoder,method=s", tmp_path, shell) == [f"{head}searched"]
    assert set(complete("bench re", tmp_path, shell)) == {"reproduce", "release"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_each_completion_is_shown_with_its_description(tmp_path: Path, shell: str) -> None:
    found = described("bench run --attack lira,", tmp_path, shell)
    assert set(found) == {"lira,shadows=", "lira,online=", "lira,of="}
    assert found["lira,shadows="] == "shadow models to train"
    assert described("bench run --attack lir", tmp_path, shell)["lira"] == components().attacks["lira"].summary


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bench ", set(COMMANDS)),
        ("bench run --def", {"--defense"}),
        ("bench run --defense ", {*components().defenses, "all"}),
        ("bench run --attack ", {*components().attacks, *components().games, "all"}),
        ("bench list ", {"defenses", "attacks", "games", "data", "figures"}),
        ("bench list games ", set(components().games)),
        ("bench list attacks li", {"lira"}),
        ("bench figure aug", {"augm_epsilon"}),
        ("bench audit --kind w", {"whole"}),
        ("bench test dp_merf,eps", {"dp_merf,epsilon="}),
        ("bench run --attack membership,of=pu", {"membership,of=public"}),
        ("bench run --attack lira,online=t", {"lira,online=true"}),
        ("bench run --data randhie,attribute=", {"randhie,attribute=health", "randhie,attribute=individual_plan"}),
        ("bench run --defense dp_vaegm,steps=3,st", set()),
        ("bench run --defense no_such,st", set()),
    ],
)
def test_everything_that_has_a_name_is_completed(tmp_path: Path, line: str, expected: set[str]) -> None:
    assert set(complete(line, tmp_path)) - {""} == expected


def test_components_of_plugins_are_completed_and_a_broken_plugin_hides_none(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(COMPONENTS)
    (tmp_path / "broken.py").write_text("1 / 0")
    assert complete("bench run --plugin mine.py --defense shi", tmp_path) == ["shield"]
    assert complete("bench run --plugin mine.py --defense shield,h", tmp_path) == ["shield,hidden="]
    assert complete("bench run --plugin broken.py --attack lir", tmp_path) == ["lira"]


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["bench", "run", "--defense", "dp_vaegm,ste"], "dp_vaegm,steps="),
        (["bench", "list", "attacks", "li"], "lira "),
    ],
)
def test_the_function_of_bash_completes(tmp_path: Path, words: list[str], expected: str) -> None:
    import argcomplete

    (tmp_path / "bench").write_text(f'#!/bin/bash\nexec {sys.executable} -m bench "$@"\n')
    (tmp_path / "bench").chmod(0o755)
    script = f"""
{argcomplete.shellcode(["bench"], shell="bash")}
COMP_WORDS=({" ".join(words)})
COMP_CWORD={len(words) - 1}
COMP_LINE='{" ".join(words)}'
COMP_POINT={len(" ".join(words))}
COMP_TYPE=9
_python_argcomplete bench '{words[-1]}' '{words[-2]}'
printf '%s|' "${{COMPREPLY[@]}}"
"""
    ours = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=ours, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == f"{expected}|"
