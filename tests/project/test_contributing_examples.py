"""The three examples of CONTRIBUTING.md are short and do what the text around them states."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.core.dataset import DataLocation, Examples, Split, shared, split
from bench.data.card import card
from bench.games import MEMBERSHIP
from bench.runner.registry import discover

ROOT = Path(__file__).resolve().parents[2]


SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """The examples of CONTRIBUTING, written to files as a reader would."""
    folder = tmp_path_factory.mktemp("contributing")
    for number, snippet in enumerate(SNIPPETS):
        (folder / f"example_{number}.py").write_text(snippet)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def digits() -> Split:
    """Real digits: 600 private, 600 holdout."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    records = Examples(raw.images[..., None] / 16, raw.target, 10)
    return split("digits", records, np.random.default_rng(0), private=600, holdout=600, public=200)


def test_examples_take_fifteen_lines():
    assert len(SNIPPETS) == 3
    for snippet in SNIPPETS:
        code = re.sub(r'""".*?"""', "", snippet, flags=re.DOTALL)  # a data set's docstring is its card
        assert len(code.strip().splitlines()) <= 15
        assert max(map(len, snippet.splitlines())) <= 120


def test_example_defense_learns_and_states_its_epsilon(plugins, digits):
    from bench.dp.accounting import epsilon

    component = discover(plugins=plugins).defenses["noisy_means"]
    release = component.function(digits.private, digits.public, seed=1)
    assert release.published() == component.publishes
    p = release.predict(digits.holdout.x)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
    assert (p.argmax(1) == digits.holdout.y).mean() > 0.6
    assert 0 < epsilon(release.dp_event, 1e-5) < 3
    again = component.function(digits.private, digits.public, seed=1)
    np.testing.assert_array_equal(p, again.predict(digits.holdout.x))


def test_example_defense_moves_by_at_most_one_record(digits):
    """Without noise, adding one record moves the sums, of which the rest is post-processing, by at most 1."""
    snippet = next(s for s in SNIPPETS if "noisy_means" in s)
    assert snippet.count("    means = ") == 1
    space: dict[str, object] = {}
    exec(snippet.replace("    means = ", "    return sums\n    means = "), space)
    with_it, without = (
        space["noisy_means"](part, digits.public, seed=1, noise_multiplier=0.0)  # type: ignore[operator]
        for part in (digits.private, digits.private[1:])
    )
    assert 0 < np.linalg.norm(with_it - without) <= 1


def test_example_attack_detects_a_leak_and_only_a_leak(plugins, digits):
    """A release that is certain of members only, and one that is certain of no record."""
    from dp_accounting import NonPrivateDpEvent
    from sklearn.metrics import roc_auc_score

    from bench.core.release import Release

    component = discover(plugins=plugins).attacks["sure_and_right"]
    assert component.game is MEMBERSHIP
    challenge = MEMBERSHIP.challenge(digits, np.random.default_rng(0))
    targets, ground_truth = challenge.targets, challenge.ground_truth
    right = np.eye(10)[targets.records.y]
    leaky = np.where(ground_truth[:, None], right, 0.1)
    for answer, low, high in ((leaky, 0.99, 1.0), (np.full_like(right, 0.1), 0.49, 0.51)):
        release = Release(NonPrivateDpEvent(), predict=lambda x, answer=answer: answer)
        score = component.function(release.only(component.needs), targets, digits.public, seed=0)
        assert np.isfinite(score).all()
        assert low <= roc_auc_score(ground_truth, score) <= high


def test_example_data_set_has_its_card_and_its_parts(plugins):
    component = discover(plugins=plugins).data["wine"]
    assert all(card(component).values())
    data = component.function(DataLocation(), np.random.default_rng(0), **component.options)
    assert [len(part) for part in (data.private, data.holdout, data.public)] == [80, 50, 48]
    assert (data.private.shape, data.private.classes, shared(data)) == ((13,), 3, 0)
