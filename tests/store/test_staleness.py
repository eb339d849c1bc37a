"""The reasons why a stored cell is stale: each kind of change is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cells import cell as made
from conftest import components

from bench.cli.main import main
from bench.core import source_code
from bench.core.digest import digest
from bench.core.errors import UserError
from bench.runner.cell import Cell
from bench.runner.registry import Registry, discover
from bench.runner.selection import choose
from bench.store import code_release, freshness, staleness
from bench.store.freshness import versions
from bench.store.read_write import sealed
from bench.store.records import CellResult
from bench.store.store import CODE, Store

LABELS = ("digits,holdout=60,private=60", "dp_vaegm,epsilon=1,hidden=8x4", "lira,of=public,shadows=4")
PLUGIN = '''
from bench.core.component import defense

@defense("shield", publishes={"predict"})
def shield(private, public, *, seed, strength=1.0):
    """A shield."""
    return 1
'''


def fresh(
    kept: Store, registry: Registry, data: str, defense: str, attack: str, seed: int = 0, **changed: Any
) -> CellResult:
    """Store a cell that counts as measured here by the present code."""
    [d], [e] = choose(registry, "data", data), choose(registry, "defense", defense)
    [a] = choose(registry, "attack", attack)
    cell = Cell(d, e, a, seed)
    values: dict[str, Any] = {
        "options": cell.options, "digest": cell.digest(), "versions": versions(), "machine": kept.machine,
        "code": code_release.keep(kept, (d.component, e.component, a.component)),
    }  # fmt: skip
    result = made(e.label, a.label, seed, data=d.label, **{**values, **changed})
    kept.save(result)
    return result


@pytest.fixture
def kept(results: Path) -> Store:
    found = Store(results)
    fresh(found, components(), *LABELS)
    return found


def edit(kept: Store, change: Callable[[dict[str, Any]], object]) -> Path:
    """Rewrite the stored cell as if it had been measured under other conditions."""
    path = kept.path(*LABELS, 0)
    values = json.loads(path.read_bytes())
    change(values)
    values["digest"] = "0" * 32
    path.write_bytes(sealed(values))
    return path


Files = dict[str, tuple[str, list[str]]]


def recode(kept: Store, change: Callable[[Files], object]) -> None:
    """Rewrite the list of source files of the stored cell as another version of the code would have it."""
    [result] = [one for one in kept.results() if one.seed == 0]
    files = code_release.load(kept, result.code)
    assert files is not None
    files = dict(files)
    change(files)
    name = digest(files)
    (kept.root / CODE / f"{name}.json").write_text(json.dumps(files))
    edit(kept, lambda values: values.update(code=name))


def test_reading_creates_no_folder(kept: Store, tmp_path: Path) -> None:
    """As for cells in a read-only folder."""
    elsewhere = Store(tmp_path / "elsewhere")
    elsewhere.save(kept.results()[0])
    assert staleness.summary(elsewhere, components().find)[1].endswith(staleness.ELSEWHERE)
    assert main(["why", "--results", str(elsewhere.root)]) == 0
    assert elsewhere.known_machine == ""
    assert not (elsewhere.root / ".local").exists()
    assert elsewhere.machine == elsewhere.known_machine != ""


def test_an_unknown_cell_name_is_answered_with_an_example(kept: Store) -> None:
    with pytest.raises(UserError, match=r"write data/defense/attack/seed, as in digits,\S*/0\.$"):
        staleness.find(kept, "xyz")


def explained(kept: Store, words: str = "/".join((*LABELS, "0"))) -> list[str]:
    return staleness.explain(kept, staleness.find(kept, words), components().find, kept.machine)


def test_an_unchanged_cell_is_fresh(kept: Store) -> None:
    assert explained(kept) == ["fresh: nothing changed"]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "data option": (lambda v: v["options"]["data"].update(public=3), "data option public changed: 3 -> "),
    "defense option": (
        lambda v: v["options"]["defense"].update(latent_dim=99), "defense option latent_dim changed: 99 -> 8"
    ),
    "several numbers": (
        lambda v: v["options"]["defense"].update(hidden=[8, 5]), "defense option hidden changed: 8x5 -> 8x4"
    ),
    "attack option": (
        lambda v: v["options"]["attack"].update(online=False), "attack option online changed: false -> true"
    ),
    "new option": (lambda v: v["options"]["attack"].pop("online"), "attack option online counts now (true)"),
    "option gone": (lambda v: v["options"]["attack"].update(old=2.0), "attack option old no longer counts (was 2)"),
    "version": (lambda v: v["versions"].update(numpy="1.0"), f"version of numpy changed: 1.0 -> {versions()['numpy']}"),
    "nothing else": (lambda v: None, "its seed, its options or its digest were edited"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "line"), CHANGES.values(), ids=CHANGES)
def test_each_change_is_one_line_and_the_last_says_what_to_do(
    kept: Store, change: Callable[[dict[str, Any]], object], line: str
) -> None:
    edit(kept, change)
    found, last = explained(kept)
    assert found.startswith(line)
    assert last.startswith("`bench run --data digits,holdout=60,private=60 --defense dp_vaegm,epsilon=1,hidden=8x4 ")
    assert last.endswith("--seeds 0` measures it again")


NETWORKS = "bench/dp/networks.py"


def _more(files: Files) -> None:
    content, imports = files[NETWORKS]
    files |= {NETWORKS: (content, [*imports, "bench/old.py"]), "bench/old.py": ("1", [])}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda files: files.update({NETWORKS: ("1", files[NETWORKS][1])}), f"code of {NETWORKS} changed"),
        (_more, "code of bench/old.py no longer counts"),
        (lambda files: files.pop(NETWORKS), f"code of {NETWORKS} counts now"),
    ],
)
def test_each_file_that_changed_is_one_line(kept: Store, change: Callable[[Files], object], line: str) -> None:
    recode(kept, change)
    found, last = explained(kept)
    assert found == line
    assert last.endswith("measures it again")


def test_a_changed_file_that_the_cell_does_not_reach_is_not_named(kept: Store) -> None:
    recode(kept, lambda files: files.update({"attacks/rmia.py": ("1", [])}))
    assert explained(kept)[0].startswith("its seed, its options or its digest were edited")


@pytest.mark.parametrize("damaged", [b"", b"[" * 200_000, b"\xff", b"{}", b'{"a": 1}'])
def test_a_damaged_list_of_files_names_none(kept: Store, damaged: bytes) -> None:
    edit(kept, lambda values: None)
    for path in (kept.root / CODE).iterdir():
        path.write_bytes(damaged)
    assert explained(kept)[0].startswith("its seed, its options or its digest were edited")


def test_several_changes_are_several_lines(kept: Store) -> None:
    def change(files: Files) -> None:
        for name in (NETWORKS, "attacks/lira.py"):
            files[name] = ("1", files[name][1])

    recode(kept, change)
    edit(kept, lambda values: values["versions"].update(scipy="0.1"))
    assert [line.split(" changed")[0] for line in explained(kept)[:-1]] == [
        "code of attacks/lira.py", f"code of {NETWORKS}", "version of scipy",
    ]  # fmt: skip


def test_a_file_whose_seed_contradicts_its_name_is_refused(kept: Store) -> None:
    path = edit(kept, lambda values: values.update(seed=1))
    with pytest.warns(UserWarning, match="the record of another file"), pytest.raises(UserError, match="is no cell of"):
        explained(kept, str(path))


def test_a_cell_of_another_machine_names_the_flag_that_accepts_it(kept: Store) -> None:
    fresh(kept, components(), *LABELS, machine="f" * 32)
    found, last = explained(kept)
    assert found == staleness.ELSEWHERE
    assert "--reuse-committed" in last


def test_changed_code_and_a_removed_component_are_named(results: Path, tmp_path: Path) -> None:
    plugin, kept = tmp_path / "plugin.py", Store(results)
    plugin.write_text(PLUGIN)
    fresh(kept, discover([plugin]), "digits", "shield", "confidence")
    plugin.write_text(PLUGIN.replace("return 1", "return 2"))
    for one in (source_code._facts, source_code._code_digest, freshness._code_and_versions):
        one.cache_clear()  # as in another process
    result = staleness.find(kept, "digits/shield/confidence/0")
    find = discover([plugin]).find
    assert staleness.changes(kept, result, find, kept.machine) == ["code of plugin/plugin.py changed"]
    gone, last = staleness.explain(kept, result, components().find, kept.machine)
    assert gone == "the defense 'shield' is gone"
    assert "--plugin" in last


def test_a_cell_is_found_by_labels_by_folders_and_by_its_file(
    kept: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = made("shield,path=a/b,c=1=2", "confidence", 3, data="digits,private=600")
    kept.save(odd)
    path = kept.path("digits,private=600", odd.defense, "confidence", 3)
    folders = path.relative_to(kept.root).with_suffix("")
    assert "%2F" in str(folders)
    monkeypatch.chdir(kept.root.parent)
    near = str(path.relative_to(kept.root.parent))
    for words in (str(path), near, str(folders), f"digits,private=600/{odd.defense}/confidence/3"):
        assert staleness.find(kept, words) == odd
    assert main(["why", "--results", str(kept.root), near]) == 0
    assert "the defense 'shield' is gone" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["digits/nane/confidence/0", "digits/none/confidence", "digits/none/confidence/00"])
def test_an_unknown_cell_suggests_a_similar_one_and_exits_with_2(
    kept: Store, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.save(made())
    assert main(["why", "--results", str(kept.root), words]) == 2
    err = capsys.readouterr().err
    assert "did you mean 'digits/none/confidence/0'" in err
    assert err.count("\n") == 1


def test_where_nothing_is_stored(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.mkdir()
    assert main(["why", "--results", str(results), "digits/none/confidence/0"]) == 2
    assert main(["why", "--results", str(results)]) == 0
    assert "0 cells stored" in capsys.readouterr().out
    assert main(["why", "--results", str(results / "missing")]) == 2


@pytest.mark.parametrize("word", [[], ["all"]])
def test_without_a_cell_causes_are_counted(kept: Store, word: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        fresh(kept, components(), *LABELS, seed, digest="0" * 32, versions={**versions(), "numpy": "1.0"})
    fresh(kept, components(), *LABELS, 3, machine="f" * 32)
    recode(kept, lambda files: files.update({NETWORKS: ("1", files[NETWORKS][1])}))
    assert main(["why", "--results", str(kept.root), *word]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 cells stored, 3 of them stale"
    assert lines[1].split(maxsplit=1) == ["2", f"version of numpy changed: 1.0 -> {versions()['numpy']}"]
    assert sorted(line.split(maxsplit=1)[1] for line in lines[2:4]) == [
        "code of bench/dp/networks.py changed",
        staleness.ELSEWHERE,
    ]
