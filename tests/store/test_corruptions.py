"""Corrupted records of every kind are refused or harmless, and no leaderboard changes silently.

By default a tenth of the corruptions is tried; `pytest -m slow tests/store/test_corruptions.py` tries all.
"""

from __future__ import annotations

import contextlib
import csv
import io
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from cells import cell
from msgspec.structs import replace
from processes import shares
from samples import AUDITED, CONTROL, RECORDS, SCORED, VERDICT, places, put, values

from bench.cli.main import main
from bench.report import csv as csv_page
from bench.report import markdown, terminal
from bench.report.aggregate import build
from bench.report.comparisons import FILE
from bench.store.read_write import SEAL, Damaged, decode, difference, encode, seal_of, sealed
from bench.store.records import KINDS
from bench.store.store import Store


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A file as a disk, an editor or a merge may damage it."""
    at, to = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    kind = rng.randrange(8)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[to:]
    if kind == 2:
        return data[:to] + data[at:]
    if kind == 3:
        return data[:at] + rng.randbytes(rng.randrange(1, 40)) + data[at:]
    if kind == 4:
        return data[:at] + bytes(to - at) + data[to:]
    corrupted = bytearray(data)
    for _ in range(1 if kind < 7 else 20):
        corrupted[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(corrupted)


ODD: tuple[Any, ...] = (
    -1, 0, 1, 2, 0.5, 7.25, 1e15, 1e290, -1e290, 10**30, True, False, None, "", "inf", "nan", "much", "\ud800",
    "\x1b[31m", "a\nb", "x" * 3000, [], [[]], {}, {"value": 1}, {"not_measurable": "x"}, [1, 2], ["a"],
    {"value": 0.5, "low": 0.4, "high": 0.6}, {"a": {"b": {}}},
)  # fmt: skip


def changed(rng: random.Random, found: Any) -> Any:
    """Plain values of a record with one of them replaced, deleted or moved to another place."""
    where = [at for at, _ in places(found) if at]
    at, kind = rng.choice(where), rng.randrange(4)
    if kind == 0:
        return put(found, at, ...)
    if kind == 1:
        value = found
        for key in rng.choice(where):
            value = value[key]
        return put(found, at, value)
    return put(found, at, rng.choice(ODD))


def show(records: Iterable[Any], folder: Path) -> None:
    """Write and print every page that shows these records."""
    store = Store(folder)
    for record in records:
        store.save(record)
    leaderboard = build(store, None)
    markdown.write(leaderboard, store)
    csv_page.write(leaderboard, store)
    with contextlib.redirect_stdout(io.StringIO()):
        terminal.show(leaderboard)
    shutil.rmtree(folder)


@shares
@pytest.mark.parametrize("kind", KINDS)
def test_20_000_corruptions_are_refused_or_harmless(tmp_path: Path, kind: str, share: float) -> None:
    """Damaged bytes never decode to another record; changed values under a valid seal are refused or can be shown."""
    rng, record = random.Random(0), RECORDS[kind]
    data, found = encode(record), values(record)
    repeats, passed = round(20_000 * share / len(KINDS) / 2), 0
    for _ in range(repeats):
        corrupted = damaged(rng, data)
        with contextlib.suppress(Damaged):
            assert decode(KINDS[kind], corrupted) == record
            assert corrupted == data
    for _ in range(repeats):
        try:
            again = decode(KINDS[kind], sealed(changed(rng, found)))
        except Damaged:
            continue
        passed += 1
        assert decode(KINDS[kind], encode(again)) == again
        if kind in ("cell", "score") and passed % 3 == 0:
            more = [replace(record, seed=1)] if kind == "cell" else []
            show([again, *more], tmp_path / "one")
        assert str(again)
    assert passed < repeats / 2


def a_store(root: Path) -> Store:
    """Cells of three defenses on two seeds, and a record of every other kind."""
    store = Store(root)
    for seed in (0, 1):
        for defense, auc, epsilon in (("none", 0.8, float("inf")), ("dp_sgd", 0.6, 8.0), ("dp_augm", 0.55, 8.0)):
            store.save(cell(defense, "confidence", seed, auc=auc, epsilon=epsilon, digest=f"{defense}{seed}"))
    for record in (replace(CONTROL, attack="confidence"), VERDICT, AUDITED, SCORED):
        store.save(record)
    return store


def table(store: Store, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """All pages that `bench table` writes, and its messages."""
    for name in PAGES:
        (store.root / name).unlink(missing_ok=True)
    assert main(["table", "--results", str(store.root)]) in (0, 3)
    return "\n".join((store.root / name).read_text() for name in PAGES), capsys.readouterr().err


PAGES = ("leaderboard.md", "leaderboard.csv", "audit.md", "digits/details.md")


def as_if_paired(path: Path) -> None:
    """Mark every stored difference as paired."""
    rows = list(csv.DictReader(path.open()))
    with path.open("w") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(rows[0])
        for row in rows:
            row.pop(SEAL)
            one = replace(difference(row), paired=True)
            lines.writerow([*(getattr(one, name) for name in one.__struct_fields__), seal_of(one)])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Store:
    """A folder with a record of every kind, all fresh, and without messages."""
    monkeypatch.setattr("bench.report.publish.freshness", lambda find: lambda result: True)
    found = a_store(tmp_path / "results")
    table(found, capsys)
    as_if_paired(found.root / FILE)
    assert table(found, capsys)[1] == ""
    return found


@shares
def test_no_corruption_of_a_folder_changes_a_leaderboard_silently(
    store: Store, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bench table` writes an unchanged leaderboard or reports what it left out."""
    rng, before = random.Random(1), table(store, capsys)[0]
    differences = (store.root / FILE).read_bytes()
    files = [*sorted(store.root.rglob("*.json")), *[store.root / FILE] * 4]
    for _ in range(round(300 * share)):
        path = rng.choice(files)
        whole = path.read_bytes()
        path.write_bytes(damaged(rng, whole))
        after, note = table(store, capsys)
        assert after == before or "left out" in note or "differences rest on" in note or "damaged" in after, path
        assert "Traceback" not in note
        path.write_bytes(whole)
        (store.root / FILE).write_bytes(differences)
    assert table(store, capsys)[0] == before


def test_p_written_into_the_table_of_differences_moves_no_rank(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """An earlier version ranked by edited p-values without a message."""
    before, path = table(store, capsys)[0], store.root / FILE
    rows = list(csv.DictReader(path.open()))
    path.write_text(",".join(rows[0]) + "\n" + "".join(_line(row | {"p": "0.5"}) for row in rows))
    after, note = table(store, capsys)
    assert f"{len(rows)} of its {len(rows)} lines are damaged" in note
    assert note.count("differences rest on") == 1
    assert after == before
    path.write_text(",".join(rows[0]) + "\n" + "".join(map(_line, rows)))
    assert table(store, capsys) == (before, "")


def _line(row: dict[str, str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row.values())
    return text.getvalue()
