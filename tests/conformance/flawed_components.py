"""A correct defense and attack, and for each check edits that fail it, with words of the expected sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.conformance.attack_checks import AttackRuns
from bench.conformance.check import Check, run_check
from bench.conformance.short_runs import ShortRuns
from bench.core.component import Choice
from bench.runner.registry import add, discover

MEANS = '''
import numpy as np
from bench.dp import accounting, gaussian_mechanism as mechanism
from bench.core.dataset import Examples
from bench.core.component import defense
from bench.core.release import Release

class Codes:
    model = None

    def __call__(self, x):
        return np.reshape(x, (len(x), -1))[:, :5]

@defense("means", publishes={"predict", "encode", "generate"}, private=True, public_knowledge=("the set of labels",))
def means(private, public, *, seed, epsilon=8.0):
    """Noisy class sums, and records drawn around them."""
    rng = np.random.default_rng(seed)
    sigma = accounting.noise_multiplier(epsilon, accounting.delta_for(len(private)), 1.0, 1)
    flat = private.x.reshape(len(private), -1) / np.sqrt(np.prod(private.shape))
    sums = mechanism.gaussian(np.eye(private.classes)[private.y].T @ flat, 1.0, sigma, rng)
    centres = sums / (np.linalg.norm(sums, axis=1, keepdims=True) + 1e-9)

    def predict(x):
        odds = np.exp(5 * np.reshape(x, (len(x), centres.shape[1])) @ centres.T)
        return odds / odds.sum(1, keepdims=True)

    def generate(n, seed):
        y = np.arange(n) % private.classes
        x = centres[y] + 0.1 * np.random.default_rng(seed).standard_normal((n, centres.shape[1]))
        return Examples(np.clip(x, 0, 1).reshape(n, *private.shape), y, private.classes)

    dp_event = accounting.training_event(rate=1.0, noise_multiplier=sigma, steps=1)
    return Release(dp_event, predict=predict, encode=Codes(), generate=generate)
'''
SURE = '''
import numpy as np
from bench.games import MEMBERSHIP
from bench.core.component import attack

@attack("sure", game=MEMBERSHIP, needs={"predict"}, required_score=0.7)
def sure(release, targets, public, *, seed):
    """The probability that the release gives the true label."""
    p = release.predict(targets.records.x)[np.arange(len(targets.records)), targets.records.y]
    score = np.log(np.clip(p, 1e-9, 1)).astype(float)
    return score
'''
DRAWN = "default_rng(seed)\n    sigma"
FIRST = "rng = np"  # of the body of the defense
ODDS = "odds / odds.sum(1, keepdims=True)"
BATCH = "x = x - x.mean(0) if len(x) else x\n        odds = np.exp(5 * "
ALONE = "np.linalg.inv(np.eye(len(private)) - (len(private) == 1))\n    rng = np"
FEWER = """from bench.core.errors import UserError
    if len(private) == 1: raise UserError('two at least')
    assert len(set(private.y)) > 1, 'a class has none'
    rng = np"""
WINE = "from sklearn.datasets import load_wine; load_wine()\n    "
PEEK = """
import gc
from bench.core.game import Challenge

def secret(targets):
    return next(c.ground_truth for c in gc.get_objects() if isinstance(c, Challenge) and c.targets is targets)

@attack"""
# For each check: edits (old and new text) of a defense that must fail it, and words of the expected sentence.
DEFENSES: dict[str, list[tuple[list[tuple[str, str]], str]]] = {
    "publishes_what_it_declares": [
        ([("return Release(dp_event, predict=predict, ", "return predict; Release(")], "returned a function: return a"),
        ([('{"predict", "encode"', '{"model", "predict", "encode"')], "declares model and publishes none"),
        ([('{"predict", "encode"', '{"encode"')], "publishes predict, which publishes={...} does not name"),
        ([('{"predict", "encode"', '{"retrain", "predict", "encode"')], "which bench adds to every defense"),
        ([("Release(dp_event", "Release(8.0")], "dp_event is a float, not a dp_accounting.DpEvent"),
        ([("encode=Codes()", "encode=lambda x: x")], "encode is a plain function"),
        ([(FIRST, "crash\n    rng = np")], "at line 17 of means.py with NameError: name 'crash'"),
    ],
    "same_seed_same_release": [
        ([(DRAWN, "default_rng()\n    sigma")], "draw everything from `seed`"),
        ([("sums = mech", "flat = flat + 0.1 * np.random.rand(*flat.shape)\n    sums = mech")], "from a global state"),
        ([("sums = mech", "import random; flat = flat * random.random()\n    sums = mech")], "from a global state"),
    ],
    "another_seed_another_release": [([(DRAWN, "default_rng(0)\n    sigma")], "two seeds give")],
    "predicts_probabilities": [
        ([("/ odds.sum(1, keepdims=True)", "")], "no probabilities"),
        ([("centres.shape[1])) @", "-1)) @")], "predict fails without records"),
        ([(ODDS, "odds.argmax(1)")], r"shape \(120,\) for 120 records"),
        ([(ODDS, "odds / 0 * 0")], "numbers that are not finite"),
        ([("odds = np.exp(5 * ", BATCH)], "use no statistic"),
    ],
    "encodes_each_record": [
        ([("[:, :5]", "[:, :5] - np.mean(x)")], "use no statistic of a batch"),
        ([("[:, :5]", "[0]")], r"shape \(64,\) for 120 records"),
        ([("[:, :5]", "[:, :5] * np.inf")], "numbers that are not finite"),
    ],
    "generates_requested_number": [
        ([("y = np.arange(n)", "n = 30; y = np.arange(n)")], r"for 0 records generate returned shape \(30, 8, 8, 1\)"),
        ([("np.clip(x, 0, 1)", "(x - 1)")], r"keep them in \[0, 1\]"),
        ([("np.random.default_rng(seed).stand", "np.random.default_rng().stand")], "other records each time"),
        ([("np.random.default_rng(seed).stand", "np.random.default_rng(1).stand")], "same records for two seeds"),
        ([("return Examples(np.clip(x, 0, 1).reshape(n, *private.shape), y, private.classes)", "return x")], "ndarray"),
        ([("np.clip(x, 0, 1)", "(x * np.nan)")], "not a finite number"),
    ],
    "works_on_flat_records": [
        ([(FIRST, "assert private.x.ndim == 4\n    rng = np")], "line 17 of means.py with AssertionError"),
        ([("def predict(x):", "def predict(x):\n        x = np.reshape(x, (len(x), 64))")], "line 24 .* reshape"),
        ([(ODDS, "np.full((len(x), 10), 0.1)")], r"probabilities, \(120, 2\)"),
    ],
    "works_with_few_records": [
        ([("+ 1e-9", "if (private.y == 0).any() else 0")], "not finite|not a finite"),
        ([(FIRST, ALONE)], "with LinAlgError: Singular matrix: fix"),
        ([(FIRST, FEWER)], "with AssertionError: a class has none: fix"),
    ],
    "modifies_no_input": [
        ([(FIRST, "public.y.setflags(write=True); public.y[0] ^= 1\n    rng = np")], "work on a copy"),
    ],
    "reads_only_its_inputs": [
        ([(FIRST, WINE + FIRST)], "reads wine_data.csv"),
    ],
    "claims_what_it_spends": [
        ([("Release(dp_event", "Release(accounting.no_privacy()")], "private=True and has an infinite epsilon"),
        ([("private=True, ", "")], "claims no privacy: declare it private=True"),
    ],
    "spends_requested_epsilon": [
        ([("noise_multiplier(epsilon,", "noise_multiplier(2 * epsilon,")], "with epsilon=0.5 it spends"),
        ([("noise_multiplier(epsilon,", "noise_multiplier(epsilon / 2,")], "spends only"),
    ],
    "claims_nothing_without_noise": [
        ([("=sigma, steps", "=sigma or 1.0, steps")], "return dp_event=bench.accounting.no_privacy"),
    ],
    "zero_epsilon_reads_nothing": [
        ([("Release(dp_event", "Release(accounting.no_access()")], "predict, generate depend on private records"),
    ],
    "passes_the_linter": [
        (
            [("y = np.arange(n) % private.classes", "y = np.random.default_rng(seed).choice(private.y, n)")],
            "input independence: generate depends on private records outside",
        ),
        ([("steps=1)", "steps=1 + int((private.y == 0).sum()))")], "it may depend on options and the number"),
    ],
    "prints_nothing_private": [([(FIRST, "print('mean', private.x.mean())\n    rng = np")], "what it prints")],
}  # fmt: skip
ATTACKS: dict[str, list[tuple[list[tuple[str, str]], str]]] = {
    "answers_in_form": [
        ([("return score", "return score[:-1]")], r"shape \(449,\): return scores of each target, \(450,\)"),
        ([("np.clip(p, 1e-9, 1)", "p * 0")], "numbers that are not finite"),
        ([("return score", "return list(score)")], "answers with a list"),
        ([("return score", "return score > 0")], "type bool: return floats"),
        ([("p = rel", "release.generate(5, 0)\n    p = rel")], "uses release.generate, which needs={...} does"),
        ([("p = rel", "assert release.model is not None\n    p = rel")], "uses release.model, which needs"),
        ([("p = rel", "targets.records.x[0] = 0\n    p = rel")], "modifies its input records at line 9 of sure.py"),
    ],
    "same_seed_same_answer": [
        ([("return score", "return score + np.random.rand(len(score))")], "from a global state"),
        ([("return score", "return score + np.random.default_rng().random(len(score))")], "everything from `seed`"),
    ],
    "order_does_not_matter": [([("return score", "return score + np.arange(len(score))")], "depends on the position")],
    "finds_a_leak": [
        ([("return score", "return -score")], "larger must mean more leakage"),
        ([("return score", "return 0 * score")], "every target the same answer"),
        ([("targets.records.y]", "0 * targets.records.y]")], "it reaches auc 0"),
    ],
    "finds_nothing_in_nothing": [
        (
            [("return score", "return score + 99 * secret(targets)"), ("\n@attack", PEEK)],
            "reaches auc 1.000, against 0.500 by chance",
        ),
    ],
    "stays_finite": [([("np.clip(p, 1e-9, 1)", "p")], "clip probabilities before a logarithm")],
    "modifies_no_input": [
        ([("p = rel", "public.y.setflags(write=True); public.y[0] ^= 1\n    p = rel")], "work on a copy"),
    ],
    "reads_only_its_inputs": [
        ([("p = rel", WINE + "p = rel")], "reads wine_data.csv"),
    ],
    "has_a_required_score": [([(", required_score=0.7", "")], "required_score=...")],
}  # fmt: skip


def edited(text: str, edits: list[tuple[str, str]]) -> str:
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def component(folder: Path, text: str, name: str) -> Any:
    path = folder / f"{name}.py"
    path.write_text(text)
    registry = discover()
    [found] = add(registry, path)
    return found, registry


def defense_of(folder: Path, text: str) -> ShortRuns:
    found, registry = component(folder, text, "means")
    return ShortRuns(Choice(found), registry)


def attack_of(folder: Path, text: str) -> AttackRuns:
    found, registry = component(folder, text, "sure")
    return AttackRuns(Choice(found), registry, on_progress=lambda what: None)


def printed(check: Check[Any], runs: Any) -> list[str]:
    return [f"{verdict.outcome}: {verdict.why}" for verdict in run_check(check, runs, runs.component)]


def mutants(of: dict[str, list[tuple[list[tuple[str, str]], str]]]) -> Iterator[Any]:
    for check, several in of.items():
        for number, (edits, words) in enumerate(several):
            yield pytest.param(check, edits, words, id=f"{check}-{number}")
