"""What a cell depends on: the rooms that its components import, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import components

from bench.runner.run import cell
from bench.runner.selection import choose

HERE = Path(cell.__file__).parent


def rooms(defense: str, attack: str) -> set[str]:
    known = components()
    return set(cell.code(known.data["digits"], known.defenses[defense], known.attacks[attack]))


def test_a_cell_depends_on_what_its_components_import_and_on_what_that_imports() -> None:
    insider = rooms("federated", "insider_gan")
    assert {
        "bench/models/federated/protocol.py",
        "bench/models/federated/server.py",
        "game/gan_leakage.py",
        "bench/models/ssim.py",
    } <= insider
    plain = rooms("none", "confidence")
    assert {"bench/games/metrics.py", "bench/dp/training_loop.py", "game/membership.py"} <= plain
    assert not {"bench/models/federated/protocol.py", "bench/games/shadow_models.py", "bench/models/ssim.py"} & plain
    assert "bench/games/shadow_models.py" in rooms("none", "lira")


def test_a_data_set_in_a_file_of_its_own_counts_for_its_own_cells(tmp_path: Path) -> None:
    known = components()
    plain = (known.defenses["none"], known.attacks["confidence"])
    (tmp_path / "my.csv").write_text("a,label\n1,x\n2,x\n3,y\n4,y\n")
    [mine] = choose(known, "data", str(tmp_path / "my.csv"))
    of = {name: set(cell.code(data, *plain)) for name, data in known.data.items()} | {
        "mine": set(cell.code(mine.component, *plain))
    }
    assert [name for name in of if "data/randhie.py" in of[name]] == ["randhie"]
    assert [name for name in of if {"bench/data/user_file.py", "bench/data/user_file_parser.py"} & of[name]] == ["mine"]
    assert cell.code(mine.component, *plain) == cell.code(known.find("data", "my.csv"), *plain)


def test_what_only_reads_or_draws_decides_nothing() -> None:
    read = {f"bench/{name}.py" for name in cell.PLAIN}
    for attack in components().attacks:
        assert not rooms("none", attack) & read, attack


def test_every_room_is_named_once_and_exists() -> None:
    for name in (*cell.SCIENCE, *cell.PLAIN):
        assert (HERE / f"{name}.py").is_file(), name
    assert not set(cell.SCIENCE) & set(cell.PLAIN)


def test_rooms_that_import_one_another_are_followed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell, "HERE", tmp_path)
    (tmp_path / "one.py").write_text("from bench import two\n")
    (tmp_path / "two.py").write_text("import bench.one\nfrom bench.three import x\n")
    (tmp_path / "three.py").write_text("import bench.report.leaderboard\n")
    (tmp_path / "start.py").write_text("def later():\n    from bench.one import y\n")
    assert cell._rooms(tmp_path / "start.py") == {"one", "two", "three"}
