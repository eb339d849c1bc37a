"""Federated defenses with DP: the noise, clip and sampling of clients are those that are accounted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from federations import SIGMAS, flat, outcome, poisoned, server

from bench.core.dataset import Split
from bench.core.errors import UserError
from bench.dp import accounting, training_loop
from bench.dp.recipe import Recipe
from bench.models.federated.server import Message, Policy, Server
from defenses.federated_client_dp import federated_client_dp
from defenses.federated_dp_augm import federated_dp_augm
from defenses.federated_dp_sgd import federated_dp_sgd


def test_dp_sgd_in_clients_accounts_the_steps_that_run(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[list[Recipe], int]] = []

    class Recorded(training_loop.Training):
        def __init__(self, recipes: Any, *rest: Any) -> None:
            super().__init__(recipes, *rest)
            ran.append((recipes, 0))

        def run(self, steps: int, on_step: Any = None) -> None:
            super().run(steps, on_step)
            ran[-1] = (ran[-1][0], self.steps)

    monkeypatch.setattr(training_loop, "Training", Recorded)
    release = federated_dp_sgd(digits.private, digits.public, seed=0, rounds=3, local_steps=2, batch_size=10)
    [(recipes, steps)] = ran
    assert steps == 6
    assert len(recipes) == 5
    for recipe in recipes:
        assert recipe.privacy
        assert recipe.rate == 10 * 5 / 200
        assert release.dp_event == accounting.training_event(recipe.rate, recipe.privacy.noise_multiplier, steps)
    assert 7.6 < accounting.claim(release.dp_event, 200)["epsilon"] <= 8.0001


def client_dp_round(change: float, policy: Policy) -> np.ndarray[Any, Any]:
    """The parameters after a round of two clients, the second of which changes every parameter by `change`."""
    target = replace(server(), upload=1.0, policy=policy)
    tokens = target.open()
    first = Message("a", tokens["a"], poisoned(target.parameters, 1.25), 10)
    second = Message("b", tokens["b"], [w + np.float32(change) for w in target.parameters], 10)
    return outcome(target, [first, second])[0]


def test_a_client_changes_the_noised_average_by_at_most_twice_the_clip() -> None:
    clipped = Policy(clip=0.5)
    ends = [client_dp_round(change, clipped) for change in (100.0, -100.0)]
    assert np.linalg.norm(ends[0] - ends[1]) == pytest.approx(2 * 0.5 / 2, rel=1e-4)
    mutant = [client_dp_round(change, Policy()) for change in (100.0, -100.0)]
    assert np.linalg.norm(mutant[0] - mutant[1]) > 1


def test_noise_on_updates_has_the_accounted_scale() -> None:
    """Standard deviation 2 * clip * z / expected clients, independent between rounds."""
    start = [np.zeros((200, 100), np.float32)]
    target = Server(start, ("a", "b", "c", "d"), 10, 1.0, Policy(clip=0.5, noise_multiplier=3.0, client_rate=0.5), 1)
    steps = []
    for _ in range(2):
        before = target.parameters
        target.open()
        target.close()
        steps.append(flat(target.parameters) - flat(before))
    n, expected = len(steps[0]), 2 * 0.5 * 3.0 / (0.5 * 4)
    for step in steps:
        assert abs(step.std() / expected - 1) < SIGMAS / math.sqrt(2 * n)
        assert abs(step.mean()) < SIGMAS * expected / math.sqrt(n)
    assert abs(np.corrcoef(*steps)[0, 1]) < SIGMAS / math.sqrt(n)
    assert abs(steps[0].std() / (expected / 2) - 1) > SIGMAS / math.sqrt(2 * n)  # without the factor 2


def test_clients_are_sampled_independently() -> None:
    target = Server([np.zeros(1, np.float32)], tuple(map(str, range(500))), 1, 1.0, Policy(client_rate=0.3), 1)
    selected = [frozenset(target.open()) for _ in range(4)]
    assert len(set(selected)) == 4
    total = sum(map(len, selected))
    assert abs(total - 2000 * 0.3) < SIGMAS * math.sqrt(2000 * 0.3 * 0.7)


def test_a_client_dp_server_releases_no_updates(digits: Split) -> None:
    release = federated_client_dp(digits.private, digits.public, seed=0, rounds=2, local_steps=2)
    assert release.updates is None
    assert 7.6 < accounting.claim(release.dp_event, 200)["epsilon"] <= 8.0001
    with pytest.raises(UserError, match="noise on updates needs a clip"):
        Policy(noise_multiplier=1.0)
    with pytest.raises(UserError, match="update_clip must be"):
        federated_client_dp(digits.private, digits.public, seed=0, update_clip=math.inf)


@pytest.mark.parametrize("encoder", ["dp", "random"])
def test_clients_train_on_embeddings_and_no_epsilon_is_claimed(encoder: str, digits: Split) -> None:
    release = federated_dp_augm(
        digits.private, digits.public, seed=0, encoder=encoder, encoder_steps=4, rounds=2, local_steps=2
    )
    assert math.isinf(accounting.claim(release.dp_event, 200)["epsilon"])
    assert release.encode
    assert release.predict
    assert release.updates
    [update, *_] = release.updates()
    assert update.terms.encode is release.encode
    assert update.terms.net.shape == (64,)
    embeddings = release.encode(digits.public.x)
    np.testing.assert_allclose(embeddings.mean(0), 0, atol=1e-3)
    assert release.predict(digits.holdout.x).shape == (120, 10)
    with pytest.raises(UserError, match="did you mean 'random'"):
        federated_dp_augm(digits.private, digits.public, seed=0, encoder="randm")
