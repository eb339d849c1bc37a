"""Stored findings, the column of audited epsilons on the leaderboard, and the page of audits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import cell
from conftest import components
from msgspec.structs import replace
from scipy import stats

from bench.audit.bounds import paired_trials
from bench.cli.main import main
from bench.core.component import Choice
from bench.core.errors import Caveat
from bench.report import audit_page, epsilon_column
from bench.runner import selection
from bench.store import audit_findings, records
from bench.store.freshness import cell_digest, finding_digest
from bench.store.records import AuditFinding
from bench.store.store import Store

ALPHA, DELTA = 0.05, 1e-5


def choice(kind: Any, words: str) -> Choice:
    [found] = selection.choose(components(), kind, words)
    return found


def finding(kind: str = "one_step", lower: float = 1.0, digest: str | None = None, **changed: Any) -> AuditFinding:
    known = finding_digest(choice("defense", "dp_sgd"), choice("data", "digits"), kind)
    bounds = (lower, 0.9 * lower, 0.8 * lower)
    values: dict[str, Any] = {"epsilon": 8.0, "trials": 4_000, "parts": ({"what": "training"},), "seconds": 60.0}
    most = (max(7.25, lower),) * 3
    return AuditFinding(
        kind=kind, delta=DELTA, lower=bounds, most=most, digest=digest or known, **{**values, **changed}
    )


@pytest.fixture
def store(results: Path) -> Store:
    """A store with two fresh cells, one of a defense that claims an epsilon."""
    store = Store(results)
    for one in cell("dp_sgd", epsilon=8.0), cell("none"):
        parts = [components().of(kind)[getattr(one, kind)] for kind in ("data", "defense", "attack")]
        store.save(replace(one, digest=cell_digest(tuple(parts), one.options, one.seed)))
    return store


def leaderboard(store: Store) -> str:
    return (store.root / "leaderboard.md").read_text()


def table(store: Store) -> int:
    return main(["table", "--results", str(store.root)])


def test_the_largest_bound_is_shown_beside_the_claim_with_its_error_share(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table(store) == 0
    assert "| epsilon | audited epsilon | delta |" in leaderboard(store)
    assert "| 8.00 | - | 1e-05 |" in leaderboard(store)
    audit_findings.save(store, "dp_sgd", "digits", finding())
    assert table(store) == 0
    assert "| 8.00 | 1.00 (one step, 4000 trials, at most 7.25) | 1e-05 |" in leaderboard(store)
    audit_findings.save(store, "dp_sgd", "digits", finding("whole", 2.0))
    assert table(store) == 0
    assert "| 8.00 | 1.80 (whole training, 4000 trials, at most 7.25) | 1e-05 |" in leaderboard(store)
    csv = (store.root / "leaderboard.csv").read_text()
    assert "1.80 (whole training" in csv
    out = capsys.readouterr().out
    assert "1.80 (whole training" in " ".join(out.split())
    assert "VIOLATION" not in out


def test_a_refuted_claim_is_reported_and_exits_with_3(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    audit_findings.save(store, "dp_sgd", "digits", finding(lower=9.0))
    assert table(store) == 3
    assert "| 8.00 | **VIOLATION** 9.00 (one step" in leaderboard(store)
    assert "VIOLATION 9.00" in " ".join(capsys.readouterr().out.split())
    # two audits share the error: 0.9 * 8.5 is not above 8
    audit_findings.save(store, "dp_sgd", "digits", finding(lower=8.5))
    audit_findings.save(store, "dp_sgd", "digits", finding("whole", 1.0))
    assert table(store) == 0


def test_a_finding_of_other_code_is_stale(store: Store) -> None:
    audit_findings.save(store, "dp_sgd", "digits", finding(lower=9.0, digest="of another day"))
    assert table(store) == 0
    assert "| 8.00 | stale | 1e-05 |" in leaderboard(store)
    assert "| stale: audit it again |" in (store.root / "audit.md").read_text()
    audit_findings.save(store, "dp_sgd", "digits", finding("whole", 2.0))
    assert table(store) == 0
    assert "2.00 (whole training" in leaderboard(store)  # alone, so with all of the error


def test_another_row_has_another_fingerprint() -> None:
    digits = choice("data", "digits")
    every = {
        finding_digest(choice("defense", words), data, kind)
        for words in ("dp_sgd", "dp_sgd,epsilon=1", "dp_augm")
        for data in (digits, choice("data", "digits,private=300"))
        for kind in records.AUDIT_KINDS
    }
    assert len(every) == 18


def test_a_file_that_holds_no_finding_is_left_out_aloud(store: Store) -> None:
    path = audit_findings.save(store, "dp_sgd", "digits", finding())
    values = json.loads(path.read_bytes())
    for change in (
        {"lower": [1.0]},
        {"lower": ["inf"] * 3},
        {"most": ["much"] * 3},
        {"trials": "many"},
        {"kind": "whole"},
        {"epsilon": "much"},
        {"more": 1},
    ):
        path.write_text(json.dumps(values | {"findings": {"one_step": values["findings"]["one_step"] | change}}))
        with pytest.warns(Caveat, match="is left out .*bench audit"):
            assert audit_findings.load(store, "digits", "dp_sgd") is None
    path.write_text("{")
    with pytest.warns(Caveat, match="bench audit"):
        assert epsilon_column.known(store, components())("digits", "dp_sgd").audited == "-"


def test_a_perfect_attack_may_prove_anything(store: Store) -> None:
    """For hundreds of uses, each proved to lack noise, the accountant gives no finite epsilon."""
    audit_findings.save(store, "dp_sgd", "digits", replace(finding(), most=(math.inf, 7.25, 7.0)))
    row = audit_findings.load(store, "digits", "dp_sgd")
    assert row
    assert list(row.findings["one_step"].most) == [math.inf, 7.25, 7.0]
    assert table(store) == 0
    assert "1.00 (one step, 4000 trials, at most inf)" in leaderboard(store)


def test_the_page_keeps_handwritten_text(store: Store) -> None:
    audit_findings.save(store, "dp_sgd", "digits", finding())
    (store.root / "audits" / audit_page.PLANTED).write_text("## Planted bugs\n\nOne of them.\n")
    text = audit_page.write(store, components()).read_text()
    assert "| digits | dp_sgd | one step | 8.00 | 1.00 | 0.12 | 7.25 | - | 4000 | 1.0 | training |" in text
    assert text.endswith("\n## Planted bugs\n\nOne of them.\n")
    assert audit_page.write(store, components()).read_text() == text


@pytest.mark.parametrize(("mu", "trials"), [(0.05, 20_000), (0.1, 20_000), (0.5, 2_000), (3.0, 200)])
def test_what_right_code_shows_is_the_middle_of_what_it_shows(store: Store, mu: float, trials: int) -> None:
    rng, won = np.random.default_rng(7), stats.norm.cdf(mu / math.sqrt(2))
    bounds = np.array(
        [paired_trials.mu(wins, trials // 2, ALPHA) for wins in rng.binomial(trials // 2, won, 2_000).tolist()]
    )
    parts = [{"what": "training", "mu": (0.75 * mu,) * 3, "noise_multiplier": 1 / mu}]
    audit_findings.save(store, "dp_sgd", "digits", finding(trials=trials, parts=parts))
    text = audit_page.write(store, components()).read_text()
    middle = float(text.partition("| 0.75 (")[2].partition(")")[0])

    def halves(share: float) -> bool:
        """Whether the stated median has half of the bounds on each side, within a tenth, at two digits."""
        return bool((bounds / mu < share - 0.006).mean() < 0.6 and (bounds / mu > share + 0.006).mean() < 0.6)

    assert halves(middle)
    assert not halves(1.0), "a claim is not a proof"
    assert not halves(0.7 * middle)
