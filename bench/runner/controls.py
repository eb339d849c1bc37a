"""Does an attack work where nothing defends, and find nothing where nothing is? Stored with every attack.

Positive control: the attack on an undefended, over-fitted release must reach its floor. Null control: the same release
trained on records that know nothing of what is asked must leave it at chance, over 20 seeds.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.dataset import Data, Where
from bench.core.errors import Caveat, UserError
from bench.core.files import write
from bench.core.randomness import derive, stream
from bench.games import metrics
from bench.runner.selection import choose
from bench.store.freshness import control_digest
from bench.store.store import CONTROLS

if TYPE_CHECKING:
    from bench.core.component import Choice
    from bench.core.progress import Progress
    from bench.runner.registry import Registry
    from bench.store.store import Store

POSITIVE = 3  # seeds
NULL = 20
SURE = 1e-3  # a null control this unlikely is red


@dataclass(frozen=True)
class ControlSetting:
    """Where an attack is tried: an undefended release on few records, so that it over-fits.

    random_labels: labels are drawn at random first, so that a classifier can only memorise them (Zhang et al. 2017).
    null: seeds of the null control; fewer where a seed takes a minute.
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


@dataclass(frozen=True)
class Control:
    """What came out for one attack; `red` says in sentences why it should not be trusted, and is empty where it may be.

    positive, null: a mean over seeds with its interval; `floor` and `expected` are what they are held against. blind:
    the blind answer beside the positive one, for what is not more than that an attack need not be thanked for.
    """

    attack: str
    digest: str
    defense: str
    data: str
    metric: str
    floor: float
    positive: Mapping[str, float]
    baseline: Mapping[str, float]
    expected: float
    null: Mapping[str, float]
    p_value: float
    seeds: int
    red: tuple[str, ...]

    def __str__(self) -> str:
        found = f"{self.attack}: {self.metric} {_spell(self.positive)} where nothing defends "
        found += f"(floor {self.floor:.3f}, blindly {self.baseline['value']:.3f}), "
        found += f"{_spell(self.null)} where there is nothing ({self.expected:.3f})"
        return "; ".join([found, *(f"RED {why}" for why in self.red)])


def _spell(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def control_setting(attack: Choice, registry: Registry) -> ControlSetting:
    """Where `attack` is tried: the first world of its game whose release gives what it needs.

    Raises UserError where there is none.
    """
    one = attack.component
    for found in CONTROL_SETTINGS:
        game = one.game.name if one.game else ""
        [defense] = choose(registry, "defense", found.defense)
        if found.game == game and not one.needs - defense.component.publishes - {"retrain"}:
            return found
    wanted = ", ".join(sorted(one.needs))
    raise UserError(
        f"there is no control of its game that publishes {wanted}: add a world to bench/runner/controls.py."
    )


def measure(
    attack: Choice,
    registry: Registry,
    store: Store,
    where: Where = Where(),  # noqa: B008 - frozen
    say: Callable[[str], None] = lambda what: None,
) -> Control:
    """Try one attack against both controls, all seeds side by side, so that what they train is trained as one."""
    place, game = control_setting(attack, registry), attack.component.game
    assert game
    if game.null_data is None:
        raise UserError(f"the game {game.name} does not say what its null control trains on: give it `null_data`.")
    play = partial(_play, attack, place, registry, store, where)
    say(f"positive control of {attack.label}")
    good = _side_by_side([partial(play, seed, null=False) for seed in range(POSITIVE)])
    # People's attributes are guessed without having been trained on them: where luck is not known, a difference is.
    metric, expected = game.nothing or (str(good[0]["headline"]), float(good[0]["chance"]))
    say(f"null control of {attack.label}")
    idle = _side_by_side([partial(play, seed, null=True) for seed in range(place.null)])
    positive = _mean(good, metric)
    baseline = dict.fromkeys(("value", "low", "high"), expected) if game.nothing else _mean(good, "baseline")
    null, p_value = (
        _mean(idle, metric),
        _p_value([float(one[metric]["value"]) for one in idle], expected, bounded=game.bounded),
    )
    floor = expected if attack.component.floor is None else attack.component.floor
    red = []
    if not (positive["value"] >= floor and positive["low"] > expected):
        red.append(
            f"positive control: where nothing defends it reaches {_spell(positive)}; its floor is {floor:.3f} and luck "
            f"{expected:.3f}"
        )
    if p_value < SURE:
        red.append(
            f"null control: on records that know nothing it reaches {null['value']:.3f} in place of {expected:.3f}"
        )
    return Control(
        attack=attack.label,
        digest=_digest(attack, registry),
        defense=place.defense,
        data=place.data,
        metric=metric,
        floor=floor,
        positive=positive,
        baseline=baseline,
        expected=expected,
        null=null,
        p_value=p_value,
        seeds=place.null,
        red=tuple(red),
    )


def _side_by_side(calls: Sequence[Callable[[], Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    from bench.dp.joint_training import train_jointly

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)  # that 40 records of a side say little is why there are 20 seeds
        return train_jointly(calls)


def run(attacks: Sequence[Choice], registry: Registry, store: Store, where: Where, progress: Progress) -> list[Control]:
    """The controls of each attack: those that are stored and fresh, and the others measured now."""
    from bench.dp import train

    store.check_writable()
    found: list[Control] = []

    def say(what: str) -> None:
        progress.step(what, len(found), len(attacks))

    def says(what: str, done: int, steps: int) -> None:
        say(f"{what}, step {done} of {steps}")

    with train.caching(store.weights, says):
        for attack in attacks:
            stored = load(store, attack.label)
            if stored is None or stored.digest != _digest(attack, registry):
                stored = measure(attack, registry, store, where, say)
                save(store, stored)
            found.append(stored)
    progress.step("done", len(found), len(attacks))
    return found


def _play(
    attack: Choice, place: ControlSetting, registry: Registry, store: Store, where: Where, seed: int, *, null: bool
) -> Mapping[str, Any]:
    """The metrics of one seed: train, attack, judge, as the runner does."""
    from bench.runner import play

    [defense], [data] = choose(registry, "defense", place.defense), choose(registry, "data", place.data)
    game = attack.component.game
    assert game
    assert game.null_data
    split: Data = data.component.function(where, stream(seed, "control", data.label), **data.settings)
    if place.random_labels:
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
        if game.bounded:  # private labels say nothing then, so public ones must not say it to the defense either
            rng = stream(seed, "public labels")
            trained_on = replace(trained_on, public=replace(split.public, y=rng.permutation(split.public.y)))
    release = play.release(trained_on, defense, derive(seed, "control", "null" if null else "positive"))
    challenge = game.challenge(split, stream(seed, "challenge"))
    allowed = release.only(attack.component.needs)
    own = {name: value for name, value in attack.settings.items() if name not in game.options}
    answer = attack.component.function(
        allowed,
        game.targets_visible(challenge, allowed),
        challenge.public,
        seed=derive(seed, "attack", attack.name),
        **own,
    )
    baseline = play.baseline_answer(game, challenge, derive(seed, "blind"), store.weights)
    return game.judge(answer, baseline, challenge, stream(seed, "judge"))


def _mean(found: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float]:
    figures = [one[metric] for one in found]
    ses = [figure.get("se", (figure["high"] - figure["low"]) / (2 * metrics.Z)) for figure in figures]
    over = metrics.over_seeds([figure["value"] for figure in figures], ses)
    return {**over, "low": max(-1.0, over["low"]), "high": min(1.0, over["high"])}


def _p_value(values: Sequence[float], expected: float, *, bounded: bool = False) -> float:
    """Of Student's test that the mean over seeds is what it must be (or not above it) where nothing is to be found."""
    from scipy import stats

    off, spread = float(np.mean(values)) - expected, float(np.std(values, ddof=1))
    if bounded and off <= 0:
        return 1.0
    if spread < 1e-12:
        return float(math.isclose(off, 0, abs_tol=1e-9))
    return float((2 - bounded) * stats.t.sf(abs(off) / (spread / math.sqrt(len(values))), len(values) - 1))


def _digest(attack: Choice, registry: Registry) -> str:
    place = control_setting(attack, registry)
    [defense], [data] = choose(registry, "defense", place.defense), choose(registry, "data", place.data)
    return control_digest(attack, defense, data, place)


def path(store: Store, attack: str) -> Path:
    """Where the controls of an attack are or will be."""
    return store.root / CONTROLS / f"{store.path('-', '-', attack, 0).parent.name}.json"


def save(store: Store, control: Control) -> None:
    """Write what came out."""
    text = json.dumps(asdict(control), indent=1, sort_keys=True, allow_nan=False)
    write(path(store, control.attack), text.encode() + b"\n")


def load(store: Store, attack: str) -> Control | None:
    """What is stored of an attack, or None where there is nothing that can be read."""
    try:
        values = json.loads(path(store, attack).read_bytes())
        return Control(**{**values, "red": tuple(map(str, values["red"]))})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def caveat(store: Store, registry: Registry, label: str) -> str | None:
    """What a reader of an attack's column must know of its controls; None where they are fresh and green."""
    try:
        [attack] = choose(registry, "attack", label)
        game = attack.component.game
        # Whose records are asked about is the game's matter: the attack is the same, and so are its controls.
        own = {name: value for name, value in attack.options.items() if not game or name not in game.options}
        attack = replace(attack, options=own)
        wanted = _digest(attack, registry)
    except UserError as error:
        return str(error)
    control = load(store, attack.label)
    if control is None or control.digest != wanted:
        was = "not run" if control is None else "run with other code or versions"
        return f"controls were {was}; `bench control` runs them."
    return f"{'; '.join(control.red)}." if control.red else None
