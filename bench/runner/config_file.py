"""The cells of a run in a YAML file: the words of `bench run`'s flags, once or, below `parts`, several times."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.core.component import text
from bench.core.errors import UserError, suggest
from bench.core.files import read_regular

Setting = str | list[str] | bool
PARTS = "parts"
RENAMED = {"accept-published": "reuse-committed"}
LONGEST = 1 << 20  # bytes
Settings = dict[str, Setting]


def read(path: Path, words: Mapping[str, type], of_parts: Container[str]) -> tuple[Settings, list[Settings]]:
    """Read a YAML mapping whose keys are in `words`; each value comes back as the type there: str, list or bool.

    The list `parts`, if there is one, holds mappings of the words `of_parts`; what they leave out, the words beside the
    list say. Returns all that stands beside it, and the parts ([{}] where there is no list). Raises UserError, naming
    the line or the key, for anything else.
    """
    import yaml

    try:
        loaded = yaml.load(_text(path), Loader=_loader())
    except RecursionError:
        raise UserError(f"the configuration {path} is nested too deeply: write `word: value` lines.") from None
    except OSError as error:
        raise UserError(
            f"the configuration {path} cannot be read ({error.strerror}): give the path of a YAML file."
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise UserError(f"the configuration {path} is not valid YAML{where}: {what}.") from error
    if not loaded:
        raise UserError(f"the configuration {path} is empty: write `setting: value` lines, as in `seeds: 0-4`.")
    if not isinstance(loaded, dict):
        raise UserError(f"the configuration {path} must hold `word: value` lines, as in `seeds: 0-4`.")
    parts = loaded.pop(PARTS, [{}])
    if not (isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts)):
        raise UserError(f"`{PARTS}` in {path} must be a list of parts, each of `word: value` lines.")
    own = {word: kind for word, kind in words.items() if word in of_parts}
    shared = typed(path, loaded, {**words, PARTS: list})
    return shared, [typed(path, part, own) for part in parts]


def _text(path: Path) -> str:
    """The text of a file of sane size. Raises UserError for any other, OSError where it cannot be read."""
    try:
        return read_regular(path, LONGEST).decode()
    except ValueError as error:
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise UserError(f"the configuration {path} cannot be read ({why}): give the path of a YAML file.") from None


def _loader() -> Any:
    """YAML's safe loader, which here refuses a word that stands twice: it would keep the last one silently."""
    import yaml

    class Once(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set[str]()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.value in seen:
                    problem = f"{key.value!r} stands there again, and once with a list says the same"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep=deep)

    return Once


def typed(path: Path | str, given: Mapping[Any, object], words: Mapping[str, type]) -> Settings:
    """The words of one part, each value as the type in `words`: str, list or bool. Raises UserError, naming `path`."""
    found = {}
    for key, value in given.items():
        if not isinstance(key, str) or key not in words:
            hint = f"it is now called {RENAMED[key]!r}." if key in RENAMED else suggest(str(key), words)
            raise UserError(f"the configuration {path} has the unknown word {key!r}: {hint}")
        found[key] = _setting(path, key, value, words[key])
    return found


def _setting(path: Path | str, key: str, value: object, wanted: type) -> Setting:
    if wanted is bool:
        if not isinstance(value, bool):
            raise UserError(f"`{key}` in {path} must be true or false.")
        return value
    items: Sequence[object] = value if isinstance(value, list) else [value]
    simple = [text(item) for item in items if isinstance(item, str | int | float) and not isinstance(item, bool)]
    if not simple or len(simple) != len(items):
        raise UserError(f"`{key}` in {path} must be a text, a number or a list of them.")
    return simple if wanted is list else ",".join(simple)
