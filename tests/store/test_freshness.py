"""A stored record is fresh while what it depends on is the same; which code that is stands in tests/core."""

from __future__ import annotations

from pathlib import Path

import pytest
from cells import cell
from conftest import components

from bench.core.source_code import BENCH, reached
from bench.runner.selection import choose
from bench.store import freshness
from bench.store.freshness import cell_digest, sources


def test_files_of_the_user_count_for_their_own_cells(tmp_path: Path) -> None:
    known = components()
    attacked = (known.defenses["none"], known.attacks["confidence"])
    (tmp_path / "my.csv").write_text("a,label\n1,x\n2,x\n3,y\n4,y\n")
    [mine] = choose(known, "data", str(tmp_path / "my.csv"))
    parser = {BENCH / "data/user_file.py", BENCH / "data/user_file_parser.py"}
    for data in known.data.values():
        assert not parser & reached(sources((data, *attacked)))
    assert parser <= reached(sources((mine.component, *attacked)))
    again = known.find("data", "my.csv")
    assert again
    assert cell_digest((mine.component, *attacked), {}, 0) == cell_digest((again, *attacked), {}, 0)


def test_an_insider_reaches_collaborative_learning_and_a_threshold_does_not() -> None:
    known = components()

    def files(defense: str, attack: str) -> set[str]:
        parts = known.data["digits"], known.defenses[defense], known.attacks[attack]
        return {path.relative_to(BENCH.parent).as_posix() for path in reached(sources(parts))}

    insider, plain = files("federated", "insider_gan"), files("none", "confidence")
    assert {"bench/models/federated/server.py", "bench/games/gan_leakage.py", "attacks/insider_gan.py"} <= insider
    assert {"bench/games/membership.py", "bench/dp/training_loop.py", "bench/runner/play.py"} <= plain
    assert not {"bench/models/federated/server.py", "bench/games/shadow_models.py", "bench/models/ssim.py"} & plain


@pytest.mark.parametrize("change", ["option", "seed", "versions", "name"])
def test_what_else_a_cell_depends_on(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = components()
    parts = known.data["digits"], known.defenses["none"], known.attacks["confidence"]
    before = cell_digest(parts, {"defense": {"steps": 1}}, 0)
    assert cell_digest(parts, {"defense": {"steps": 1}}, 0) == before
    if change == "versions":
        monkeypatch.setattr(freshness, "versions", lambda: {"numpy": "0"})
        freshness._code_and_versions.cache_clear()
    other = known.data["digits"], known.defenses["none"], known.attacks["entropy"]
    options = {"defense": {"steps": 2 if change == "option" else 1}}
    after = cell_digest(other if change == "name" else parts, options, int(change == "seed"))
    freshness._code_and_versions.cache_clear()
    assert after != before


def test_a_cell_whose_component_is_gone_is_stale() -> None:
    assert not freshness.freshness(components().find)(cell(defense="gone"))
