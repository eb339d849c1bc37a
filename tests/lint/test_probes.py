"""Single probes on constructed inputs: server noise, reachable objects, Poisson sampling, released noise."""

from __future__ import annotations

import functools
import textwrap
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.core.dataset import Examples
from bench.core.release import Release
from bench.dp import accounting
from bench.lint.instrumentation import Averaged, Seen
from bench.lint.noise_reuse import contains_multiple
from bench.lint.poisson_sampling import sampling_defects
from bench.lint.probe_run import module_reset
from bench.lint.release_contents import reachable_objects
from bench.lint.replay import replay_records
from bench.lint.server_noise import server_noise
from bench.lint.step_sensitivity import neighbouring_batches
from bench.models.federated.server import Policy, Server


@pytest.mark.parametrize("bug", ["", "clip", "noise", "by responding clients"])
def test_a_server_with_a_wrong_clip_or_noise_is_flagged(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Server.average

    def average(server: Server) -> None:
        if bug == "clip":
            policy = server.policy
            server.policy = replace(policy, clip=3 * policy.clip, noise_multiplier=policy.noise_multiplier / 3)
        elif bug == "noise":
            server.policy = replace(server.policy, noise_multiplier=0.5 * server.policy.noise_multiplier)
        elif bug:
            server.clients = server.clients[: max(1, len(server.taken))]
        original(server)

    monkeypatch.setattr(Server, "average", average)
    seen = Seen(averaged=[Averaged(Policy(clip=0.7, noise_multiplier=1.3), 3, [], [], [])])
    assert bool(server_noise(seen, 0)) == bool(bug)


def test_objects_reachable_from_an_access_are_found() -> None:
    class Kept:
        def __init__(self, thing: Any) -> None:
            self.thing = thing

        def __call__(self, x: Any) -> Any:
            return x

        def method(self, x: Any) -> Any:
            return x

    some = np.arange(7.0)

    def default(x: Any, kept: Any = some) -> Any:
        return x

    ways = [Kept(some), Kept([{"a": (some,)}]).method, lambda x: some, default, functools.partial(default, kept=[some])]
    for way in ways:
        arrays = reachable_objects(Release(accounting.no_access(), predict=way)).values()
        assert any(np.array_equal(one, some) for one in arrays)
    records = Examples(np.zeros((3, 2)), np.zeros(3, int), 2)
    other = Examples(np.zeros((4, 2)), np.zeros(4, int), 2)
    schema = [
        lambda x: np.eye(records.classes), lambda x: [len(records) + records.shape[0] for _ in x],
        lambda x: (other.x, records.classes),
    ]  # fmt: skip
    whole = [lambda x: records.x, Kept(records), lambda x: (default(records), records.classes), lambda x: records[x]]
    for function in (*schema, *whole):
        arrays = reachable_objects(Release(accounting.no_access(), predict=function)).values()
        assert any(one.shape == (3, 2) for one in arrays) == (function in whole), "the number of classes is public"


def test_no_batch_that_is_compared_contains_the_overflowing_record() -> None:
    records = replay_records([Examples(np.random.default_rng(0).random((20, 30)), np.zeros(20, int), 2)])
    with np.errstate(over="ignore"):
        finite = np.isfinite(records.x.sum(1))
    assert not finite.all()
    assert all(finite[list(without)].all() for without, _ in neighbouring_batches(len(records), anywhere=True))


def test_a_low_sampling_rate_is_no_finding() -> None:
    rng = np.random.default_rng(0)
    assert list(sampling_defects(np.zeros((200, 1, 64)), [5e-4])) == [], (
        "one of 600 such trainings has empty batches only"
    )
    for rate in (5e-4, 0.01, 0.3, 0.99):
        assert list(sampling_defects((rng.random((200, 1, 64)) < rate).astype(float), [rate])) == []
    always = np.zeros((200, 1, 64))
    always[:, 0, :13] = 1
    assert any("batch sizes do not vary" in what for what in sampling_defects(rng.permuted(always, axis=2), [13 / 64]))


def test_released_noise_is_detected_and_a_noised_sum_is_not() -> None:
    rng = np.random.default_rng(0)
    noise, other = rng.normal(size=40), rng.normal(size=300)
    assert contains_multiple(noise, np.concatenate([other, -3 * noise, other]).astype(np.float32))
    assert not contains_multiple(noise, other)
    assert not contains_multiple(noise, np.concatenate([other, noise + 0.01, other])), "a sum of 0.01 was added"
    partial = np.where(np.arange(40) < 8, 0.0, noise)  # the first eight sums are unknown, as 0
    assert contains_multiple(partial, np.concatenate([other, np.where(partial == 0, 5.0, noise)]))


def test_the_state_of_a_module_is_reset_between_runs() -> None:
    module: dict[str, Any] = {"__name__": "planted"}
    code = """
        import functools
        NUMBERS, SEEN, LAST = [1], {}, 0
        @functools.lru_cache
        def cached():
            return []
        def defend(record):
            global LAST, new
            LAST = new = record
            NUMBERS.append(record)
            SEEN[0] = record
            cached().append(record)
        """
    exec(textwrap.dedent(code), module)
    numbers, reset = module["NUMBERS"], module_reset(module["defend"])
    module["defend"](7)
    assert (module["SEEN"], module["cached"]()) == ({0: 7}, [7])
    reset()
    assert (module["NUMBERS"], module["SEEN"], module["LAST"], module["cached"]()) == ([1], {}, 0, [])
    assert module["NUMBERS"] is numbers
    assert "new" not in module
