"""Why a stored cell is stale: what changed since it was measured, one line per change."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.component import text
from bench.core.errors import UserError, suggest
from bench.store import code_release
from bench.store.freshness import Find, components, freshness, versions
from bench.store.records import CellResult

if TYPE_CHECKING:
    from bench.core.component import Component
    from bench.store.store import Store

FRESH = "fresh: nothing changed"
ELSEWHERE = "measured on another machine"


def find(store: Store, words: str) -> CellResult:
    """The cell of `data/defense/attack/seed`, as labels, as folders or as the path of the file.

    Raises UserError with the nearest stored name where there is none.
    """
    by_name = {"/".join(map(str, _name(result))): result for result in store.results()}
    if words in by_name:
        return by_name[words]
    requested = Path(words).resolve(), (store.root / f"{words.strip('/')}.json").resolve()
    for result in by_name.values():
        if store.path(*_name(result)).resolve() in requested:
            return result
    if Path(words).is_file():
        raise UserError(f"{words} is no cell of {store.root}: give --results the folder that it belongs to.")
    hint = suggest(words, by_name) if by_name else "nothing is."
    if hint.startswith("known"):  # there are thousands
        hint = f"write data/defense/attack/seed, as in {min(by_name)}."
    raise UserError(f"{words} is not stored in {store.root}: {hint}")


def changes(store: Store, result: CellResult, find: Find, machine: str) -> list[str]:
    """What changed since a cell was measured, or that it was measured elsewhere; empty for one that is done."""
    kinds = {"data": result.data, "defense": result.defense, "attack": result.attack}
    found = dict(zip(kinds, components(find, result), strict=True))
    if gone := [f"the {kind} {kinds[kind].partition(',')[0]!r} is gone" for kind in kinds if not found[kind]]:
        return gone
    if freshness(find)(result):
        return [] if result.machine == machine else [ELSEWHERE]
    known = [component for component in found.values() if component]
    said = [
        f"{kind} option {change}"
        for kind, component in zip(kinds, known, strict=True)
        for change in _differences(_texts(result.options[kind]), _today(kinds[kind], component.options))
    ]
    said += [f"code of {change}" for change in _code(store, result, known)]
    said += [f"version of {change}" for change in _differences(result.versions, versions())]
    return said or ["its seed, its options or its digest were edited: nothing else that it records changed"]


def _code(store: Store, result: CellResult, known: Sequence[Component]) -> Iterator[str]:
    """Which of the files that the cell reaches were others when it was measured."""
    before = code_release.load(store, result.code)
    if before is None:
        return
    now = code_release.today(known)
    yield from _differences(code_release.reached(before, known), code_release.reached(now, known), with_values=False)


def _texts(options: Mapping[str, Any]) -> dict[str, str]:
    return {name: text(tuple(value) if isinstance(value, list) else value) for name, value in options.items()}


def _today(label: str, defaults: Mapping[str, Any]) -> dict[str, str]:
    """What the options of a label would be today: as it says itself, else by default."""
    stated = dict(word.split("=", 1) for word in label.split(",")[1:])
    return {name: stated.get(name, default) for name, default in _texts(defaults).items()}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], *, with_values: bool = True) -> Iterator[str]:
    """One line per name whose value changed; with_values: both values are shown, which say nothing of a digest."""
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"{name} no longer counts" + (f" (was {old[name]})" if with_values else "")
        elif name not in old:
            yield f"{name} counts now" + (f" ({new[name]})" if with_values else "")
        elif old[name] != new[name]:
            yield f"{name} changed" + (f": {old[name]} -> {new[name]}" if with_values else "")


def explain(store: Store, result: CellResult, find: Find, machine: str) -> list[str]:
    """One line per change, and last what to do."""
    said = changes(store, result, find, machine)
    if not said:
        return [FRESH]
    if any(line.endswith(" is gone") for line in said):
        return [*said, "give the --plugin that it came from, or delete the file"]
    words = {"data": result.data, "defense": result.defense, "attack": result.attack, "seeds": result.seed}
    again = " ".join(["bench run", *(f"--{word} {shlex.quote(str(value))}" for word, value in words.items())])
    if said == [ELSEWHERE]:
        return [*said, f"`--reuse-committed` takes it as done; `{again}` measures it here"]
    return [*said, f"`{again}` measures it again"]


def summary(store: Store, find: Find) -> list[str]:
    """How many stored cells each change concerns, most first; a cell counts under all of its changes."""
    results, machine = store.results(), store.known_machine
    said = [changes(store, result, find, machine) for result in results]
    counts = Counter(line for lines in said for line in lines)
    stale = sum(bool(lines) and lines != [ELSEWHERE] for lines in said)
    lines = [f"{len(results)} cells stored, {stale} of them stale"]
    lines += [f"{count:>6}  {line}" for line, count in counts.most_common()]
    return [*lines, "`bench why CELL` says what to do about one, `bench plan` what measuring them again costs"]


def _name(result: CellResult) -> tuple[str, str, str, int]:
    return result.data, result.defense, result.attack, result.seed
