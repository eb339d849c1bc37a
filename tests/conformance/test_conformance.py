"""The kit passes what is right, and of each way to be wrong it says the one sentence that helps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import components

from bench.cli.main import main
from bench.conformance import attack_checks, defense_checks, dp_checks, end_to_end
from bench.conformance.attack_checks import AttackRuns
from bench.conformance.check import Check, run_check
from bench.conformance.session import named
from bench.conformance.short_runs import ShortRuns
from bench.core.component import Choice
from bench.core.errors import UserError
from bench.dp import train
from bench.dp.weights_cache import WeightsCache
from bench.runner import controls
from bench.runner.controls import ControlSetting
from bench.runner.registry import add, discover

ROOT = Path(__file__).resolve().parents[2]
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
    """How sure the release is of the truth."""
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
# By check: what makes a defense that must fail it, old and new text, and words of the sentence that it must give.
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


def test_every_check_has_a_mutant() -> None:
    ours = {repr(check) for check in (*defense_checks.CHECKS, *dp_checks.CHECKS)}
    assert ours == DEFENSES.keys()
    assert {repr(check) for check in attack_checks.CHECKS} == ATTACKS.keys()


def test_a_right_defense_passes_all(tmp_path: Path) -> None:
    runs = defense_of(tmp_path, MEANS)
    for check in (*defense_checks.CHECKS, *dp_checks.CHECKS):
        if check is not dp_checks.zero_epsilon_reads_nothing:
            assert printed(check, runs) == ["passed: "], check
    [skipped] = printed(dp_checks.zero_epsilon_reads_nothing, runs)
    assert skipped == "skipped: its epsilon is above 0."


@pytest.mark.parametrize(("check", "edits", "words"), list(mutants(DEFENSES)))
def test_a_wrong_defense_is_told_what_to_do(
    check: str, edits: list[tuple[str, str]], words: str, tmp_path: Path
) -> None:
    runs = defense_of(tmp_path, edited(MEANS, edits))
    [one] = [one for one in (*defense_checks.CHECKS, *dp_checks.CHECKS) if repr(one) == check]
    found = printed(one, runs)
    assert any(re.search(f"^FAILED: .*{words}", line) for line in found), found
    assert not any("\n" in line for line in found)


def test_a_right_attack_passes_all(tmp_path: Path) -> None:
    runs = attack_of(tmp_path, SURE)
    for check in attack_checks.CHECKS:
        assert printed(check, runs) == ["passed: "], check


@pytest.mark.parametrize(("check", "edits", "words"), list(mutants(ATTACKS)))
def test_a_wrong_attack_is_told_what_to_do(
    check: str, edits: list[tuple[str, str]], words: str, tmp_path: Path
) -> None:
    runs = attack_of(tmp_path, edited(SURE, edits))
    [one] = [one for one in attack_checks.CHECKS if repr(one) == check]
    found = printed(one, runs)
    outcome = "skipped" if check == "has_a_required_score" else "FAILED"
    assert any(re.search(f"^{outcome}: .*{words}", line) for line in found), found
    assert not any("\n" in line for line in found)


def test_an_answer_of_nothing_is_told_once(tmp_path: Path) -> None:
    runs = attack_of(tmp_path, edited(SURE, [("return score", "return None")]))
    failed = [line for one in attack_checks.CHECKS for line in printed(one, runs) if line.startswith("FAILED")]
    assert len(failed) == 1, failed
    assert "answers with a NoneType" in failed[0]


def test_who_refuses_records_in_a_sentence_is_not_wrong(tmp_path: Path) -> None:
    """But whoever makes records that are none has refused nothing."""
    no = (
        "from bench.core.errors import UserError\n"
        "    if private.x.ndim < 4: raise UserError('pictures only')\n    rng = np"
    )
    runs = defense_of(tmp_path, edited(MEANS, [(FIRST, no)]))
    assert printed(defense_checks.works_on_flat_records, runs) == ["skipped: it refuses such records: pictures only"]
    broken = edited(MEANS, [(FIRST, "Examples(private.x * np.nan, private.y, private.classes)\n    rng = np")])
    [line] = printed(defense_checks.works_on_flat_records, defense_of(tmp_path, broken))
    assert line.startswith("FAILED: it stopped at line 17 of means.py: record 0 holds")


def test_who_takes_no_pictures_is_tried_on_plain_features(tmp_path: Path) -> None:
    no = (
        "from bench.core.errors import UserError\n"
        "    if private.x.ndim > 2: raise UserError('no pictures')\n    rng = np"
    )
    runs = defense_of(tmp_path, edited(MEANS, [(FIRST, no)]))
    for check in (*defense_checks.CHECKS, dp_checks.claims_what_it_spends, end_to_end.appears_on_leaderboard):
        assert printed(check, runs) == ["passed: "], check


# The controls, and the board


@pytest.fixture
def small_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = "digits,private=60,holdout=60,public=200"
    small = ControlSetting("membership", "none,steps=300", sizes, random_labels=True, null=3)
    monkeypatch.setattr(controls, "CONTROL_SETTINGS", (small,))
    monkeypatch.setattr(controls, "POSITIVE", 2)


def test_controls_are_played(tmp_path: Path, small_controls: None) -> None:
    with train.caching(WeightsCache(tmp_path / "fits")):
        assert printed(end_to_end.passes_its_controls, attack_of(tmp_path, SURE)) == ["passed: "]
        high = attack_of(tmp_path, edited(SURE, [("required_score=0.7", "required_score=1.1")]))
        [line] = printed(end_to_end.passes_its_controls, high)
    assert re.match(
        r"FAILED: positive control: .* required score is 1.100 .*: fix .* or lower its required_score\.$", line
    )


def test_what_no_world_gives_is_skipped(tmp_path: Path, small_controls: None) -> None:
    runs = attack_of(tmp_path, edited(SURE, [('{"predict"}', '{"join"}')]))
    assert printed(end_to_end.passes_its_controls, runs)[0].startswith("skipped: there is no control of its game")
    assert printed(attack_checks.finds_a_leak, runs)[0].startswith("skipped: there is no control of its game")


def test_a_defense_appears_on_leaderboard(tmp_path: Path) -> None:
    assert printed(end_to_end.appears_on_leaderboard, defense_of(tmp_path, MEANS)) == ["passed: "]
    wrong = edited(MEANS, [("def predict(x):", "def predict(x):\n        assert len(x) < 150")])
    [line] = printed(end_to_end.appears_on_leaderboard, defense_of(tmp_path, wrong))
    assert re.match(r"FAILED: against confidence on digits the attack failed, AssertionError", line)
    publishes = (
        ('{"predict", "encode", "generate"}', "set()"),
        ("predict=predict, encode=Codes(), generate=generate", ""),
    )
    nobody = edited(MEANS, list(publishes))
    assert printed(end_to_end.appears_on_leaderboard, defense_of(tmp_path, nobody))[0].startswith(
        "skipped: no attack here"
    )


@pytest.mark.parametrize(
    ("name", "attack"),
    [("dp_vaegm", "confidence"), ("federated_client_dp", "confidence"), ("random_encoder", "confidence")],
)
def test_the_cheapest_attack_is_the_baseline_where_it_can_be(name: str, attack: str) -> None:
    found = end_to_end.cheapest(Choice(components().defenses[name]), "digits", components())
    assert found is not None
    assert found.name == attack


# Through the program


def program(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], str]:
    code = main(["test", *words])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out.splitlines(), err


def test_a_right_file_is_exit_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talks = edited(MEANS, [("def predict(x):", "print('hello')\n\n    def predict(x):\n        print('asked')")])
    (tmp_path / "both.py").write_text(talks + SURE)
    code, lines, err = program(capsys, str(tmp_path / "both.py"), "--no-controls")
    assert code == 0, lines
    assert all(re.match(r"(means|sure): [a-z ,=0-9_]+: (passed$|skipped: .+\.$)", line) for line in lines[:-1])
    assert re.match(r"\d+ passed, 0 failed, \d skipped in \d+ s$", lines[-1])
    assert "means: appears on a leaderboard: passed" in lines
    assert "sure: passes its controls: skipped: --no-controls." in lines
    assert "[0/" in err


@pytest.mark.parametrize(
    ("text", "edits", "words"),
    [  # of the mutants above, one a kind
        (MEANS, [(FIRST, "private.x *= 2\n    rng = np")], "modifies its input records at line 17 of bad.py: work on"),
        (MEANS, [("return Release(dp_event, ", "return dict(dp_event=dp_event, ")], "returned a dict: return a bench"),
        (MEANS, [(DRAWN, "default_rng(0)\n    sigma")], "two seeds give bit-identical releases"),
        (SURE, [("return score", "return -score")], "wrong sign: larger must mean more leakage"),
        (SURE, [("p = rel", "release.generate(5, 0)\n    p = rel")], "uses release.generate"),
    ],
    ids=["changes its records", "no release", "no noise of its own", "wrong sign", "undeclared access"],
)
def test_a_wrong_file_is_exit_1_and_its_sentence(
    text: str, edits: list[tuple[str, str]], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text(edited(text, edits))
    code, lines, _ = program(capsys, str(tmp_path / "bad.py"), "--no-controls")
    assert code == 1
    failed = [line for line in lines if ": FAILED: " in line]
    assert re.search(words, failed[0]), failed
    whys = [line.partition(": FAILED: ")[2] for line in failed]
    assert len(set(whys)) == len(whys), "one cause is told once"
    assert f"{len(failed)} failed" in lines[-1]


DECLARATIONS = {
    "no seed": (MEANS, [(", seed, epsilon", ", epsilon")], "means must take the keyword-only argument seed"),
    "positional": (MEANS, [("public, *, seed, epsilon=8.0", "public, epsilon=8.0, *, seed")], "options after a bare"),
    "no default": (MEANS, [("epsilon=8.0", "epsilon")], "option epsilon must have a default"),
    "unknown access": (MEANS, [('"encode", "gen', '"weights", "gen')], "publishes names 'weights'"),
    "game": (
        "from bench import attack\n\n@attack('spear', game='membership', needs={'predict'})\n"
        "def spear(release, targets, public, *, seed): ...\n", [], "must be one of bench.games, .* not 'membership'",
    ),
    "crash": (MEANS, [("import numpy", "import nmpy")], "could not be loaded in line .*nmpy"),
    "nothing": ("x = 1", [], "declares no component"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", DECLARATIONS)
def test_a_wrong_declaration_is_exit_2(mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, edits, words = DECLARATIONS[mistake]
    (tmp_path / "bad.py").write_text(edited(text, edits))
    code, lines, err = program(capsys, str(tmp_path / "bad.py"))
    assert (code, lines) == (2, [])
    assert re.search(words, err)
    assert err.count("\n") == 1


def test_what_is_not_there_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word, says in (
        ("dp_vaegn", "did you mean 'dp_vaegm'"), (str(tmp_path / "no.py"), "does not exist"),
        ("dp_vaegm,epsilom=1", "did you mean 'epsilon'"), (f"{tmp_path / 'no.py'},epsilon=1", "does not exist"),
    ):  # fmt: skip
        code, lines, err = program(capsys, "constant", word)
        assert (code, lines) == (2, []), "nothing is tried before all are found"
        assert says in err


def test_options_follow_a_file_as_they_follow_a_name(tmp_path: Path) -> None:
    mine = tmp_path / "mine, too.py"
    mine.write_text(MEANS)
    _, [choice] = named([str(mine)])
    assert choice.options == {}
    _, [choice] = named([f"{mine.rename(tmp_path / 'mine.py')},epsilon=2"])
    assert choice.label == "means,epsilon=2"
    with pytest.raises(UserError, match="did you mean 'epsilon'"):
        named([f"{tmp_path / 'mine.py'},epsilom=2"])


def test_a_registered_name_and_several_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = program(capsys, "constant", "confidence", "--no-controls")
    assert code == 0, lines
    assert {line.partition(":")[0] for line in lines[:-1]} == {"constant", "confidence"}


def test_the_examples_of_contributing_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    files = [tmp_path / f"example_{number}.py" for number in range(2)]
    for file, page in zip(files, pages, strict=False):
        file.write_text(page)
    code, lines, _ = program(capsys, *map(str, files), "--no-controls")
    assert code == 0, lines
    assert {line.partition(":")[0] for line in lines[:-1]} == {"noisy_means", "sure_and_right"}
