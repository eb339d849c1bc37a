"""What every attack owes: it finds what leaks and nothing else, answers as its game asks, sees only what it needs."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.conformance.check import Broken, Skip, check
from bench.conformance.defense_checks import global_state
from bench.conformance.side_effects import Reach, reaching
from bench.conformance.toy_games import Judged, Scene, headline, scene
from bench.core.component import Choice, Component
from bench.core.dataset import Where
from bench.core.errors import Caveat
from bench.core.release import ACCESS, Release
from bench.games import AttributeTargets, GanLeakageTargets, InversionTargets, Targets
from bench.runner.registry import Registry

# Options that make an attack short, for where it is not the answer that counts.
SHORT = {"steps": 3, "decoder_steps": 3, "generator_steps": 3, "starts": 2}
SEED = 2**62
Array = NDArray[Any]
Say = Callable[[str], None]


class Watched(Release):
    """A release that remembers which of its hidden accesses somebody reached for."""

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if found is None and name in ACCESS:
            self.__dict__.setdefault("reached", []).append(name)
        return found


class Player:
    """One attack, and the scene on which it is tried; what it answered where nothing leaks is kept for several checks.

    changed: whether it changed what it was handed; reached: what each of its plays reached for.
    """

    def __init__(self, choice: Choice, registry: Registry, where: Where = Where(), say: Say = print) -> None:  # noqa: B008
        self.choice = choice
        self.registry = registry
        self.where = where
        self.say = say
        self.changed = False
        self.reached: list[Reach] = []

    @property
    def component(self) -> Component:
        """The attack."""
        return self.choice.component

    @cached_property
    def scene(self) -> Scene:
        """Where it is tried. Raises Skip where there is no such place."""
        return scene(self.component, self.registry)

    @cached_property
    def first(self) -> Array:
        """The answer where nothing leaks."""
        return self.play(leak=False)

    @cached_property
    def told(self) -> Array:
        """The answer where everything leaks."""
        return self.play(leak=True, seed=0)

    def play(self, *, leak: bool, seed: int = SEED, release: Release | None = None, targets: Any = None) -> Array:
        """An answer. Raises Broken where the attack stopped for want of an access that it does not declare."""
        game, needs = self.scene.game, self.component.needs
        own = {name: value for name, value in self.choice.settings.items() if name not in game.options}
        if self.scene.strong is None:
            own |= {name: SHORT[name] for name in SHORT if name in own and name not in self.choice.options}
        given = (release or self.scene.released(needs, leak)).only(needs)
        watched = Watched(given.dp_event, **{name: getattr(given, name) for name in needs})
        public = self.scene.challenge.public
        asked = game.targets_visible(self.scene.challenge, given) if targets is None else targets
        handed = [*arrays(asked), *arrays(public), *(given.model.get_weights() if given.model is not None else ())]
        before = [array.copy() for array in handed]
        try:
            with warnings.catch_warnings(), reaching() as reach:
                warnings.simplefilter("ignore", Caveat)
                self.reached.append(reach)
                answer: Array = self.component.function(watched, asked, public, seed=seed, **own)
        except (TypeError, AttributeError, AssertionError) as error:
            if missed := watched.__dict__.get("reached"):
                raise Broken(
                    f"it uses release.{missed[-1]}, which needs={{...}} does not name, so it is None: name it there."
                ) from error
            raise
        after = [*arrays(asked), *arrays(public), *(given.model.get_weights() if given.model is not None else ())]
        self.changed |= not all(map(np.array_equal, before, after))
        return answer


def arrays(value: Any) -> list[Array]:
    """Every array of a question."""
    if isinstance(value, np.ndarray):
        return [value]
    if is_dataclass(value):
        return [array for field in fields(value) for array in arrays(getattr(value, field.name))]
    return []


def shape(targets: Any) -> tuple[int, ...] | None:
    """Of an answer to a question of a game of the bench; None where nobody knows."""
    if isinstance(targets, Targets):
        return (len(targets.records),)
    if isinstance(targets, AttributeTargets):
        return len(targets.records), len(targets.values)
    if isinstance(targets, InversionTargets):
        return len(targets.labels), *targets.shape
    return (targets.n, *targets.shape) if isinstance(targets, GanLeakageTargets) else None


@check("answers as its game asks")
def answers_as_asked(player: Player) -> Iterator[str]:
    """Finite numbers, one a target; or as many pictures in [0, 1]."""
    answer, targets = player.first, player.scene.challenge.targets
    yield from malformed(answer, targets)


def malformed(answer: Any, targets: Any) -> Iterator[str]:
    """What is wrong with the form of an answer."""
    wanted, pictures = shape(targets), isinstance(targets, InversionTargets | GanLeakageTargets)
    if not isinstance(answer, np.ndarray):
        yield f"it answers with a {type(answer).__name__}: give a NumPy array{f' {wanted}' if wanted else ''}."
    elif wanted and answer.shape != wanted:
        what = "pictures" if pictures else "scores of each target"
        yield f"it answers with shape {answer.shape}: give {what}, {wanted}."
    elif answer.dtype.kind != "f":
        yield f"it answers with numbers of type {answer.dtype}: give floats, for a score may be anything."
    elif not np.isfinite(answer).all():
        yield "its answer holds what is no finite number: mind logarithms of 0 and divisions by 0."
    elif pictures and not ((answer >= 0) & (answer <= 1)).all():
        yield f"its pictures go from {answer.min():.3g} to {answer.max():.3g}: clip them to [0, 1]."


def well_formed(player: Player) -> Array:
    """The answer where nothing leaks. Raises Skip where its form is wrong, which is said elsewhere."""
    if any(malformed(player.first, player.scene.challenge.targets)):
        raise Skip("its answer has not the form that its game asks for.")
    return player.first


@check("gives the same answer for the same seed")
def same_seed_same_answer(player: Player) -> Iterator[str]:
    """Bit for bit, with other draws in between."""
    first = well_formed(player)
    shared = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        np.random.seed(5)  # noqa: NPY002 - an attack that draws from the global state shows
        random.seed(5)
        mark = global_state()
        again = player.play(leak=False)
        drew = global_state() != mark
    finally:
        np.random.set_state(shared[0])  # noqa: NPY002
        random.setstate(shared[1])
    if not np.array_equal(first, again):
        yield "with one seed it answers differently each time: " + (
            "it draws from a global state; draw from np.random.default_rng(seed)."
            if drew
            else "draw everything from `seed`, the random_state of a learner too."
        )


@check("leaves alone what it is given")
def leaves_what_it_is_given(player: Player) -> Iterator[str]:
    """Targets, public records and the weights of a model, in every play until now."""
    well_formed(player)
    if player.changed:
        yield "it changed what it was handed (targets, public records or weights): work on a copy."


@check("answers the same whatever the order of targets")
def order_does_not_matter(player: Player) -> Iterator[str]:
    """Where every target has an answer of its own."""
    targets = player.scene.challenge.targets
    if not isinstance(targets, Targets | AttributeTargets):
        raise Skip("its answers are pictures, drawn one after the other.")
    first = well_formed(player)
    rows = np.random.default_rng(3).permutation(len(first))
    again = player.play(leak=False, targets=replace(targets, records=targets.records[rows]))
    if not np.allclose(again, first[rows], rtol=1e-4, atol=1e-5):  # networks sum in float32, in another order
        yield "its answer to a target depends on where it stands among the others: score each by what it is."


@check("finds what a release gives away")
def finds_a_leak(player: Player) -> Iterator[str]:
    """On a fake that leaks everything it beats chance, and the answer of whoever sees no release."""
    scene = on_fakes(player)
    well_formed(player)
    answer = player.told
    if any(malformed(answer, scene.challenge.targets)):
        yield from malformed(answer, scene.challenge.targets)
    elif not scene.finds(judged := scene.judged(answer)):
        yield lost(scene, answer, judged)


def lost(scene: Scene, answer: Array, judged: Judged) -> str:
    """Why an answer does not find what is given away."""
    if (answer == answer[0]).all():
        return "it gives every target the same answer: let it depend on what the release says of that target."
    if scene.finds(scene.judged(-answer)):
        return "it finds what leaks, but with its sign turned: larger must mean more leakage, so negate it."
    reached, baseline = headline(judged)["value"], judged["baseline"]["value"]
    return (
        f"where a release gives everything away it reaches {judged['headline']} {reached:.3f} (blindly {baseline:.3f}, "
        f"wanted above {scene.strong}): mind to which record and label each number belongs."
    )


def on_fakes(player: Player) -> Scene:
    """The scene. Raises Skip where it is none of fakes."""
    if player.scene.strong is None:
        raise Skip("there is no fake of what it needs; its controls play on a real release.")
    return player.scene


@check("finds nothing where nothing is")
def finds_nothing_in_nothing(player: Player) -> Iterator[str]:
    """On a fake that knows nothing it is at chance."""
    scene = on_fakes(player)
    judged = scene.judged(well_formed(player))
    if not scene.finds_nothing(judged):
        yield (
            f"where a release knows nothing it reaches {judged['headline']} {headline(judged)['value']:.3f}, against "
            f"{judged['chance']:.3f} by luck: fit it on targets.known and public records, never on what it is asked."
        )


@check(
    "answers with finite numbers whatever a release says",
    lambda component: "" if "predict" in component.needs else "it needs no predict.",
)
def certain_answers_stay_finite(player: Player) -> Iterator[str]:
    """Probabilities of exactly 0 and 1, and the same answer for everyone."""
    scene = on_fakes(player)
    well_formed(player)
    classes = scene.data.private.classes
    for row, says in ((np.eye(classes)[0], "is certain"), (np.full(classes, 1 / classes), "says the same to everyone")):
        release = replace(scene.released(player.component.needs, False), predict=partial(_said, row.astype(np.float32)))
        if any(malformed(player.play(leak=False, release=release), scene.challenge.targets)):
            yield f"its answer is no finite number where a release {says}: clip probabilities before a logarithm."


def _said(row: Array, x: Array) -> Array:
    return np.tile(row, (len(x), 1))


@check("reads no other records than it is given")
def reads_what_it_is_given(player: Player) -> Iterator[str]:
    """No file of records is opened, and no host is asked, in any play until now."""
    well_formed(player)
    yield from dict.fromkeys(sentence for reach in player.reached for sentence in reach.wrong())


@check("has a required score")
def has_a_required_score(player: Player) -> Iterator[str]:
    """What its controls hold it against."""
    if player.component.required_score is None:
        raise Skip(
            "it declares none, so its control only requires more than chance: give @attack(..., required_score=...) "
            "the score that it must reach where nothing defends."
        )
    return iter(())


CHECKS = (
    answers_as_asked, same_seed_same_answer, order_does_not_matter, finds_a_leak, finds_nothing_in_nothing,
    certain_answers_stay_finite, leaves_what_it_is_given, reads_what_it_is_given,
    has_a_required_score,
)  # fmt: skip
