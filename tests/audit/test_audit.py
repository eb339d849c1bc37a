"""Audits of shipped defenses: bounds below known epsilons and close to them, and planted bugs refuted."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from references import choice, quiet
from scipy import stats

from bench.audit import audit as audits
from bench.audit import black_box, full_training, replayed_mechanisms
from bench.cli.main import main
from bench.core.component import Choice, Component
from bench.core.dataset import DataLocation, Examples
from bench.core.release import Release
from bench.dp import accounting, gaussian_mechanism, optimizer
from bench.models.federated import server
from bench.store import audit_findings, records
from bench.store.records import AuditFinding
from bench.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dp_accounting")
DATA = "breast_cancer,private=200,holdout=120,public=100"


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer models per program, which compiles faster."""
    monkeypatch.setattr(replayed_mechanisms, "PAIRS", 25)


def audit(defense: str, kind: str = "one_step", trials: int = 800) -> AuditFinding:
    return audits.audit(choice("defense", defense), choice("data", DATA), kind, trials, DataLocation(), quiet)


def less_noise(share: float) -> Callable[[pytest.MonkeyPatch], None]:
    real = optimizer.normals

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        def normals(rows: Any, columns: int, keys: Any, counter: Any) -> Any:
            return share * real(rows, columns, keys, counter)

        monkeypatch.setattr(optimizer, "normals", normals)

    return plant


def doubled_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    real = optimizer.ghost_clipped_sums
    monkeypatch.setattr(
        optimizer, "ghost_clipped_sums", lambda loss, sites, tape, clip: real(loss, sites, tape, 2 * clip)
    )


SMALL = "dp_sgd,epsilon=8,steps=4,hidden=8,features=none"


def test_training_that_is_right_is_bounded_by_its_claim_and_by_half_of_it() -> None:
    found = audit(SMALL, trials=3_000)
    assert 0.5 * float(found.epsilon) < found.lower[0] < float(found.epsilon)
    assert not any(found.violated(shared) for shared in records.SHARED)
    assert found.trials == 3_000


@pytest.mark.parametrize(
    "plant",
    [less_noise(0.0), pytest.param(less_noise(1 / 200), marks=pytest.mark.slow), doubled_clip],
    ids=["no noise", "by the batch", "doubled clip"],
)
def test_a_training_with_a_planted_bug_is_refuted(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)
    assert audit(SMALL).violated(3)


VOTES, SERVER = "pate,teachers=20", "federated_client_dp,rounds=2,local_steps=2"


@pytest.mark.parametrize(
    ("defense", "bug"),
    [pytest.param(VOTES, False, marks=pytest.mark.slow), (VOTES, True), (SERVER, False), (SERVER, True)],
)
def test_the_mechanism_and_the_server_are_audited(monkeypatch: pytest.MonkeyPatch, defense: str, bug: bool) -> None:
    if bug:
        monkeypatch.setattr(server, "norm", lambda update, real=server.norm: real(update) / 2)  # type: ignore[misc]
        real = gaussian_mechanism.add_noise
        monkeypatch.setattr(
            gaussian_mechanism, "add_noise", lambda values, clip, noise, rng: real(values, clip / 2, noise, rng)
        )
    found = audit(defense, trials=3_000)
    assert found.violated(3) is bug
    if not bug:
        assert 0.25 * float(found.epsilon) < found.lower[0] < float(found.epsilon)


def test_the_canary_has_the_longest_contribution_and_the_rest_is_unchanged() -> None:
    given = choice("defense", SMALL)
    data = choice("data", DATA)
    split = data.component.function(DataLocation(), np.random.default_rng(0), **data.settings)
    run = lambda private: given.component.function(private, split.public, seed=0, **given.settings)  # noqa: E731
    _, [training] = replayed_mechanisms.replayed(run, split.private, [], 3)
    assert isinstance(training, replayed_mechanisms.ReplayedTraining)
    assert training.canary.length == pytest.approx(1.0, abs=1e-3)
    assert np.linalg.norm(training.canary.direction) == pytest.approx(1.0)
    held_in, held_out = training.scores(1_000, 0, quiet)
    [clip, noise] = [training.trained.recipes[0].privacy.l2_norm_clip, training.noise_multiplier]
    error = 5 * clip * noise * math.sqrt(2 / 1_000)
    assert held_in.mean() - held_out.mean() == pytest.approx(clip, abs=error)
    assert held_out.std() == pytest.approx(clip * noise, rel=0.12)
    assert error < clip


def test_the_likelihood_ratio_is_that_of_the_densities() -> None:
    rng, rate, noise = np.random.default_rng(0), 0.3, 1.7
    sums, added = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    for s, g, found in zip(sums, added, full_training.log_ratio(sums, added, rate, noise), strict=True):
        out, within = (stats.norm(mean, noise).pdf(s).prod() for mean in (np.zeros(4), g))
        assert found == pytest.approx(math.log((rate * within + (1 - rate) * out) / out))
    sure = full_training.log_ratio(sums, added, 1.0, noise)
    assert sure == pytest.approx(((sums - added / 2) * added).sum(1) / noise**2)


def test_whole_trainings_are_distinguished_as_far_as_the_noise_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replayed_mechanisms, "PAIRS", 60)
    words = "dp_sgd,epsilon=8,steps=6,hidden=8,features=none"
    right = audit(words, "whole", 120)
    assert 0.5 < right.lower[0] < min(float(right.epsilon), right.most[0])
    assert not right.violated(1)
    less_noise(0.0)(monkeypatch)  # a canary of inclusion rate 1/2 is in one of six steps
    bare = audit(f"{words},batch_size=100", "whole", 120)
    assert bare.lower[0] > max(0.7 * bare.most[0], 1.3 * right.lower[0])


def reveals_membership(private: Examples, public: Examples, *, seed: int, epsilon: float = 0.1) -> Release:
    """A release whose predictions reveal for each record whether it is private."""
    known = {record.tobytes() for record in private.x}

    def predict(x: Any) -> Any:
        sure = np.array([record.tobytes() in known for record in x])
        return np.where(sure[:, None], 0.9, 0.5) * np.ones((len(x), private.classes))

    return Release(accounting.training_event(1.0, 20.0, 1), predict=predict)


def component(function: Any) -> Component:
    return Component(function.__name__, "defense", function, {"epsilon": 0.1}, "", Path(__file__),
                     publishes=frozenset({"predict"}), private=True)  # fmt: skip


def test_a_release_that_reveals_membership_is_refuted() -> None:
    found = audits.audit(
        Choice(component(reveals_membership)), choice("data", DATA), "black_box", 60, DataLocation(), quiet
    )
    assert found.lower == found.most
    assert found.violated(3)
    private = audit("dp_sgd,epsilon=8,steps=2,hidden=8,features=none", "black_box", 20)
    assert private.lower[0] < private.most[0]


def test_black_box_scores_are_larger_where_the_record_is_nearer() -> None:
    record = Examples(np.full((1, 2), 0.5), np.ones(1, int), 3)

    def release(x: float) -> Release:
        dp_event = accounting.no_access()
        made = Examples(np.full((black_box.SAMPLES, 2), x), np.zeros(black_box.SAMPLES, int), 3)
        return Release(dp_event, generate=lambda n, seed: made, predict=lambda x: 1 / 0)

    def coder(x: float) -> Release:
        codes: Any = lambda x: x  # noqa: E731
        return Release(accounting.no_access(), encode=codes, decode=lambda codes: codes + x)

    assert black_box.score(release(0.5), record, 0) > black_box.score(release(0.6), record, 0)
    assert black_box.score(coder(0.0), record, 0) > black_box.score(coder(0.1), record, 0)
    assert not np.isclose(black_box.inverted_record(record).x, record.x + 1).any()


def test_a_row_is_audited_stored_and_shown(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "--data", DATA, "--defense", SMALL, "--defense", "none", "--results", str(results)]
    assert main([*words, "--trials", "400"]) == 0
    out = capsys.readouterr().out
    assert "claims 8, audited " in out
    assert "none on" not in out
    [row] = audit_findings.every(Store(results))
    assert row.findings["one_step"].trials == 400
    first = (results / "audit.md").read_text()
    assert main([*words, "--trials", "400"]) == 0
    [again] = audit_findings.every(Store(results))
    assert again.findings["one_step"].lower == row.findings["one_step"].lower
    assert "| one step | 8.00 |" in first
    assert not (results / ".local" / "fits").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--kind", "onestep"], "did you mean 'one_step'?"),
        (["--trials", "1"], "trials must be an even number from 2"),
        (["--trials", "3"], "trials must be an even number from 2"),
        (["--defense", "none"], "none of none claims an epsilon"),
        (["--defense", "dp_sgd,epsilon=inf"], "claims an epsilon"),
        (["--defense", "dp_sdg"], "did you mean 'dp_sgd'?"),
        (
            ["--defense", "federated_client_dp,rounds=1,local_steps=1", "--kind", "whole", "--data", DATA],
            "take --kind one_step",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], why: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", *words, "--results", str(results)]) == 2
    err = capsys.readouterr().err
    assert why in err
    assert "Traceback" not in err
