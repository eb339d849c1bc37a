"""What clients receive and send, what the server observes, and the options of a plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import split
from federations import SMALL, Echo, flat, small_federation

from bench.core.dataset import Split
from bench.core.errors import UserError
from bench.dp.networks import Weights
from bench.dp.recipe import Privacy
from bench.models.federated.plan import Plan, Terms
from bench.models.federated.protocol import Run, federation
from bench.models.federated.server import norm


def test_a_joined_client_receives_every_global_model_and_cannot_change_it(digits: Split) -> None:
    fed = small_federation(digits)
    joined: list[Echo] = []

    def overwrite(weights: Weights) -> Weights:
        copy = [w.copy() for w in weights]
        for w in weights:
            w[:] = 7
        return copy

    def join(terms: Terms) -> Echo:
        joined.append(Echo(terms, overwrite))
        return joined[-1]

    run = fed.join(join)
    [client] = joined
    assert client.terms.classes == 10
    assert len(client.received) == 3
    assert np.array_equal(flat(client.received[0]), flat(fed.start()))
    assert not np.array_equal(flat(client.received[1]), flat(client.received[0]))
    assert np.abs(flat(run.parameters)).max() < 5
    again = fed.join(lambda terms: Echo(terms))
    assert np.array_equal(flat(again.parameters), flat(run.parameters))


def test_the_server_observes_the_published_run(digits: Split) -> None:
    fed = small_federation(digits)
    updates = list(fed.updates())
    first_round = [(1, f"client {k}") for k in range(5)]
    assert [(one.round, one.client) for one in updates[:6]] == [*first_round, (2, "client 0")]
    last = [flat(one.received) for one in updates[-5:]]
    np.testing.assert_allclose(np.mean(last, 0), flat(fed.trained()), rtol=0, atol=1e-6)
    model = updates[0].terms.model(updates[0].sent)
    assert np.array_equal(flat(model.get_weights()), flat(updates[0].sent))
    for a, b in zip(updates, fed.updates(), strict=True):
        assert np.array_equal(flat(a.received), flat(b.received))
    first = next(fed.updates())  # computed lazily
    assert first.round == 1


def test_the_joined_run_has_noise_independent_of_the_honest_run(digits: Split) -> None:
    """With shared noise, the difference of the two runs would have none."""
    fed = federation(digits.private, Plan(**SMALL), 0, privacy=Privacy(1e-4, 1e4))
    assert not np.array_equal(flat(fed.join().parameters), flat(fed.trained()))


def test_an_honest_client_implements_the_methods_of_flower(digits: Split) -> None:
    fed = small_federation(digits)
    client = fed.honest_clients(0).members[1]
    weights, examples, answer = client.fit(fed.start(), {"round": 1, "token": "x"})
    assert answer == {"token": "x"}
    assert examples == 200 // 5  # the expected number of examples, not the actual one
    assert flat(client.get_parameters({})).shape == flat(weights).shape
    (before, n, _), (after, _, found) = (client.evaluate(w, {}) for w in (fed.start(), weights))
    assert n == len(fed.shards[1])
    assert after < before
    assert 0 <= found["accuracy"] <= 1


@pytest.mark.parametrize(
    "changed", [{"clients": 0}, {"rounds": 0}, {"local_steps": 0}, {"upload": 0.0}, {"download": 1.5}], ids=str
)
def test_a_plan_out_of_range_is_refused_in_one_sentence(changed: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        Plan(**changed)
    assert "\n" not in str(caught.value)


def test_a_run_starts_from_its_initial_parameters(digits: Split) -> None:
    fed = small_federation(split("digits"))
    run = Run(fed.start())
    next(fed.play("honest", run))
    assert np.array_equal(flat(run.parameters), flat(fed.start()))
    assert norm([np.array([3.0]), np.array([4.0])]) == 5
