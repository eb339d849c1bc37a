"""The pages of all defenses and attacks: what follows the marker in defenses/README.md and attacks/README.md.

`python -m bench.report.component_pages` rewrites that part from the registry; the text above the marker is edited by
hand. A test compares the committed pages with what this module writes.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.core.component import Component, Option, OptionValue, text
from bench.games import GAMES
from bench.runner.registry import Registry, discover
from bench.runner.selection import documented

MARKER = "<!-- From here on written by `python -m bench.report.component_pages`: do not edit. -->"
NAME = r"(?:van )?[A-Z][^\W\d_]*(?:-[A-Z][^\W\d_]*)*"
CITATION = re.compile(rf"{NAME}(?: et al\.|(?:, {NAME})*(?: and {NAME})?),? (?:1|2)\d{{3}}(?:, (?:1|2)\d{{3}})*")
TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text", tuple: "whole numbers, as in 64x32"}


def rendered(page: Path, registry: Registry) -> str:
    """The page of the folder `defenses` or `attacks`: the text above its marker is kept, the rest is written anew.

    Raises ValueError where the marker is missing.
    """
    above, marker, _ = page.read_text(encoding="utf-8").partition(MARKER)
    if not marker:
        raise ValueError(f"{page} has no line {MARKER!r}")
    if page.parent.name == "defenses":
        lines = defense_lines(_in_folder(registry.defenses.values(), "defenses"))
    else:
        lines = attack_lines(_in_folder(registry.attacks.values(), "attacks"))
    return f"{above}{marker}\n\n" + "\n".join(lines).rstrip() + "\n"


def papers(component: Component) -> list[str]:
    """The citations in the docstrings of a component and its file, each once."""
    words = " ".join([_of_file(component), inspect.getdoc(component.function) or ""])
    return list(dict.fromkeys(" ".join(found.split()) for found in CITATION.findall(" ".join(words.split()))))


def defense_lines(here: Sequence[Component]) -> list[str]:
    """A table of these defenses, then a section for each, line by line."""
    rows = [(f"[`{one.name}`](#{one.name})", _names(one.publishes), _claims(one), one.summary) for one in here]
    lines = [*table(("defense", "publishes", "claims differential privacy", "summary"), rows), ""]
    for one in here:
        public = "; ".join(one.public_knowledge)
        facts = [f"Publishes {_names(one.publishes)}.", f"Claims differential privacy: {_claims(one)}."]
        facts += [f"Takes for public: {public}."] if public else []
        lines += _section(one, facts)
    return lines


def attack_lines(here: Sequence[Component]) -> list[str]:
    """A table of these attacks, then a section for each, line by line."""
    rows = [(f"[`{one.name}`](#{one.name})", _game(one), _names(one.needs), one.summary) for one in here]
    lines = [*table(("attack", "game", "needs", "summary"), rows), ""]
    for one in here:
        lines += _section(one, [f"Plays `{_game(one)}`.", f"Needs {_names(one.needs)}."])
    return lines


def _section(component: Component, facts: Sequence[str]) -> list[str]:
    """Heading, what the docstrings say, accesses and papers, and the table of options."""
    cited = papers(component)
    lines = [f"## {component.name}", "", *_paragraphs(component), " ".join(facts)]
    lines += [f"Papers: {'; '.join(cited)}."] if cited else []
    lines += [f"Source: [{component.source.name}]({component.source.name}).", ""]
    rows = []
    known = documented(component)
    for name, default in component.options.items():
        option = known.get(name)
        meaning = option.meaning if option is not None else "not documented"
        rows.append((f"`{name}`", _default(default), _range(option, default), meaning))
    return [*lines, *(table(("option", "default", "range", "meaning"), rows) if rows else ["No options."]), ""]


def _paragraphs(component: Component) -> list[str]:
    """The docstring of the file, then that of the function, a line per paragraph."""
    whole = "\n\n".join([_of_file(component), inspect.getdoc(component.function) or ""])
    found = (" ".join(part.split()) for part in re.split(r"\n\s*\n", whole))
    return [line for part in dict.fromkeys(found) if part for line in (part, "")]


def _of_file(component: Component) -> str:
    return inspect.getdoc(sys.modules[component.function.__module__]) or ""


def _default(value: OptionValue) -> str:
    return f"`{text(value)}`" if text(value) else "none"


def _range(option: Option | None, default: OptionValue) -> str:
    """The words that are allowed, or the type and its limits."""
    if option is not None and option.one_of:
        return ", ".join(f"`{word}`" for word in option.one_of)
    limits = option.limits if option is not None else ""
    return f"{TYPES[type(default)]}, {limits}" if limits else TYPES[type(default)]


def _in_folder(components: Iterable[Component], folder: str) -> list[Component]:
    """The components of a folder of this repository, attacks by game; those of plugins and packages are left out."""
    games = list(GAMES)
    here = [one for one in components if one.source.parent.name == folder]
    return sorted(here, key=lambda one: (games.index(one.game.name) if one.game else 0, one.name))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown; cells may hold links, since every word here comes from this repository's files."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _names(accesses: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(accesses)) or "nothing"


def _claims(defense: Component) -> str:
    return "yes" if defense.private else "no"


def _game(attack: Component) -> str:
    return attack.game.name if attack.game else ""


def main() -> None:
    """Rewrite both pages of the checkout that this file belongs to."""
    root = Path(__file__).resolve().parents[2]
    registry = discover()
    for folder in ("defenses", "attacks"):
        page = root / folder / "README.md"
        page.write_text(rendered(page, registry), encoding="utf-8")


if __name__ == "__main__":
    main()
