"""Collaborative learning: it computes what the papers say, and nobody moves the model who may not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import split

from bench.core.dataset import Examples, Split
from bench.core.errors import UserError
from bench.core.randomness import derive
from bench.dp import accounting, sampling, training_loop
from bench.dp.networks import Weights
from bench.dp.recipe import Privacy, Recipe
from bench.dp.tensorflow_setup import tensorflow
from bench.models.federated import server as aggregation
from bench.models.federated.plan import Config, Plan, Reply, Terms, partition
from bench.models.federated.protocol import Federation, Run, federation
from bench.models.federated.server import Message, Policy, Refused, Server, largest, norm
from defenses.federated import federated
from defenses.federated_client_dp import federated_client_dp
from defenses.federated_dp_augm import federated_dp_augm
from defenses.federated_dp_sgd import federated_dp_sgd

SMALL = {"rounds": 3, "local_steps": 2, "hidden": (8,)}
SIGMAS = 5.0  # a test that is right fails about once in a million


def flat(weights: Weights) -> np.ndarray[Any, Any]:
    return np.concatenate([np.ravel(w) for w in weights])


def made(data: Split, **changed: Any) -> Federation:
    return federation(data.private, Plan(**{**SMALL, **changed}), 0)


class Echo:
    """A client that sends what it is told to, in the shape of Flower's NumPyClient and no relative of ours."""

    def __init__(self, terms: Terms, change: Any = lambda weights: weights, examples: Any = 1) -> None:
        self.terms, self.change, self.examples = terms, change, examples
        self.heard: list[Weights] = []

    def get_parameters(self, config: Config) -> Weights:
        return self.heard[-1]

    def fit(self, parameters: Weights, config: Config) -> Reply:
        self.heard.append([w.copy() for w in parameters])
        return self.change(parameters), self.examples, {"token": config["token"]}

    def evaluate(self, parameters: Weights, config: Config) -> tuple[float, int, dict[str, Any]]:
        return 0.0, 1, {}


# --- training that is resumed ---


@pytest.mark.parametrize("privacy", [None, Privacy(0.5, 1.0)], ids=["plain", "dp"])
@pytest.mark.parametrize("models", [1, 2])
def test_steps_in_two_goes_are_the_steps_in_one(privacy: Privacy | None, models: int, digits: Split) -> None:
    recipe = Recipe(made(digits).terms.net, 7, 0.1, 20.0, 0.1, privacy=privacy)
    parts, seeds = [digits.private, digits.public][:models], [1, 2][:models]
    ends = []
    for goes in ((7,), (3, 4)):
        training = training_loop.Training([recipe] * models, parts, seeds)
        for steps in goes:
            training.run(steps)
            training.set_weights(training.weights)
        assert training.steps == 7
        ends.append(flat(training.weights))
    assert np.array_equal(*ends)
    whole = training_loop.fit([recipe] * models, parts, seeds, "whole", None)
    assert np.array_equal(ends[0], flat([whole[f"w{i}"] for i in range(4)]))
    with pytest.raises(ValueError, match="8 steps would run, but 7 are accounted"):
        training.run(1)


def test_noise_is_never_drawn_twice(digits: Split) -> None:
    """Set back to the same weights, a step that clips everything to nothing moves by other noise than the last."""
    recipe = Recipe(made(digits).terms.net, 2, 1.0, 1.0, 1.0, optimizer="sgd", privacy=Privacy(1e-3, 1e3))
    training = training_loop.Training([recipe], [digits.private], [1])
    start, moves = training.weights, []
    for _ in range(2):
        training.set_weights(start)
        training.run(1)
        moves.append(flat(training.weights) - flat(start))
    assert abs(np.corrcoef(*moves)[0, 1]) < SIGMAS / math.sqrt(len(moves[0]))


# --- who holds what ---


def test_clients_share_no_record_and_hold_few_classes(digits: Split) -> None:
    y = digits.private.y
    for plan in (Plan(), Plan(clients=20, classes_each=3), Plan(clients=1, classes_each=10)):
        rows = partition(y, 10, plan, 0)
        assert len(rows) == plan.clients
        assert sorted(np.concatenate(rows)) == list(range(len(y)))
        assert all(len(np.unique(y[own])) <= plan.classes_each for own in rows)
        assert all(np.array_equal(a, b) for a, b in zip(rows, partition(y, 10, plan, 0), strict=True))
    fewer = partition(y[:-1], 10, Plan(clients=20, classes_each=3), 0)
    for with_it, without in zip(partition(y, 10, Plan(clients=20, classes_each=3), 0), fewer, strict=True):
        assert np.array_equal(with_it[with_it < len(y) - 1], without)
    with pytest.raises(UserError, match="4 clients of 2 classes cannot hold 10"):
        partition(y, 10, Plan(clients=4), 0)


# --- what is computed ---


def test_it_is_federated_averaging(digits: Split) -> None:
    """Against a loop over clients, steps and records' gradients that shares nothing with it but the lots and seeds."""
    tf = tensorflow()
    fed = made(digits, clients=3, classes_each=4)
    seed = derive(derive(fed.seed, "honest"), "clients")
    streams = [sampling.streams(derive(seed, k)).batches for k in range(3)]
    weights, model = fed.start(), fed.terms.model()
    for _ in range(3):
        ends = []
        for part, rng in zip(fed.shards, streams, strict=True):
            model.set_weights(weights)
            for _ in range(2):
                rows = np.flatnonzero(rng.random(len(part)) < fed.rate)
                with tf.GradientTape() as tape:
                    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(part.y[rows], model(part.x[rows]))
                    loss = tf.reduce_sum(losses) / fed.batch_size
                for w, gradient in zip(model.weights, tape.gradient(loss, model.weights), strict=True):
                    w.assign_sub(0.1 * gradient)
            ends.append(model.get_weights())
        weights = [np.mean(ws, 0) for ws in zip(*ends, strict=True)]
    np.testing.assert_allclose(flat(fed.trained()), flat(weights), rtol=0, atol=1e-5)
    assert np.abs(flat(weights) - flat(fed.start())).max() > 0.01


@pytest.mark.parametrize("clients", [1, 5])
def test_one_step_on_everything_is_gradient_descent_on_pooled_records(clients: int, digits: Split) -> None:
    fed = made(digits, clients=clients, classes_each=10 // clients, local_steps=1, batch_size=10**6, rounds=8)
    assert fed.rate == 1
    n = len(digits.private)
    pooled = Examples(digits.private.x, digits.private.y, 11)
    central = training_loop.Training([Recipe(fed.terms.net, 8, 1.0, float(n), 0.1, optimizer="sgd")], [pooled], [1])
    central.set_weights([w[None] for w in fed.start()])
    central.run(8)
    np.testing.assert_allclose(flat(fed.trained()), flat(central.weights), rtol=0, atol=1e-5)


def test_the_global_model_learns(digits: Split) -> None:
    release = federated(digits.private, digits.public, seed=0, rounds=40, local_steps=10, hidden=(32,))
    assert release.predict
    assert (release.predict(digits.holdout.x).argmax(1) == digits.holdout.y).mean() > 0.75


@pytest.mark.parametrize("share", [0.1, 0.01])
def test_a_share_of_the_parameters_is_sent_the_largest_changes(share: float, digits: Split) -> None:
    whole, part = made(digits), made(digits, upload=share)
    total = len(flat(whole.start()))
    for full, sparse in zip(whole.updates(), part.updates(), strict=True):
        change = flat(sparse.received) - flat(sparse.sent)
        assert np.count_nonzero(change) <= round(share * total)
        if full.round == 1:  # later the global models differ
            other = flat(full.received) - flat(full.sent)
            kept = change != 0
            np.testing.assert_allclose(change[kept], other[kept], rtol=0, atol=1e-6)
            assert np.abs(other[~kept]).max() <= np.abs(other[kept]).min() + 1e-6


def test_a_share_of_the_parameters_is_fetched_the_largest_changes(digits: Split) -> None:
    fed = made(digits, download=0.25)
    honest = fed.honest_clients(0)
    before = [flat(own) for own in honest.local]
    new = [w + np.float32(0.01) * np.arange(w.size, dtype=np.float32).reshape(w.shape) for w in fed.start()]
    starts: list[Weights] = []
    honest.training.set_weights, honest.training.run = starts.append, lambda steps: None  # type: ignore[assignment]
    honest.answers(1, new)
    for k, own in enumerate(before):
        held = flat([w[k] for w in starts[0]])
        fetched = held != own
        assert fetched.sum() == pytest.approx(0.25 * len(own), abs=1)
        assert np.array_equal(held[fetched], flat(new)[fetched])
        moved = np.abs(flat(new) - own)
        assert moved[fetched].min() >= moved[~fetched].max() - 1e-6


def test_selective_sgd_still_learns(digits: Split) -> None:
    """A tenth of the parameters both ways (Shokri and Shmatikov 2015, figure 6)."""
    options: dict[str, Any] = {"clients": 3, "classes_each": 10, "rounds": 40, "local_steps": 10, "hidden": (32,)}
    release = federated(digits.private, digits.public, seed=0, upload=0.1, download=0.1, **options)
    assert release.predict
    assert (release.predict(digits.holdout.x).argmax(1) == digits.holdout.y).mean() > 0.6


def test_of_an_update_the_largest_numbers_stay() -> None:
    rng = np.random.default_rng(0)
    update = [rng.standard_normal((3, 4)).astype(np.float32), rng.standard_normal(5).astype(np.float32)]
    sparse = flat(largest(update, 0.3))
    assert sorted(np.flatnonzero(sparse)) == sorted(np.argsort(-np.abs(flat(update)))[:5])
    assert np.array_equal(sparse[sparse != 0], flat(update)[sparse != 0])
    assert largest(update, 1.0) is update


# --- what the server takes ---


def poisoned(weights: Weights, value: float) -> Weights:
    out = [w.copy() for w in weights]
    out[0].flat[3] = value
    return out


def shifted(weights: Weights) -> Weights:
    return [w + np.float32(0.5) for w in weights]


BAD: dict[str, tuple[str, Any]] = {
    "not a number": ("finite_values", lambda w: poisoned(w, math.nan)),
    "infinite": ("finite_values", lambda w: poisoned(w, -math.inf)),
    "a million": ("bounded_values", lambda w: poisoned(w, 1e6)),
    "too far": ("bounded_norm", lambda w: [part + np.float32(10) for part in w]),
    "too much": ("bounded_share", shifted),
    "another shape": ("shaped", lambda w: [(part + 1)[:1] for part in w]),  # NumPy would stretch it
    "another type": ("shaped", lambda w: [part.astype(np.float64) + 1 for part in w]),
    "an array more": ("shaped", lambda w: [*shifted(w), w[0]]),
    "lists": ("shaped", lambda w: [(part + 1).tolist() for part in w]),
    "nothing": ("shaped", lambda w: None),
}


def server(**changed: Any) -> Server:
    start = [np.ones((2, 3), np.float32), np.zeros(3, np.float32)]
    policy = Policy(norm_bound=changed.pop("norm_bound", 5.0))
    return Server(start, ("a", "b"), 10, changed.pop("upload", 0.5), policy, 1)


def outcome(held: Server, messages: list[Message]) -> tuple[np.ndarray[Any, Any], list[str]]:
    """The parameters after a round with these messages, and what was refused."""
    refused = []
    for message in messages:
        try:
            held.receive(message)
        except Refused as reason:
            refused.append(str(reason))
    held.close()
    return flat(held.parameters), refused


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """The mutant: a server that lacks these guards."""
    kept = tuple(guard for guard in aggregation.GUARDS if guard.__name__ not in names)
    assert len(kept) == len(aggregation.GUARDS) - len(names)
    monkeypatch.setattr(aggregation, "GUARDS", kept)


def honest(held: Server, token: str) -> Message:
    return Message("a", token, poisoned(held.parameters, 1.25), 10)


@pytest.mark.parametrize("what", BAD)
def test_a_bad_update_is_refused_and_moves_nothing(what: str) -> None:
    _, change = BAD[what]
    held = server()
    tokens = held.open()
    bad = Message("b", tokens["b"], change(held.parameters), 10)
    found, refused = outcome(held, [bad, honest(held, tokens["a"])])
    assert len(refused) == 1
    assert refused[0].startswith("b ")
    assert refused[0].endswith(".")
    other = server()
    expected, _ = outcome(other, [honest(other, other.open()["a"])])
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, flat(server().parameters))


@pytest.mark.parametrize("what", [what for what in BAD if what not in ("an array more", "nothing", "lists")])
def test_without_its_guard_a_bad_update_moves_the_model(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guard, change = BAD[what]
    # An infinite or huge value is also far away: the bound on norms, off by default, must not be what saved us.
    held = server(
        norm_bound=5.0 if guard == "bounded_norm" else math.inf, upload=0.5 if guard == "bounded_share" else 1.0
    )
    without(monkeypatch, guard, *(("bounded_values",) if what == "infinite" else ()))
    tokens = held.open()
    bad = Message("b", tokens["b"], change(held.parameters), 10)
    found, refused = outcome(held, [bad])
    assert refused == []
    assert not np.array_equal(found, flat(server().parameters))


CLAIMS = [0, -1, 11, 10**9, 2.0, True, "10", None, math.nan]


@pytest.mark.parametrize("claim", CLAIMS)
def test_nobody_outweighs_the_others_by_a_claim(claim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held = server(upload=1.0)
    tokens = held.open()
    bad = Message("b", tokens["b"], poisoned(held.parameters, 3.0), claim)
    found, refused = outcome(held, [bad, honest(held, tokens["a"])])
    assert len(refused) == 1
    assert found[3] == 1.25
    if claim == 10**9:
        without(monkeypatch, "counted")
        mutant = server(upload=1.0)
        tokens = mutant.open()
        bad = Message("b", tokens["b"], poisoned(mutant.parameters, 3.0), claim)
        assert outcome(mutant, [bad, honest(mutant, tokens["a"])])[0][3] == pytest.approx(3.0)


@pytest.mark.parametrize("mutant", [False, True])
def test_an_update_answers_one_request(mutant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not registered, another's token, last round's token, and the same once more."""
    held = server()
    old = held.open()
    held.close()
    tokens = held.open()
    assert not set(old.values()) & set(tokens.values())
    parameters = poisoned(held.parameters, 1.25)
    replays = [
        Message("c", tokens["b"], parameters, 10),
        Message("b", tokens["a"], parameters, 10),
        Message("b", old["b"], parameters, 10),
        Message("b", None, parameters, 10),
    ]
    if mutant:
        without(monkeypatch, "addressed")
        found, refused = outcome(held, replays)
        assert refused == []
        assert found[3] != 1
        return
    good = honest(held, tokens["a"])
    found, refused = outcome(held, [*replays, good, good])
    assert len(refused) == 5
    assert "not registered" in refused[0]
    assert "not round 2's" in refused[2]
    assert "answered already" in refused[-1]
    assert found[3] == 1.25
    with pytest.raises(Refused, match="not selected in round 2"):
        held.receive(good)  # the round is over


def test_a_refused_client_leaves_the_run_as_if_it_had_not_come(digits: Split) -> None:
    fed = made(digits)
    alone = fed.join()
    for change in (lambda w: poisoned(w, math.nan), lambda w: poisoned(w, 1e6), lambda w: w[1:]):
        found = fed.join(lambda terms, change=change: Echo(terms, change))  # type: ignore[misc]
        assert np.array_equal(flat(found.parameters), flat(alone.parameters))
        assert len(found.refused) == 3
        assert found.refused[0].startswith("Round 1: joined 0 ")
    moved = fed.join(lambda terms: Echo(terms, lambda w: [part + np.float32(0.1) for part in w]))
    assert moved.refused == []
    assert not np.array_equal(flat(moved.parameters), flat(alone.parameters))


# --- the protocol ---


def test_who_joins_hears_every_global_model_and_cannot_touch_it(digits: Split) -> None:
    fed = made(digits)
    entered: list[Echo] = []

    def vandal(weights: Weights) -> Weights:
        copy = [w.copy() for w in weights]
        for w in weights:
            w[:] = 7
        return copy

    def enter(terms: Terms) -> Echo:
        entered.append(Echo(terms, vandal))
        return entered[-1]

    run = fed.join(enter)
    [client] = entered
    assert client.terms.classes == 10
    assert len(client.heard) == 3
    assert np.array_equal(flat(client.heard[0]), flat(fed.start()))
    assert not np.array_equal(flat(client.heard[1]), flat(client.heard[0]))
    assert np.abs(flat(run.parameters)).max() < 5
    again = fed.join(lambda terms: Echo(terms))
    assert np.array_equal(flat(again.parameters), flat(run.parameters))


def test_the_server_sees_the_run_that_was_published(digits: Split) -> None:
    fed = made(digits)
    seen = list(fed.updates())
    assert [(one.round, one.client) for one in seen[:6]] == [(1, f"client {k}") for k in range(5)] + [(2, "client 0")]
    last = [flat(one.received) for one in seen[-5:]]
    np.testing.assert_allclose(np.mean(last, 0), flat(fed.trained()), rtol=0, atol=1e-6)
    model = seen[0].terms.model(seen[0].sent)
    assert np.array_equal(flat(model.get_weights()), flat(seen[0].sent))
    for a, b in zip(seen, fed.updates(), strict=True):
        assert np.array_equal(flat(a.received), flat(b.received))
    first = next(fed.updates())  # computed as it is asked for
    assert first.round == 1


def test_the_joined_run_has_noise_of_its_own(digits: Split) -> None:
    """With the noise of the honest run in it, the difference of the two would be free of noise."""
    fed = federation(digits.private, Plan(**SMALL), 0, privacy=Privacy(1e-4, 1e4))
    assert not np.array_equal(flat(fed.join().parameters), flat(fed.trained()))


def test_an_honest_client_speaks_flower(digits: Split) -> None:
    fed = made(digits)
    client = fed.honest_clients(0).members[1]
    weights, examples, answer = client.fit(fed.start(), {"round": 1, "token": "x"})
    assert answer == {"token": "x"}
    assert examples == 200 // 5  # what is expected of a client, not what it holds
    assert flat(client.get_parameters({})).shape == flat(weights).shape
    (before, n, _), (after, _, found) = (client.evaluate(w, {}) for w in (fed.start(), weights))
    assert n == len(fed.shards[1])
    assert after < before
    assert 0 <= found["accuracy"] <= 1


@pytest.mark.parametrize(
    "changed", [{"clients": 0}, {"rounds": 0}, {"local_steps": 0}, {"upload": 0.0}, {"download": 1.5}], ids=str
)
def test_a_plan_out_of_range_is_one_sentence(changed: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        Plan(**changed)
    assert "\n" not in str(caught.value)


# --- the defenses ---


def test_dp_sgd_in_clients_accounts_the_steps_that_run(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[list[Recipe], int]] = []

    class Counted(training_loop.Training):
        def __init__(self, recipes: Any, *rest: Any) -> None:
            super().__init__(recipes, *rest)
            ran.append((recipes, 0))

        def run(self, steps: int, heard: Any = None) -> None:
            super().run(steps, heard)
            ran[-1] = (ran[-1][0], self.steps)

    monkeypatch.setattr(training_loop, "Training", Counted)
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
    """One round of two clients, of whom the second sends an update of this size in every parameter."""
    held = replace(server(), upload=1.0, policy=policy)
    tokens = held.open()
    ours = Message("a", tokens["a"], poisoned(held.parameters, 1.25), 10)
    theirs = Message("b", tokens["b"], [w + np.float32(change) for w in held.parameters], 10)
    return outcome(held, [ours, theirs])[0]


def test_a_client_moves_the_noised_average_by_twice_the_clip_at_most() -> None:
    clipped = Policy(clip=0.5)
    ends = [client_dp_round(change, clipped) for change in (100.0, -100.0)]
    assert np.linalg.norm(ends[0] - ends[1]) == pytest.approx(2 * 0.5 / 2, rel=1e-4)
    mutant = [client_dp_round(change, Policy()) for change in (100.0, -100.0)]
    assert np.linalg.norm(mutant[0] - mutant[1]) > 1


def test_noise_on_updates_is_as_large_as_is_accounted() -> None:
    """Standard deviation 2 * clip * z / expected clients, in every round anew."""
    start = [np.zeros((200, 100), np.float32)]
    held = Server(start, ("a", "b", "c", "d"), 10, 1.0, Policy(clip=0.5, noise_multiplier=3.0, client_rate=0.5), 1)
    steps = []
    for _ in range(2):
        before = held.parameters
        held.open()
        held.close()
        steps.append(flat(held.parameters) - flat(before))
    n, wanted = len(steps[0]), 2 * 0.5 * 3.0 / (0.5 * 4)
    for step in steps:
        assert abs(step.std() / wanted - 1) < SIGMAS / math.sqrt(2 * n)
        assert abs(step.mean()) < SIGMAS * wanted / math.sqrt(n)
    assert abs(np.corrcoef(*steps)[0, 1]) < SIGMAS / math.sqrt(n)
    assert abs(steps[0].std() / (wanted / 2) - 1) > SIGMAS / math.sqrt(2 * n)  # the noise for clients that come or go


def test_clients_are_selected_by_chance() -> None:
    held = Server([np.zeros(1, np.float32)], tuple(map(str, range(500))), 1, 1.0, Policy(client_rate=0.3), 1)
    asked = [frozenset(held.open()) for _ in range(4)]
    assert len(set(asked)) == 4
    total = sum(map(len, asked))
    assert abs(total - 2000 * 0.3) < SIGMAS * math.sqrt(2000 * 0.3 * 0.7)


def test_a_client_dp_server_shows_its_updates_to_nobody(digits: Split) -> None:
    release = federated_client_dp(digits.private, digits.public, seed=0, rounds=2, local_steps=2)
    assert release.updates is None
    assert 7.6 < accounting.claim(release.dp_event, 200)["epsilon"] <= 8.0001
    with pytest.raises(UserError, match="noise on updates needs a clip"):
        Policy(noise_multiplier=1.0)
    with pytest.raises(UserError, match="update_clip must be"):
        federated_client_dp(digits.private, digits.public, seed=0, update_clip=math.inf)


@pytest.mark.parametrize("encoder", ["dp", "random"])
def test_codes_are_what_clients_train_on_and_no_epsilon_is_claimed(encoder: str, digits: Split) -> None:
    release = federated_dp_augm(
        digits.private, digits.public, seed=0, encoder=encoder, encoder_steps=4, rounds=2, local_steps=2
    )
    assert math.isinf(accounting.claim(release.dp_event, 200)["epsilon"])
    assert release.encode
    assert release.predict
    assert release.updates
    [seen, *_] = release.updates()
    assert seen.terms.encode is release.encode
    assert seen.terms.net.shape == (64,)
    codes = release.encode(digits.public.x)
    np.testing.assert_allclose(codes.mean(0), 0, atol=1e-3)
    assert release.predict(digits.holdout.x).shape == (120, 10)
    with pytest.raises(UserError, match="did you mean 'random'"):
        federated_dp_augm(digits.private, digits.public, seed=0, encoder="randm")


def test_a_run_starts_where_it_says(digits: Split) -> None:
    fed = made(split("digits"))
    run = Run(fed.start())
    next(fed.play("honest", run))
    assert np.array_equal(flat(run.parameters), flat(fed.start()))
    assert norm([np.array([3.0]), np.array([4.0])]) == 5
