"""Controls: an attack that finds memorised records passes; one that finds none, or finds some in null data, fails."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cells import cell
from conftest import components
from scipy import stats

from bench.cli.main import main
from bench.core.component import Choice, Component
from bench.core.errors import UserError
from bench.core.game import Challenge
from bench.dp.weights_cache import WeightsCache
from bench.games import MEMBERSHIP
from bench.report import aggregate, markdown
from bench.runner import control_job, controls
from bench.runner.controls import ControlSetting
from bench.runner.registry import Registry
from bench.store.records import ControlResult
from bench.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = Store(ROOT / "results")
# It learns the release's answers on public records, which are not memorised.
RED = {"art_attribute": "positive control: where nothing defends it reaches"}
GREEN = ControlResult(
    "confidence", "d", "none", "digits", "auc", 0.5, {"value": 0.9, "low": 0.8, "high": 1.0},
    {"value": 0.5, "low": 0.4, "high": 0.6}, 0.5, {"value": 0.5, "low": 0.4, "high": 0.6}, 0.7, 20, (),
)  # fmt: skip


def guess(challenge: Challenge, seed: int) -> Any:
    return np.random.default_rng(seed).random(len(challenge.ground_truth))


QUICK = replace(MEMBERSHIP, baseline=guess)  # the real baseline takes seconds


def confidence(release: Any, targets: Any, public: Any, *, seed: int) -> Any:
    """The probability that the model gives the true label."""
    return release.predict(targets.records.x)[np.arange(len(targets.records)), targets.records.y]


def wrong_way(release: Any, targets: Any, public: Any, *, seed: int) -> Any:
    """The negative of `confidence`."""
    return -confidence(release, targets, public, seed=seed)


def component(function: Any, game: Any = QUICK, required_score: float | None = None) -> Component:
    source = Path(inspect.getsourcefile(function) or "")
    return Component(function.__name__, "attack", function, dict(game.options), "", source,
                     needs=frozenset({"predict"}), game=game, required_score=required_score)  # fmt: skip


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Few and short trainings, except for shipped controls."""
    if "shipped" not in request.node.name:
        sizes = "digits,private=60,holdout=60,public=200"
        small = ControlSetting("membership", "none,steps=300", sizes, random_labels=True, null=8)
        monkeypatch.setattr(controls, "CONTROL_SETTINGS", (small,))
        monkeypatch.setattr(controls, "POSITIVE", 2)


def registry(*attacks: Component) -> Registry:
    return replace(components(), attacks={one.name: one for one in attacks})


def measured(one: Component, tmp_path: Path) -> ControlResult:
    return controls.measure(Choice(one), registry(one), WeightsCache(tmp_path))


def test_an_attack_that_works_is_green(tmp_path: Path) -> None:
    found = measured(component(confidence, required_score=0.8), tmp_path)
    assert found.red == ()
    assert found.positive["value"] > 0.9
    assert found.null["low"] < 0.5 < found.null["high"]
    assert (found.metric, found.expected, found.seeds) == ("auc", 0.5, 8)
    again = measured(component(confidence, required_score=0.8), tmp_path / "other")
    assert again == found


def test_an_attack_that_does_not_work_is_red(tmp_path: Path) -> None:
    [why] = measured(component(wrong_way), tmp_path).red
    assert "positive control" in why


def test_a_required_score_that_is_not_reached_is_red(tmp_path: Path) -> None:
    [why] = measured(component(confidence, required_score=0.999999), tmp_path).red
    assert "its required score is 1.000" in why


def test_controls_belong_to_the_attack_whichever_records_are_its_targets(tmp_path: Path) -> None:
    store, one = Store(tmp_path), component(confidence)
    known = registry(one)
    store.save(msgspec.structs.replace(GREEN, digest=controls.expected_digest(Choice(one), known)))
    assert controls.caveat(store, known, "confidence,of=public") is None


def test_a_null_control_with_a_finding_fails(tmp_path: Path) -> None:
    """A mutant of the null control whose models were trained on the targets."""
    leaking = replace(QUICK, null_data=lambda data, rng: (data, data.private))
    [why] = measured(component(confidence, leaking), tmp_path).red
    assert "null control" in why


def test_the_null_control_trains_on_records_that_are_no_targets(digits: Any) -> None:
    assert MEMBERSHIP.null_data
    wide = replace(digits, private=digits.private[:40])
    requested, records = MEMBERSHIP.null_data(wide, np.random.default_rng(0))
    everywhere = [row.tobytes() for part in (requested.private, requested.holdout, requested.public) for row in part.x]
    assert len(records) == 40
    assert not {row.tobytes() for row in records.x} & set(everywhere)
    assert len(requested.public) == len(digits.public) - 40


def test_p_value_is_students() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 20)
    assert controls.null_p_value(list(values), 0.45) == pytest.approx(stats.ttest_1samp(values, 0.45).pvalue)
    assert controls.null_p_value([0.5] * 20, 0.5) == 1
    assert controls.null_p_value([0.6] * 20, 0.5) == 0


def test_a_null_control_is_rarely_red_by_chance_and_sees_a_small_bias() -> None:
    rng = np.random.default_rng(0)
    null = [controls.null_p_value(list(rng.normal(0.5, 0.05, 20)), 0.5) for _ in range(2000)]
    assert sum(p < controls.SIGNIFICANT for p in null) <= stats.binom.isf(1e-6, 2000, controls.SIGNIFICANT)
    biased = [controls.null_p_value(list(rng.normal(0.57, 0.05, 20)), 0.5) for _ in range(200)]
    assert sum(p < controls.SIGNIFICANT for p in biased) > 150


def test_stored_controls_are_read_back_and_marked_stale(tmp_path: Path) -> None:
    store, one = Store(tmp_path), component(confidence)
    known = registry(one)
    assert "controls were not run" in str(controls.caveat(store, known, "confidence"))
    fresh = msgspec.structs.replace(GREEN, digest=controls.expected_digest(Choice(one), known))
    store.save(fresh)
    assert store.find_label(ControlResult, "confidence") == fresh
    assert controls.caveat(store, known, "confidence") is None
    store.save(msgspec.structs.replace(fresh, red=("null control: it finds what is not there",)))
    assert "finds what is not there" in str(controls.caveat(store, known, "confidence"))
    store.save(GREEN)
    assert "other code or versions" in str(controls.caveat(store, known, "confidence"))
    store.root.joinpath(*fresh.place).write_text("{")
    assert store.find_label(ControlResult, "confidence") is None
    assert store.results() == []  # a file beside the cells is neither a cell nor a caveat


def test_a_failed_control_is_noted_above_the_whole_column(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(cell())
    text = "null control: it finds what is not there."
    leaderboard = aggregate.build(store, components(), control=lambda attack: text if attack == "confidence" else None)
    assert leaderboard.sections[0].column_caveats[0] == f"confidence: {text}"
    markdown.write(leaderboard, store)
    assert f"- confidence: {text}" in (tmp_path / "leaderboard.md").read_text()


def test_the_baseline_is_missed_where_it_was_not_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(cell(attack="art_membership"))
    caveats = aggregate.build(store, components()).sections[0].column_caveats
    assert any("`confidence` was not run here" in caveat for caveat in caveats)
    store.save(cell())
    caveats = aggregate.build(store, components()).sections[0].column_caveats
    assert not any("was not run here" in caveat for caveat in caveats)


def test_an_attack_without_a_control_setting_is_reported(tmp_path: Path) -> None:
    strange = replace(component(confidence), needs=frozenset({"join"}))
    with pytest.raises(UserError, match="no control of its game that publishes join"):
        controls.control_setting(Choice(strange), registry(strange))
    assert "no control of its game" in str(controls.caveat(Store(tmp_path), registry(strange), "confidence"))


def test_the_program_measures_once_and_exits_1_on_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requested: list[str] = []

    def measure(attack: Choice, registry: Registry, *_: Any) -> ControlResult:
        requested.append(attack.label)
        red = ("positive control: too low",) if attack.name == "art_membership" else ()
        return msgspec.structs.replace(
            GREEN, attack=attack.label, digest=controls.expected_digest(attack, registry), red=red
        )

    monkeypatch.setattr(control_job, "measure", measure)
    there = ["controls", "--results", str(tmp_path)]
    assert main([*there, "--attack", "confidence"]) == 0
    assert main([*there, "--attack", "confidence", "--attack", "art_membership"]) == 1
    assert requested == ["confidence", "art_membership"]
    out = capsys.readouterr().out
    assert "auc 0.900 [0.800, 1.000] where nothing defends" in out
    assert "RED positive control: too low" in out
    assert main([*there, "--attack", "confidance"]) == 2


@pytest.mark.parametrize("name", sorted(components().attacks))
def test_shipped_controls_are_fresh_and_green(name: str) -> None:
    caught = controls.caveat(SHIPPED, components(), name)
    if name in RED:
        assert caught is not None
        assert RED[name] in caught
        return
    assert caught is None, f"{caught} Run `bench controls`, read its output, and commit results/controls."
