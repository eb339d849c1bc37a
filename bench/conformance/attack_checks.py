"""The checks of every attack: it finds leaks and only leaks, answers in the form of its game, uses what it declares."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.conformance.check import Skip, Violation, check
from bench.conformance.defense_checks import global_state
from bench.conformance.side_effects import SideEffects, recording_side_effects
from bench.conformance.toy_games import Judged, ToyGame, headline, toy_game
from bench.core.component import Choice, Component
from bench.core.dataset import DataLocation
from bench.core.errors import Caveat
from bench.core.release import ACCESS, Release
from bench.games import AttributeTargets, GanLeakageTargets, InversionTargets, Targets
from bench.runner.registry import Registry

# Options that make an attack short, where the quality of its answer does not matter.
SHORT_OPTIONS = {"steps": 3, "decoder_steps": 3, "generator_steps": 3, "starts": 2}
SEED = 2**62
Array = NDArray[Any]
OnProgress = Callable[[str], None]


class TrackedRelease(Release):
    """A release that records which of its hidden accesses were read."""

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if found is None and name in ACCESS:
            self.__dict__.setdefault("hidden_reads", []).append(name)
        return found


class AttackRuns:
    """One attack, the toy game that it plays, and its answers, which several checks share.

    changed_inputs: whether it modified an input. side_effects: those of each run.
    """

    def __init__(
        self,
        choice: Choice,
        registry: Registry,
        where: DataLocation = DataLocation(),  # noqa: B008
        on_progress: OnProgress = print,
    ) -> None:
        self.choice = choice
        self.registry = registry
        self.where = where
        self.on_progress = on_progress
        self.changed_inputs = False
        self.side_effects: list[SideEffects] = []

    @property
    def component(self) -> Component:
        """The attack."""
        return self.choice.component

    @cached_property
    def game(self) -> ToyGame:
        """The toy game that it plays. Raises Skip where there is none."""
        return toy_game(self.component, self.registry)

    @cached_property
    def answer_without_leak(self) -> Array:
        """Its answer where the release leaks nothing."""
        return self.play(leak=False)

    @cached_property
    def answer_with_leak(self) -> Array:
        """Its answer where the release leaks everything."""
        return self.play(leak=True, seed=0)

    def play(self, *, leak: bool, seed: int = SEED, release: Release | None = None, targets: Any = None) -> Array:
        """An answer. Raises Violation where the attack fails without an access that it does not declare."""
        game, needs = self.game.game, self.component.needs
        options = {name: value for name, value in self.choice.settings.items() if name not in game.options}
        if self.game.required is None:
            short = SHORT_OPTIONS.items()
            options |= {k: v for k, v in short if k in options and k not in self.choice.options}
        given = (release or self.game.released(needs, leak)).only(needs)
        tracked = TrackedRelease(given.dp_event, **{name: getattr(given, name) for name in needs})
        public = self.game.challenge.public
        asked = game.targets_visible(self.game.challenge, given) if targets is None else targets

        def inputs() -> list[Array]:
            return [*arrays(asked), *arrays(public), *(given.model.get_weights() if given.model is not None else ())]

        before = [array.copy() for array in inputs()]
        try:
            with warnings.catch_warnings(), recording_side_effects() as effects:
                warnings.simplefilter("ignore", Caveat)
                self.side_effects.append(effects)
                answer: Array = self.component.function(tracked, asked, public, seed=seed, **options)
        except (TypeError, AttributeError, AssertionError) as error:
            if hidden := tracked.__dict__.get("hidden_reads"):
                raise Violation(
                    f"it uses release.{hidden[-1]}, which needs={{...}} does not name, so it is None: name it there."
                ) from error
            raise
        self.changed_inputs |= not all(map(np.array_equal, before, inputs()))
        return answer


def arrays(value: Any) -> list[Array]:
    """Every array of the targets or records."""
    if isinstance(value, np.ndarray):
        return [value]
    if is_dataclass(value):
        return [array for field in fields(value) for array in arrays(getattr(value, field.name))]
    return []


def answer_shape(targets: Any) -> tuple[int, ...] | None:
    """The shape of an answer to these targets of a game of bench; None for other games."""
    if isinstance(targets, Targets):
        return (len(targets.records),)
    if isinstance(targets, AttributeTargets):
        return len(targets.records), len(targets.values)
    if isinstance(targets, InversionTargets):
        return len(targets.labels), *targets.shape
    return (targets.n, *targets.shape) if isinstance(targets, GanLeakageTargets) else None


@check("answers in the form of its game")
def answers_in_form(runs: AttackRuns) -> Iterator[str]:
    """Finite numbers, one per target; or as many images in [0, 1]."""
    answer, targets = runs.answer_without_leak, runs.game.challenge.targets
    yield from form_errors(answer, targets)


def form_errors(answer: Any, targets: Any) -> Iterator[str]:
    """What is wrong with the form of an answer."""
    shape, images = answer_shape(targets), isinstance(targets, InversionTargets | GanLeakageTargets)
    if not isinstance(answer, np.ndarray):
        yield f"it answers with a {type(answer).__name__}: return a NumPy array{f' {shape}' if shape else ''}."
    elif shape and answer.shape != shape:
        what = "images" if images else "scores of each target"
        yield f"it answers with shape {answer.shape}: return {what}, {shape}."
    elif answer.dtype.kind != "f":
        yield f"it answers with numbers of type {answer.dtype}: return floats, since a score may be any number."
    elif not np.isfinite(answer).all():
        yield "its answer holds numbers that are not finite: avoid logarithms of 0 and divisions by 0."
    elif images and not ((answer >= 0) & (answer <= 1)).all():
        yield f"its images have values from {answer.min():.3g} to {answer.max():.3g}: clip them to [0, 1]."


def well_formed(runs: AttackRuns) -> Array:
    """The answer without a leak. Raises Skip where its form is wrong, which another check reports."""
    if any(form_errors(runs.answer_without_leak, runs.game.challenge.targets)):
        raise Skip("its answer does not have the form of its game.")
    return runs.answer_without_leak


@check("gives the same answer for the same seed")
def same_seed_same_answer(runs: AttackRuns) -> Iterator[str]:
    """Bit-identical, whatever was drawn from global generators in between."""
    first = well_formed(runs)
    shared = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        np.random.seed(5)  # noqa: NPY002 - so that an attack that draws from the global state differs
        random.seed(5)
        before = global_state()
        again = runs.play(leak=False)
        drew = global_state() != before
    finally:
        np.random.set_state(shared[0])  # noqa: NPY002
        random.setstate(shared[1])
    if not np.array_equal(first, again):
        yield "with the same seed its answers differ: " + (
            "it draws from a global state; draw from np.random.default_rng(seed)."
            if drew
            else "draw everything from `seed`, the random_state of a learner too."
        )


@check("does not modify its inputs")
def modifies_no_input(runs: AttackRuns) -> Iterator[str]:
    """Targets, public records and the weights of a model, in every run until now."""
    well_formed(runs)
    if runs.changed_inputs:
        yield "it modified its inputs (targets, public records or weights): work on a copy."


@check("gives the same answer in every order of targets")
def order_does_not_matter(runs: AttackRuns) -> Iterator[str]:
    """Where every target has its own answer."""
    targets = runs.game.challenge.targets
    if not isinstance(targets, Targets | AttributeTargets):
        raise Skip("its answers are images, drawn one after the other.")
    first = well_formed(runs)
    rows = np.random.default_rng(3).permutation(len(first))
    again = runs.play(leak=False, targets=replace(targets, records=targets.records[rows]))
    if not np.allclose(again, first[rows], rtol=1e-4, atol=1e-5):  # float32 sums of networks, in another order
        yield "its answer for a target depends on the position of the target: score each by its content."


@check("finds a leak")
def finds_a_leak(runs: AttackRuns) -> Iterator[str]:
    """Where a toy release leaks everything, it beats chance and the release-free baseline."""
    game = with_toy_release(runs)
    well_formed(runs)
    answer = runs.answer_with_leak
    if any(form_errors(answer, game.challenge.targets)):
        yield from form_errors(answer, game.challenge.targets)
    elif not game.finds(judged := game.judged(answer)):
        yield why_not_found(game, answer, judged)


def why_not_found(game: ToyGame, answer: Array, judged: Judged) -> str:
    """Why an answer does not find the leak."""
    if (answer == answer[0]).all():
        return "it gives every target the same answer: compute it from what the release says of that target."
    if game.finds(game.judged(-answer)):
        return "it finds the leak with the wrong sign: larger must mean more leakage, so negate it."
    reached, baseline = headline(judged)["value"], judged["baseline"]["value"]
    return (
        f"where a release leaks everything it reaches {judged['headline']} {reached:.3f} (release-free baseline "
        f"{baseline:.3f}, required {game.required}): check to which record and label each number belongs."
    )


def with_toy_release(runs: AttackRuns) -> ToyGame:
    """The toy game. Raises Skip where its release is a real one."""
    if runs.game.required is None:
        raise Skip("there is no toy release with what it needs; its controls play on a real release.")
    return runs.game


@check("finds nothing without a leak")
def finds_nothing_in_nothing(runs: AttackRuns) -> Iterator[str]:
    """Where a toy release leaks nothing, it is at chance."""
    game = with_toy_release(runs)
    judged = game.judged(well_formed(runs))
    if not game.finds_nothing(judged):
        yield (
            f"where a release leaks nothing it reaches {judged['headline']} {headline(judged)['value']:.3f}, against "
            f"{judged['chance']:.3f} by chance: fit it on targets.known and public records, never on the targets."
        )


@check(
    "answers with finite numbers for extreme predictions",
    lambda component: "" if "predict" in component.needs else "it needs no predict.",
)
def stays_finite(runs: AttackRuns) -> Iterator[str]:
    """Probabilities of exactly 0 and 1, and the same prediction for every record."""
    game = with_toy_release(runs)
    well_formed(runs)
    classes = game.data.private.classes
    for row, what in ((np.eye(classes)[0], "0 and 1"), (np.full(classes, 1 / classes), "the same for all records")):
        constant = partial(_constant, row.astype(np.float32))
        release = replace(game.released(runs.component.needs, False), predict=constant)
        if any(form_errors(runs.play(leak=False, release=release), game.challenge.targets)):
            yield f"its answer is not finite where predictions are {what}: clip probabilities before a logarithm."


def _constant(row: Array, x: Array) -> Array:
    return np.tile(row, (len(x), 1))


@check("reads no records but its inputs")
def reads_only_its_inputs(runs: AttackRuns) -> Iterator[str]:
    """No run until now opened a file of records or connected to a host."""
    well_formed(runs)
    yield from dict.fromkeys(sentence for effects in runs.side_effects for sentence in effects.violations())


@check("has a required score")
def has_a_required_score(runs: AttackRuns) -> Iterator[str]:
    """The score that its positive control must reach."""
    if runs.component.required_score is None:
        raise Skip(
            "it declares none, so its control only requires more than chance: give @attack(..., required_score=...) "
            "the score that it must reach where nothing defends."
        )
    return iter(())


CHECKS = (
    answers_in_form, same_seed_same_answer, order_does_not_matter, finds_a_leak, finds_nothing_in_nothing,
    stays_finite, modifies_no_input, reads_only_its_inputs, has_a_required_score,
)  # fmt: skip
