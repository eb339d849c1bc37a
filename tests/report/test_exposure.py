"""Which records are identified by which attacks under which defenses."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.cli.main import main
from bench.core.errors import UserError
from bench.games import metrics, paired
from bench.report.exposure import export
from bench.store.store import Store
from tests.cells import cell

N = 200


def keep(store: Store, defense: str, attack: str, found: set[int], **changed: Any) -> Any:
    """A cell whose attack gives the members `found` a score that no non-member has."""
    member = np.arange(2 * N) % 2 == 0
    score = np.random.default_rng(len(attack)).random(2 * N)
    for i in found:
        score[2 * i] = 2 + i
    result = cell(defense, attack, auc=metrics.auc(score, member)["value"], **changed)
    names = np.array([i.to_bytes(8, "big") for i in range(N)], "V8")
    answers = paired.auc_units(score, member) | {"records": names}
    store.save_answers((result.data, defense, attack, result.seed), answers)
    store.save(result)
    return result


def test_counts_are_those_of_a_loop_over_records(tmp_path: Path) -> None:
    store = Store(tmp_path)
    results = [
        keep(store, "none", "confidence", set(range(40))),
        keep(store, "none", "lira", set(range(90))),
        keep(store, "a", "confidence", {1, 2, 3, *range(100, 130)}, epsilon=1.0),
        keep(store, "constant", "confidence", set(), epsilon=0.0),
        keep(store, "b", "confidence,of=public", set(range(N))),
        keep(store, "c", "insider", set(range(N)), game="gan_leakage"),
    ]
    paths, [found] = export(store, results, 0.01)
    with gzip.open(paths[0], "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert paths[0].read_bytes()[4:8] == bytes(4), "no time of writing: same lines, same bytes"
    played = {("none", "confidence"), ("none", "lira"), ("a", "confidence")}
    assert {(row["defense"], row["attack"]) for row in rows} == played
    assert len(rows) == 3 * N
    of_a, lira = (
        {row["record"] for row in rows if (row["defense"], row["attack"], row["found"]) == (*which, "1")}
        for which in (("a", "confidence"), ("none", "lira"))
    )
    assert {int(record, 16) for record in of_a} >= {1, 2, 3, 100}
    assert found.defenses == ("a", "none")
    both = lira & of_a
    assert set(found.always) == both
    assert {int(name, 16) for name in both} >= {1, 2, 3}
    one = len(lira | of_a) - len(both)
    assert found.counts == (N - one - len(both), one, len(both))
    assert sum(found.counts) == N
    np.testing.assert_allclose(found.chance, [N * 0.99**2, N * 2 * 0.01 * 0.99, N * 0.01**2])
    assert f"| digits | 0 | {N} | 2 |" in paths[1].read_text()


def test_an_export_without_stored_answers_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(cell())
    with pytest.raises(UserError, match="measured here"):
        export(store, store.results(), 0.01)
    keep(store, "none", "confidence", {1})
    store.save(cell(auc=0.9))  # of another machine: it replaces the cell whose answers are stored
    with pytest.raises(UserError, match="measured here"):
        export(store, store.results(), 0.01)
    for fpr in (0.0, 1.0, math.nan):
        with pytest.raises(UserError, match="false positive rate"):
            export(store, [], fpr)


def test_the_verb_needs_fresh_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(Store(tmp_path), "none", "confidence", {1})  # its digest is invented
    assert main(["exposure", "--results", str(tmp_path)]) == 2
    assert "run `bench run` first" in capsys.readouterr().err
