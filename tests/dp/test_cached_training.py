"""Joint training gives what each call trains alone, and a stored training is loaded instead of repeated."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainings import CLASSIFIER, SMALL_VAE, changed, examples, flat, one, recipe

from bench.core.dataset import Examples
from bench.core.source_code import reached
from bench.dp import accounting, networks
from bench.dp import train as training
from bench.dp import training_loop as engine
from bench.dp.joint_training import train_jointly
from bench.dp.networks import Autoencoder, Classifier
from bench.dp.recipe import Privacy
from bench.dp.train import caching, train
from bench.store.store import Store


def procedure(k: int) -> Any:
    """Two trainings, as in a defense: the second is trained on the embeddings of the first."""
    part = examples(20 + k, k)
    [first] = train(recipe(Autoencoder((6,), (5,), 3), learning_rate=0.01), [part], [100 + k], "first")
    encoder, _ = networks.halves(Autoencoder((6,), (5,), 3), first.weights)
    codes = Examples(networks.mapping(encoder)(part.x), part.y, 3)
    [second] = train(recipe(Classifier((3,), 3, (4,))), [codes], [200 + k], "second")
    return k, first, second


def test_calls_train_jointly_what_each_trains_alone_in_one_training_per_stage(calls: list[Any]) -> None:
    found = train_jointly([lambda k=k: procedure(k) for k in range(4)])
    assert [(len(arguments[1]), arguments[3]) for arguments in calls] == [(4, "first"), (4, "second")]
    for k, (name, *fits) in enumerate(found):
        assert name == k
        for fit, alone in zip(fits, procedure(k)[1:], strict=True):
            np.testing.assert_allclose(flat(fit), flat(alone), rtol=0, atol=1e-5)
            assert fit.dp_event == alone.dp_event
    assert train_jointly([]) == []


def test_calls_with_different_networks_and_numbers_of_trainings_run_jointly(calls: list[Any]) -> None:
    def short() -> str:
        return "nothing to train"

    def other() -> Any:
        return train(recipe(SMALL_VAE), [examples(9)], [7], "first")[0]

    found = train_jointly([short, lambda: procedure(0), other, lambda: procedure(1)])
    assert sorted(len(arguments[1]) for arguments in calls) == [1, 2, 2]
    assert found[0] == "nothing to train"
    np.testing.assert_allclose(flat(found[2]), flat(other()), rtol=0, atol=1e-6)


def test_a_call_that_fails_ends_all_calls_and_leaves_no_thread() -> None:
    reached = []

    def fails() -> None:
        train(recipe(), [examples()], [1])
        raise RuntimeError("after its first training")

    def waits() -> None:
        train(recipe(), [examples()], [2])
        try:
            train(recipe(), [examples()], [3])
            reached.append("trained on")
        except Exception:  # noqa: BLE001 - what a component might do
            reached.append("handled")

    before = threading.active_count()
    for order in ([fails, waits], [waits, fails]):
        with pytest.raises(RuntimeError, match="after its first"):
            train_jointly(order)
    assert reached == []
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="a different seed"):  # two models would share their noise
        train_jointly([lambda: train(recipe(), [examples()], [1])] * 2)
    assert threading.active_count() == before


def test_joint_trainings_are_cached(store: Store, calls: list[Any]) -> None:
    for _ in range(2):
        train_jointly([lambda k=k: procedure(k) for k in range(2)])
    assert len(calls) == 2


def test_nested_joint_calls_run_as_one_training(calls: list[Any]) -> None:
    """For example, the seeds of a control each run an attack that trains shadow models."""

    def outer(k: int) -> Any:
        return train_jointly([lambda j=j: train(recipe(), [examples(9, j)], [j])[0] for j in (2 * k, 2 * k + 1)])

    found = train_jointly([lambda k=k: outer(k) for k in range(3)])
    assert [len(arguments[1]) for arguments in calls] == [6]
    for k, fits in enumerate(found):
        for j, fit in zip((2 * k, 2 * k + 1), fits, strict=True):
            [alone] = train(recipe(), [examples(9, j)], [j])
            np.testing.assert_allclose(flat(fit), flat(alone), rtol=0, atol=1e-5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    with caching(made.weights):
        yield made


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of every training that runs after this fixture."""
    seen: list[Any] = []
    real = engine.fit

    def counted(*arguments: Any) -> Any:
        seen.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(engine, "fit", counted)
    return seen


def test_a_stored_training_is_not_repeated(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [examples(), examples(7, 1)]
    first = train(recipe(), parts, [1, 2])
    monkeypatch.setattr(engine, "fit", None)
    for a, b in zip(first, train(recipe(), parts, [1, 2]), strict=True):
        assert np.array_equal(flat(a), flat(b))
        assert (a.steps, a.dp_event, a.seconds) == (b.steps, b.dp_event, b.seconds)
    with caching(None), pytest.raises(TypeError):
        train(recipe(), parts, [1, 2])


def test_fits_are_recorded_once_each_with_their_seconds_and_the_seconds_cached(store: Store) -> None:
    def run() -> Any:
        return train_jointly([lambda k=k: procedure(k) for k in range(2)])

    with training.recording_trainings() as first:
        [_, fit, _], _ = run()
        run()  # loaded from the cache, but trained within the block
    assert len(first.seconds) == 2
    assert fit.seconds in first.seconds.values()
    assert first.seconds_cached == 0
    assert all(map(store.weights.has, first.seconds))
    with training.recording_trainings() as again:
        run()
        run()
    assert again.seconds == first.seconds
    assert again.seconds_cached == pytest.approx(sum(first.seconds.values()))
    with training.recording_trainings() as none:
        pass
    assert (none.seconds, none.seconds_cached) == ({}, 0)
    assert not store.weights.has("0" * 32)


def test_fits_in_the_threads_of_calls_are_recorded(store: Store) -> None:
    def fit(k: int) -> Any:
        made = {"seconds": np.float64(k + 1)}
        return training.cached((k,), recipe().net, lambda: made)

    for cached in (0.0, 6.0):
        with training.recording_trainings() as fits:
            train_jointly([lambda k=k: fit(k) for k in range(3)])
        assert sorted(fits.seconds.values()) == [1, 2, 3]
        assert fits.seconds_cached == cached


def test_any_change_trains_again(store: Store, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    part = examples()
    train(recipe(), [part], [1])
    relabelled = Examples(part.x, np.roll(part.y, 1), 3)
    train(recipe(), [changed(part, 19, 0.25)], [1])
    train(recipe(), [relabelled], [1])
    train(recipe(), [part], [2])
    train(recipe(privacy=Privacy(0.5, 1.1)), [part], [1])
    train(recipe(replace(CLASSIFIER, activation="relu")), [part], [1])
    assert len(calls) == 6
    train(recipe(), [part], [1])
    assert len(calls) == 6
    monkeypatch.setattr(training, "code_digest", lambda files: "other")
    train(recipe(), [part], [1])
    assert len(calls) == 7


@dataclass(frozen=True)
class ExternalNetwork(Classifier):
    """A network whose code is outside of the benchmark."""


def test_the_code_of_an_external_network_is_part_of_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    roots: list[Path] = []
    monkeypatch.setattr(training, "code_digest", lambda files: roots.extend(files) or "same")
    training.training_code(ExternalNetwork((6,), 3))
    assert Path(__file__) in roots
    names = {path.name for path in reached(path for path in roots if path != Path(__file__))}
    assert names >= {
        "clipping.py", "training_loop.py", "training_program.py", "sampling.py", "layers.py", "networks.py",
        "optimizer.py", "recipe.py", "train.py",
    }  # fmt: skip
    assert not names & {"joint_training.py", "store.py"}


def test_nothing_is_pickled(store: Store) -> None:
    train(recipe(), [examples()], [1])
    [path] = [p for p in store.root.rglob("*") if p.is_file()]
    with np.load(path, allow_pickle=False) as found:
        assert {found[name].dtype.kind for name in found.files} <= set("fi")


def test_a_stored_number_of_steps_other_than_the_accounted_one_is_refused(store: Store) -> None:
    made = recipe(steps=7)
    [fit] = train(made, [examples()], [1])
    assert fit.steps == 7
    assert fit.dp_event == accounting.training_event(0.5, 1.0, 7)
    [path] = store.root.rglob("*.npz")
    found = store.weights.load(path.stem)
    assert found is not None
    for steps in (6, 8):
        store.weights.save(path.stem, {**found, "steps": np.array(steps)})
        with pytest.raises(ValueError, match=f"{steps} steps ran, but 7"):
            train(made, [examples()], [1])


def test_a_killed_run_loses_only_the_running_fit(
    store: Store, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> list[Any]:
        return [train(recipe(SMALL_VAE), [examples(seed=k)], [k])[0] for k in range(3)]

    with caching(None):
        whole = run()
    counted = engine.fit

    def killed(made: Any, parts: Any, seeds: Any, *rest: Any) -> Any:
        if seeds == [2]:
            raise KeyboardInterrupt
        return counted(made, parts, seeds, *rest)

    monkeypatch.setattr(engine, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(engine, "fit", counted)
    calls.clear()
    resumed = run()
    assert [arguments[2] for arguments in calls] == [[2]]
    for a, b in zip(whole, resumed, strict=True):
        assert np.array_equal(flat(a), flat(b))
        assert (a.steps, a.dp_event) == (b.steps, b.dp_event)


def test_a_damaged_or_deleted_cache_trains_again(store: Store, calls: list[Any]) -> None:
    first = one(recipe(), examples())
    [path] = store.root.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    assert np.array_equal(one(recipe(), examples()), first)
    shutil.rmtree(store.root / ".local")
    assert np.array_equal(one(recipe(), examples()), first)
    assert len(calls) == 3


def test_progress_is_reported_up_to_the_last_step() -> None:
    reports: list[tuple[str, int, int]] = []
    with caching(None, lambda *report: reports.append(report)):
        [fit] = train(recipe(steps=43), [examples()], [1], "some net")
    assert fit.steps == 43
    assert reports[-1] == ("some net", 43, 43)
    assert [done for _, done, _ in reports] == sorted({done for _, done, _ in reports})
