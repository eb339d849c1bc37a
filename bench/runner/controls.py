"""Controls: does an attack work without a defense, and is it at chance where there is nothing to find?

Positive control: on an undefended, over-fitted release the attack must reach its required score. Null control: on the
same release, trained on records that hold nothing about the targets, it must be at chance, over 20 seeds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.dataset import DataLocation, Split
from bench.core.errors import Caveat, UserError
from bench.core.randomness import derive, stream
from bench.core.text import interval
from bench.games.intervals import Estimate, Z, over_seeds
from bench.runner.selection import choose
from bench.store.freshness import control_digest
from bench.store.read_write import Damaged
from bench.store.records import ControlResult

if TYPE_CHECKING:
    from bench.core.component import Choice
    from bench.dp.weights_cache import WeightsCache
    from bench.runner.registry import Registry
    from bench.store.store import Store

POSITIVE = 3  # seeds
NULL = 20
SIGNIFICANT = 1e-3  # p-value of a null control below which it is red


@dataclass(frozen=True)
class ControlSetting:
    """Where an attack is tried: an undefended release of few records, so that it over-fits.

    random_labels: labels are drawn at random first, so that a classifier can only memorise them (Zhang et al. 2017).
    null: seeds of the null control; fewer where one seed takes a minute.
    """

    game: str
    defense: str
    data: str
    random_labels: bool = False
    null: int = NULL


CONTROL_SETTINGS = (
    ControlSetting("membership", "none,steps=2000", "digits,private=200,holdout=200,public=600", random_labels=True),
    ControlSetting(
        "membership", "dp_augm,epsilon=inf,hidden=512,steps=1000", "digits,private=100,holdout=600,public=600"
    ),
    ControlSetting(
        "membership",
        "dp_vaegm,epsilon=inf,hidden=256,rate=0.5,steps=1000,cosines=0",
        "digits,private=100,holdout=200,public=600",
    ),
    ControlSetting("inversion", "none", "digits"),
    ControlSetting("inversion", "dp_augm,epsilon=inf", "digits"),
    ControlSetting("inversion", "federated", "digits"),
    ControlSetting("gan_leakage", "federated", "digits", null=6),
    ControlSetting(
        "attribute", "none,hidden=256,steps=3000", "adult,private=500,holdout=2000,public=3000", random_labels=True
    ),
)


def _spell(figure: Mapping[str, float]) -> str:
    return interval(figure["value"], figure["low"], figure["high"])


def control_setting(attack: Choice, registry: Registry) -> ControlSetting:
    """Where `attack` is tried: the first setting of its game whose release publishes what it needs.

    Raises UserError where there is none.
    """
    component = attack.component
    for setting in CONTROL_SETTINGS:
        game = component.game.name if component.game else ""
        [defense] = choose(registry, "defense", setting.defense)
        if setting.game == game and not component.needs - defense.component.publishes - {"retrain"}:
            return setting
    needs = ", ".join(sorted(component.needs))
    raise UserError(
        f"there is no control of its game that publishes {needs}: add one to CONTROL_SETTINGS in "
        "bench/runner/controls.py."
    )


def measure(
    attack: Choice,
    registry: Registry,
    weights: WeightsCache,
    where: DataLocation = DataLocation(),  # noqa: B008 - frozen
    on_progress: Callable[[str], None] = lambda what: None,
) -> ControlResult:
    """Try one attack in both controls, all seeds together, so that their models are trained jointly."""
    setting, game = control_setting(attack, registry), attack.component.game
    assert game
    if game.null_data is None:
        raise UserError(f"the game {game.name} does not say what its null control trains on: give it `null_data`.")
    play = partial(_play, attack, setting, registry, weights, where)
    on_progress(f"positive control of {attack.label}")
    positives = _jointly([partial(play, seed, null=False) for seed in range(POSITIVE)])
    # Attributes are guessed from other features without any training: their accuracy by chance is unknown, but the
    # expected difference from holdout records is 0.
    metric, expected = game.null_metric or (str(positives[0]["headline"]), float(positives[0]["chance"]))
    on_progress(f"null control of {attack.label}")
    nulls = _jointly([partial(play, seed, null=True) for seed in range(setting.null)])
    positive, null = _mean(positives, metric), _mean(nulls, metric)
    baseline = dict.fromkeys(("value", "low", "high"), expected) if game.null_metric else _mean(positives, "baseline")
    p_value = null_p_value([float(one[metric]["value"]) for one in nulls], expected, bounded=game.bounded)
    required = expected if attack.component.required_score is None else attack.component.required_score
    red = []
    if not (positive["value"] >= required and positive["low"] > expected):
        red.append(
            f"positive control: where nothing defends it reaches {_spell(positive)}; its required score is "
            f"{required:.3f} and chance {expected:.3f}"
        )
    if p_value < SIGNIFICANT:
        red.append(
            f"null control: on records without information about the targets it reaches {null['value']:.3f} in place "
            f"of {expected:.3f}"
        )
    return ControlResult(
        attack=attack.label,
        digest=expected_digest(attack, registry),
        defense=setting.defense,
        data=setting.data,
        metric=metric,
        required_score=required,
        positive=positive,
        baseline=baseline,
        expected=expected,
        null=null,
        p_value=p_value,
        seeds=setting.null,
        red=tuple(red),
    )


def _jointly(calls: Sequence[Callable[[], Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    from bench.dp.joint_training import train_jointly

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)  # 40 members and 40 non-members say little, so there are 20 seeds
        return train_jointly(calls)


def _play(
    attack: Choice,
    setting: ControlSetting,
    registry: Registry,
    weights: WeightsCache,
    where: DataLocation,
    seed: int,
    *,
    null: bool,
) -> Mapping[str, Any]:
    """The metrics of one seed: trains, attacks and judges as the runner does."""
    from bench.runner import play

    [defense], [data] = choose(registry, "defense", setting.defense), choose(registry, "data", setting.data)
    game = attack.component.game
    assert game
    assert game.null_data
    split: Split = data.component.function(where, stream(seed, "control", data.label), **data.settings)
    if setting.random_labels:
        rng = stream(seed, "labels")
        private, holdout, public = (
            replace(part, y=rng.integers(0, part.classes, len(part)))
            for part in (split.private, split.holdout, split.public)
        )
        split = replace(split, private=private, holdout=holdout, public=public)
    trained_on = split
    if null:
        split, records = game.null_data(split, stream(seed, "unrelated"))
        trained_on = replace(split, private=records)
        if game.bounded:  # private labels are shuffled then, so the defense must not learn classes from public ones
            rng = stream(seed, "public labels")
            trained_on = replace(trained_on, public=replace(split.public, y=rng.permutation(split.public.y)))
    release = play.release(trained_on, defense, derive(seed, "control", "null" if null else "positive"))
    challenge = game.challenge(split, stream(seed, "challenge"))
    allowed = release.only(attack.component.needs)
    options = {name: value for name, value in attack.settings.items() if name not in game.options}
    answer = attack.component.function(
        allowed,
        game.targets_visible(challenge, allowed),
        challenge.public,
        seed=derive(seed, "attack", attack.name),
        **options,
    )
    baseline = play.baseline_answer(game, challenge, derive(seed, "blind"), weights)
    return game.judge(answer, baseline, challenge, stream(seed, "judge"))


def _mean(results: Sequence[Mapping[str, Any]], metric: str) -> Estimate:
    estimates = [one[metric] for one in results]
    ses = [estimate.get("se", (estimate["high"] - estimate["low"]) / (2 * Z)) for estimate in estimates]
    over = over_seeds([estimate["value"] for estimate in estimates], ses)
    return {**over, "low": max(-1.0, over["low"]), "high": min(1.0, over["high"])}


def null_p_value(values: Sequence[float], expected: float, *, bounded: bool = False) -> float:
    """P-value of Student's test that the mean over seeds is the expected one (bounded: or below it)."""
    from scipy import stats

    off, spread = float(np.mean(values)) - expected, float(np.std(values, ddof=1))
    if bounded and off <= 0:
        return 1.0
    if spread < 1e-12:
        return float(math.isclose(off, 0, abs_tol=1e-9))
    return float((2 - bounded) * stats.t.sf(abs(off) / (spread / math.sqrt(len(values))), len(values) - 1))


def expected_digest(attack: Choice, registry: Registry) -> str:
    """The digest of controls of today's code, options and versions."""
    setting = control_setting(attack, registry)
    [defense], [data] = choose(registry, "defense", setting.defense), choose(registry, "data", setting.data)
    return control_digest(attack, defense, data, setting)


def caveat(store: Store, registry: Registry, label: str) -> str | None:
    """What a reader of an attack's column must know about its controls; None where they are fresh and green."""
    try:
        [attack] = choose(registry, "attack", label)
        game = attack.component.game
        # Which records are targets is an option of the game: the attack is the same, and so are its controls.
        options = {name: value for name, value in attack.options.items() if not game or name not in game.options}
        attack = replace(attack, options=options)
        expected = expected_digest(attack, registry)
    except UserError as error:
        return str(error)
    try:
        control = store.read_label(ControlResult, attack.label)
    except Damaged as error:
        return f"controls are damaged ({error}); `bench controls` runs them again."
    if control is None or control.digest != expected:
        was = "not run" if control is None else "run with other code or versions"
        return f"controls were {was}; `bench controls` runs them."
    return f"{'; '.join(control.red)}." if control.red else None
