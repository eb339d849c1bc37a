"""An observer is called on every use of a mechanism, and only within its block."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import bench
from bench.dp import gaussian_mechanism
from bench.dp.instrumentation import current_observer, observing
from bench.models.federated.server import Policy, Server


class Recorder:
    """Records the values it receives, doubles the output of the mechanism and skips the averages of servers."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.servers: list[Any] = []

    def training_inputs(self, recipes: Any, datasets: Any) -> Any:
        return recipes, datasets

    def training_started(self, *started: Any) -> None:
        raise AssertionError("nothing is trained here")

    def gaussian(self, add_noise: Any, values: Any, *parameters: Any) -> Any:
        self.values.append(values)
        return 2 * add_noise(values, *parameters)

    def server_round(self, server: Any, average: Any) -> None:
        self.servers.append(server)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def use(mechanism: Any = gaussian_mechanism.gaussian) -> Any:
    return mechanism(np.ones(3), 1.0, 0.0, np.random.default_rng(0))


def test_the_mechanism_is_observed_however_it_was_imported(recorder: Recorder) -> None:
    with observing(recorder):
        assert use().tolist() == use(bench.gaussian).tolist() == [2, 2, 2]
    assert len(recorder.values) == 2
    assert use().tolist() == [1, 1, 1]
    assert len(recorder.values) == 2


def test_the_mechanism_is_observed_in_threads_that_a_defense_starts(recorder: Recorder) -> None:
    with observing(recorder):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert len(recorder.values) == 1


def test_the_round_of_a_server_is_observed(recorder: Recorder) -> None:
    server = Server([np.zeros(2, np.float32)], ("a",), 1, 1.0, Policy(clip=1.0, noise_multiplier=1.0), 0)
    with observing(recorder):
        server.close()
    assert recorder.servers == [server]
    assert not server.parameters[0].any()
    server.close()
    assert server.parameters[0].all()


def test_a_second_observer_is_refused_and_an_error_ends_the_observation(recorder: Recorder) -> None:
    def fail() -> None:
        with observing(recorder):
            with pytest.raises(RuntimeError, match="another observer"), observing(Recorder()):
                pass
            assert current_observer() is recorder
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert current_observer() is None
