"""`bench list`: lists at any width, and pages."""

from __future__ import annotations

import inspect
import io
from pathlib import Path

import pytest
from cli_fakes import COMPONENTS, Fakes
from conftest import components
from rich.console import Console

from bench.cli.main import main
from bench.core.component import text
from bench.data.card import FIELDS
from bench.report import catalogue
from bench.runner.registry import discover
from bench.runner.selection import choose, documented


@pytest.mark.parametrize("width", [1, 20, 99, 120, 300])
@pytest.mark.parametrize("terminal", [True, False])
def test_the_list_is_complete_at_any_width(fakes: Fakes, width: int, terminal: bool) -> None:
    registry = discover([Path("mine.py")])
    registry.broken.append("defenses/x.py could not be loaded: [red]Error")
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=terminal, color_system=None, highlight=False, soft_wrap=True
    )
    catalogue.show(registry, ["defenses", "attacks", "games", "data"], console)
    shown = out.getvalue()
    assert "…" not in shown
    expected = ["shield", "A shield.", "hidden=64x32", "spear", "learner=lr", "membership", "digits", "[red]Error"]
    if not terminal or width < catalogue.NARROW or width == 300:  # at widths between, the table wraps
        assert all(word in shown for word in expected)


def page(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["list", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ["defenses", "attacks", "data"])
def test_every_component_has_a_page_with_each_of_its_options(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    known = {"defenses": components().defenses, "attacks": components().attacks, "data": components().data}[kind]
    for name, component in known.items():
        shown = page(capsys, kind, name)
        assert shown.startswith(f"{name}: {component.summary}\n")
        for option, default in component.options.items():
            [line] = [line for line in shown.splitlines() if line.startswith(f"    {option}={text(default)}: ")]
            if declared := documented(component).get(option):
                assert declared.meaning in line
                assert declared.limits in line


def test_the_page_of_an_attack_shows_its_description_and_options(
    fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = page(capsys, "attacks", "lira")
    docstring = inspect.getdoc(components().attacks["lira"].function) or ""
    assert all(line in shown for line in docstring.splitlines())
    assert len(docstring.splitlines()) > 2
    assert "Carlini et al. 2022" in shown
    assert "  Game: membership\n" in shown
    assert "  Needs: predict, retrain\n" in shown
    assert "  Score required against an undefended model: at least 0.8\n" in shown
    assert "    shadows=16: shadow models to train (at least 2)\n" in shown
    assert "    of=private: whose records the game asks about (one of private, public)\n" in shown
    assert "(Chen et al. 2020)" in page(capsys, "attacks", "nearest_sample"), (
        "a paper that only the module docstring names"
    )


def test_the_page_of_a_defense_shows_accesses_claim_and_options(
    fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = page(capsys, "defenses", "dp_vaegm")
    assert "  Publishes: decode, generate, predict, synthetic\n" in shown
    assert "  Claims privacy: yes\n" in shown
    assert "the number of private records" in shown
    assert "    epsilon=8: privacy budget" in shown
    bare = page(capsys, "defenses", "shield", "--plugin", "mine.py")
    assert "  Claims privacy: no\n" in bare
    assert "    hidden=64x32: not documented (whole numbers as in 64x32)\n" in bare


def test_the_page_of_a_game_names_its_attacks(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    shown = page(capsys, "games", "membership", "--plugin", "mine.py")
    assert shown.startswith("membership: ")
    assert "  Asks about records of: private, public\n" in shown
    assert "    spear: A spear. Needs predict.\n" in shown
    assert "    lira: " in shown
    assert "mi_face" not in shown
    assert "  Needs data with: pictures\n" in page(capsys, "games", "inversion")


def test_the_card_of_a_data_set_is_shown_completely(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    out = page(capsys, "data", "digits")
    assert out.startswith("digits: Handwritten digits")
    for field in FIELDS:
        assert f"  {field}: " in out
    assert "none stated" not in out
    assert out.count("UCI ML repository, 1998") == 1, "the docstring and the card are not shown twice"
    mine = Path("mine.py")
    mine.write_text(f"{COMPONENTS}\nfrom bench import dataset\n@dataset('bare')\ndef bare(where, rng):\n    'Bare.'\n")
    bare = page(capsys, "data", "bare", "--plugin", "mine.py")
    assert "  Licence: none stated\n" in bare
    assert "  Options: none\n" in bare


@pytest.mark.parametrize("terminal", [True, False])
def test_terminal_control_sequences_are_printed_as_text(fakes: Fakes, terminal: bool) -> None:
    Path("mine.py").write_text(
        COMPONENTS.replace("A spear.", "A \\x1b[31mred\\r\\u202e spear.\\n\\n    More \\x1b]0;t\\x07.")
    )
    registry = discover([Path("mine.py")])
    registry.broken.append("x\x1b[2J\ny")
    out = io.StringIO()
    console = Console(file=out, width=300, force_terminal=terminal, color_system=None, highlight=False, soft_wrap=True)
    catalogue.show(registry, ["attacks", "games"], console)
    [choice] = choose(registry, "attack", "spear")
    catalogue.show_component(choice, console)
    catalogue.show_game(registry, registry.games["membership"], console)
    shown = out.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[3m", "")
    assert not set("\x1b\x07\r\u202e") & set(shown)
    assert shown.count("A \\x1b[31mred") == 3
    assert "More \\x1b]0;t\\x07." in shown
    assert "broken: x\\x1b[2J y\n" in shown


def test_list_names_what_is_broken(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("again.py").write_text(COMPONENTS)
    assert main(["list", "defenses", "--plugin", "mine.py", "--plugin", "again.py"]) == 0
    out = capsys.readouterr().out
    assert "again.py" in out
    assert "shield: A shield." in out
    assert "options: epsilon=8, hidden=64x32" in out
    assert "location30" not in out
