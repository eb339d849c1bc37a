"""The server refuses updates that are malformed, too large, replayed or of a false weight."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from federations import Echo, flat, honest, outcome, poisoned, server, small_federation

from bench.core.dataset import Split
from bench.dp.networks import Weights
from bench.models.federated import server as aggregation
from bench.models.federated.server import Message, Refused


def shifted(weights: Weights) -> Weights:
    return [w + np.float32(0.5) for w in weights]


BAD: dict[str, tuple[str, Any]] = {
    "not a number": ("finite_values", lambda w: poisoned(w, math.nan)),
    "infinite": ("finite_values", lambda w: poisoned(w, -math.inf)),
    "a million": ("bounded_values", lambda w: poisoned(w, 1e6)),
    "too far": ("bounded_norm", lambda w: [part + np.float32(10) for part in w]),
    "too much": ("bounded_share", shifted),
    "another shape": ("shaped", lambda w: [(part + 1)[:1] for part in w]),  # NumPy would broadcast it
    "another type": ("shaped", lambda w: [part.astype(np.float64) + 1 for part in w]),
    "an array more": ("shaped", lambda w: [*shifted(w), w[0]]),
    "lists": ("shaped", lambda w: [(part + 1).tolist() for part in w]),
    "nothing": ("shaped", lambda w: None),
}


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """The mutant: a server without these guards."""
    kept = tuple(guard for guard in aggregation.GUARDS if guard.__name__ not in names)
    assert len(kept) == len(aggregation.GUARDS) - len(names)
    monkeypatch.setattr(aggregation, "GUARDS", kept)


@pytest.mark.parametrize("what", BAD)
def test_a_bad_update_is_refused_and_does_not_change_the_model(what: str) -> None:
    _, change = BAD[what]
    target = server()
    tokens = target.open()
    bad = Message("b", tokens["b"], change(target.parameters), 10)
    found, refused = outcome(target, [bad, honest(target, tokens["a"])])
    assert len(refused) == 1
    assert refused[0].startswith("b ")
    assert refused[0].endswith(".")
    other = server()
    expected, _ = outcome(other, [honest(other, other.open()["a"])])
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, flat(server().parameters))


@pytest.mark.parametrize("what", [what for what in BAD if what not in ("an array more", "nothing", "lists")])
def test_without_its_guard_a_bad_update_changes_the_model(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guard, change = BAD[what]
    # An infinite or huge value exceeds the bound on norms, too: that bound, off by default, must not refuse it here.
    target = server(
        norm_bound=5.0 if guard == "bounded_norm" else math.inf, upload=0.5 if guard == "bounded_share" else 1.0
    )
    without(monkeypatch, guard, *(("bounded_values",) if what == "infinite" else ()))
    tokens = target.open()
    bad = Message("b", tokens["b"], change(target.parameters), 10)
    found, refused = outcome(target, [bad])
    assert refused == []
    assert not np.array_equal(found, flat(server().parameters))


CLAIMS = [0, -1, 11, 10**9, 2.0, True, "10", None, math.nan]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_false_number_of_examples_is_refused(claim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = server(upload=1.0)
    tokens = target.open()
    bad = Message("b", tokens["b"], poisoned(target.parameters, 3.0), claim)
    found, refused = outcome(target, [bad, honest(target, tokens["a"])])
    assert len(refused) == 1
    assert found[3] == 1.25
    if claim == 10**9:
        without(monkeypatch, "counted")
        mutant = server(upload=1.0)
        tokens = mutant.open()
        bad = Message("b", tokens["b"], poisoned(mutant.parameters, 3.0), claim)
        assert outcome(mutant, [bad, honest(mutant, tokens["a"])])[0][3] == pytest.approx(3.0)


@pytest.mark.parametrize("mutant", [False, True])
def test_an_update_is_accepted_once_for_its_client_and_round(mutant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unregistered client, a token of another client or round, no token, and a duplicate are refused."""
    target = server()
    old = target.open()
    target.close()
    tokens = target.open()
    assert not set(old.values()) & set(tokens.values())
    parameters = poisoned(target.parameters, 1.25)
    replays = [
        Message("c", tokens["b"], parameters, 10),
        Message("b", tokens["a"], parameters, 10),
        Message("b", old["b"], parameters, 10),
        Message("b", None, parameters, 10),
    ]
    if mutant:
        without(monkeypatch, "addressed")
        found, refused = outcome(target, replays)
        assert refused == []
        assert found[3] != 1
        return
    good = honest(target, tokens["a"])
    found, refused = outcome(target, [*replays, good, good])
    assert len(refused) == 5
    assert "not registered" in refused[0]
    assert "not round 2's" in refused[2]
    assert "answered already" in refused[-1]
    assert found[3] == 1.25
    with pytest.raises(Refused, match="not selected in round 2"):
        target.receive(good)  # the round is over


def test_a_refused_client_does_not_affect_the_run(digits: Split) -> None:
    fed = small_federation(digits)
    alone = fed.join()
    for change in (lambda w: poisoned(w, math.nan), lambda w: poisoned(w, 1e6), lambda w: w[1:]):
        found = fed.join(lambda terms, change=change: Echo(terms, change))  # type: ignore[misc]
        assert np.array_equal(flat(found.parameters), flat(alone.parameters))
        assert len(found.refused) == 3
        assert found.refused[0].startswith("Round 1: joined 0 ")
    moved = fed.join(lambda terms: Echo(terms, lambda w: [part + np.float32(0.1) for part in w]))
    assert moved.refused == []
    assert not np.array_equal(flat(moved.parameters), flat(alone.parameters))
