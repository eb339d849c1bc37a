"""The pages of defenses and attacks are generated from the code, and the hand-written counts agree with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench.core.component import Option, attack, missing
from bench.games import MEMBERSHIP
from bench.report import component_pages
from bench.runner.registry import Registry, discover

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.mark.parametrize("folder", ["defenses", "attacks"])
def test_the_pages_of_components_are_those_of_the_code(
    folder: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / folder / "README.md"
    monkeypatch.chdir(ROOT)
    written = component_pages.rendered(page, registry)
    assert written == page.read_text(), "run `python -m bench.report.component_pages`"
    here = [one for one in registry.components if one.source.parent.name == folder]
    assert len(here) > 15
    for one in here:
        section = written.partition(f"\n## {one.name}\n")[2].partition("\n## ")[0]
        assert all(f"\n| `{option}` | " in section for option in one.options), one.name
        assert one.summary in " ".join(section.split()), one.name


def test_a_page_keeps_only_the_text_above_its_marker(registry: Registry, tmp_path: Path) -> None:
    page = tmp_path / "attacks" / "README.md"
    page.parent.mkdir()
    page.write_text(f"# Mine\n\n{component_pages.MARKER}\n\nan old word\n")
    written = component_pages.rendered(page, registry)
    assert written.startswith(f"# Mine\n\n{component_pages.MARKER}\n\n| attack ")
    assert "an old word" not in written
    page.write_text("# Mine\n")
    with pytest.raises(ValueError, match="has no line"):
        component_pages.rendered(page, registry)


def test_an_option_is_shown_with_its_meaning_default_and_range() -> None:
    @attack("tried", game=MEMBERSHIP, needs={"predict"})
    def tried(
        release: Any, targets: Any, public: Any, *, seed: int, k: int = 3, how: str = "a|b", x: float = 2.0
    ) -> Any:
        """What it does (Doe et al. 2020; Roe, Poe and van Moe 2021, section 3).

        Of GAN-Leaks, Chen et al. 2020, 2021.
        """

    component = tried.component  # type: ignore[attr-defined]
    described = {"k": Option("how many", at_least=1), "how": Option("in which way", one_of=("a|b", "c"))}
    object.__setattr__(component, "described", described)
    object.__setattr__(component, "source", Path("attacks/tried.py"))
    page = component_pages.attack_lines([component])
    assert "| `k` | `3` | whole number, at least 1 | how many |" in page
    assert "| `how` | `a\\|b` | `a\\|b`, `c` | in which way |" in page
    assert "| `x` | `2` | number | not documented |" in page
    assert any(line.startswith("| `of` | `private` | `private`, `public` | ") for line in page)
    assert component_pages.papers(component)[:3] == [
        "Doe et al. 2020",
        "Roe, Poe and van Moe 2021",
        "Chen et al. 2020, 2021",
    ]


def test_each_defense_is_listed_under_what_its_epsilon_covers(registry: Registry) -> None:
    """The hand-written table: every defense once, and "nothing" is covered exactly where no privacy is claimed."""
    page = (ROOT / "defenses" / "README.md").read_text().partition("| defenses | ε covers |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    covers = {name: covered.strip() for names, covered in rows for name in re.findall(r"`(\w+)`", names)}
    here = {one.name: one for one in registry.defenses.values() if one.source.parent.name == "defenses"}
    assert covers.keys() == here.keys()
    assert sum(len(re.findall(r"`\w+`", names)) for names, _ in rows) == len(here)
    for name, one in here.items():
        assert covers[name].startswith("nothing") is not one.private, name


def test_the_readme_counts_the_attacks_correctly(registry: Registry) -> None:
    page = " ".join((ROOT / "README.md").read_text().split())
    numbers = {11: "eleven", 12: "twelve", 13: "thirteen", 14: "fourteen"}
    membership = [one for one in registry.attacks.values() if one.game is MEMBERSHIP]
    defense, data = registry.defenses["dp_vaegm"], registry.data["digits"]
    played = sum(not missing(one, defense, data) for one in membership)
    assert f"attacks it in {numbers[played]} ways" in page
    assert f"The full table has {numbers[len(membership) - 1]} more attacks" in page
