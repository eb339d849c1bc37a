"""A board in a YAML file: the same words as the flags of `bench run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.component import text
from bench.errors import UserError, nearest

Setting = str | list[str] | bool


def read(path: Path, words: Mapping[str, type]) -> dict[str, Setting]:
    """Read a YAML mapping whose keys are in `words`; each value comes back as the type there: str, list or bool.

    Raises UserError, naming the line or the key, for anything else.
    """
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"the configuration {path} cannot be read ({why}): give the path of a YAML file.") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise UserError(f"the configuration {path} is not valid YAML{where}: {what}.") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UserError(f"the configuration {path} must hold `word: value` lines, as in `seeds: 0-4`.")
    for key in loaded:
        if key not in words:
            raise UserError(f"the configuration {path} has the unknown word {key!r}: {nearest(str(key), words)}")
    return {key: _setting(path, key, value, words[key]) for key, value in loaded.items()}


def _setting(path: Path, key: str, value: object, wanted: type) -> Setting:
    if wanted is bool:
        if not isinstance(value, bool):
            raise UserError(f"`{key}` in {path} must be true or false.")
        return value
    items: Sequence[object] = value if isinstance(value, list) else [value]
    simple = [text(item) for item in items if isinstance(item, str | int | float) and not isinstance(item, bool)]
    if not simple or len(simple) != len(items):
        raise UserError(f"`{key}` in {path} must be a text, a number or a list of them.")
    return simple if wanted is list else ",".join(simple)
