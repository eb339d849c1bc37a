"""PATE: teachers on disjoint private records vote, with noise, on public ones (Papernot et al. 2017, 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, defense
from bench.core.dataset import Examples, record_keys
from bench.core.errors import UserError
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp import accounting, gaussian_mechanism, networks
from bench.dp.layers import Single
from bench.dp.recipe import EPSILON, Recipe
from bench.dp.train import train
from bench.models import scattering as fixed
from bench.models.classifier import CLASSIFIER_STEPS, classify, standard

# One record changes one teacher, and so takes one vote from one class and gives it to another; the largest count moves
# by one vote at most.
VOTE, LARGEST = math.sqrt(2.0), 1.0
QUIET = 0.2  # noise of this share of all votes still lets a clear plurality through


@defense(
    "pate",
    publishes={"predict", "model"},
    private=True,
    public_knowledge=("the number of private records", "the set of labels"),
)
def pate(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: Annotated[float, EPSILON] = 8.0,
    teachers: Annotated[int, Option("teachers that share the private records", at_least=1)] = 100,
    queries: Annotated[int, Option("public records that are voted on; 0: as many as the noise allows", at_least=0)] = 0,
    threshold: Annotated[
        float, Option("share of the teachers that must about agree; 0 keeps all answers", at_least=0, below=1)
    ] = 0.0,
    features: Annotated[str, fixed.FEATURES] = "auto",
    steps: Annotated[int, Option("training steps of the teachers", at_least=1)] = 50,
    learning_rate: Annotated[float, Option("learning rate of the teachers", above=0)] = 0.01,
    classifier_steps: Annotated[int, CLASSIFIER_STEPS] = 100,
) -> Release:
    """A student of public records that linear teachers label by noisy plurality (GNMax); their labels are never read.

    With a threshold only answers to which about this share of the teachers agree are kept (Confident-GNMax); each check
    costs as much as an answer. The account does not depend on how much they agree.
    """
    _check(teachers, queries, threshold)
    delta, looks = accounting.delta_for(len(private)), 2 if threshold else 1  # at each vote: is it clear, and for what
    answered = min(len(public), queries or affordable(epsilon, delta, teachers, looks))
    noise = accounting.noise_multiplier(epsilon, delta, 1.0, looks * answered)
    drawn = public[stream(seed, "queries").permutation(len(public))[:answered]]
    scatter = fixed.chosen(features, private.shape)
    held, seen = (fixed.scattered(private), fixed.scattered(drawn)) if scatter else (private, drawn)

    shards = [held[rows] for rows in assigned(private, teachers, seed)]
    votes = histogram(_votes(shards, seen.x, seed, steps, learning_rate), private.classes)
    rng = stream(seed, "noise")
    labels = gaussian_mechanism.gaussian(votes, VOTE, noise, rng).argmax(1)
    if threshold:
        clear = gaussian_mechanism.gaussian(votes.max(1), LARGEST, noise, rng) >= threshold * teachers
        seen, labels = seen[clear], labels[clear]

    labelled = replace(seen, y=labels)
    recipe = standard(labelled, hidden=() if scatter else (128,), steps=classifier_steps)
    student = classify(labelled, derive(seed, "student"), recipe, "pate: student")
    dp_event = accounting.training_event(1.0, noise, looks * answered)
    if not scatter:
        return Release(dp_event, predict=student.predict, model=student.model)
    model = fixed.before(student.model, private.shape)
    return Release(dp_event, predict=fixed.predictor(student.model), model=model)


def _check(teachers: int, queries: int, threshold: float) -> None:
    if teachers < 1:
        raise UserError(f"teachers must be at least 1, not {teachers}.")
    if queries < 0:
        raise UserError(f"queries must be 0 (as many as the noise allows) or more, not {queries}.")
    if not 0 <= threshold < 1:
        raise UserError(f"threshold is a share of the votes, from 0 (no check) to below 1, not {threshold:g}.")


def affordable(epsilon: float, delta: float, teachers: int, looks: int) -> int:
    """The most queries with which the noise of a count stays within QUIET of all votes, at least one.

    n Gaussian mechanisms are one with 1 / sqrt(n) of their noise. Nothing but public numbers goes in.
    """
    if epsilon == math.inf:
        return 2**31
    once = accounting.noise_multiplier(epsilon, delta, 1.0, 1)
    return max(1, int((QUIET * teachers / (VOTE * once)) ** 2 / looks))


def assigned(private: Examples, teachers: int, seed: int) -> list[NDArray[Any]]:
    """The rows of each teacher's records, by a keyed hash of the features of a record.

    So a record that is added or removed moves no other one to another teacher, as assigning them by position would;
    a teacher without any record votes as it started.
    """
    teacher = np.array([derive(seed, "assign", key.hex()) % teachers for key in record_keys(private)], np.int64)
    return [np.flatnonzero(teacher == k) for k in range(teachers)]


def _votes(
    shards: Sequence[Examples], x: NDArray[Any], seed: int, steps: int, learning_rate: float
) -> list[NDArray[Any]]:
    """The class (n,) that each teacher, trained on its shard, gives to each of `x`.

    The training of a teacher must not depend on the records of another or on their number, or one record would change
    more than one vote. So all of its records are in each step, and their gradients are added up and not divided by a
    number of records: to Adam it makes no difference. (What is left is rounding, since they train as one program.)
    """
    net = networks.Classifier(shards[0].shape, shards[0].classes, ())
    seeds = [derive(seed, "teacher", k) for k in range(len(shards))]
    fits = train(Recipe(net, steps, 1.0, 1.0, learning_rate), shards, seeds, f"pate: {len(shards)} teachers")
    model = networks.build(net, Single())
    logits, votes = networks.mapping(model), []
    for fit in fits:
        model.set_weights(fit.weights)
        votes.append(logits(x).argmax(1))
    return votes


def histogram(votes: Sequence[NDArray[Any]], classes: int) -> NDArray[Any]:
    """How many teachers (an array of classes (n,) each) gave each class: (n, classes)."""
    return np.stack([np.sum([vote == k for vote in votes], axis=0) for k in range(classes)], axis=1)
