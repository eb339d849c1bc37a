"""A training that is over leaves nothing behind: TensorFlow would keep its whole program for good."""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bench.dp.graph_cleanup import _collecting, forgetting

from bench.cli.main import main
from bench.core.dataset import Examples
from bench.dp.networks import Classifier
from bench.dp.recipe import Privacy, Recipe
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.train import train


def programs() -> int:
    """How many there are, after all garbage was collected."""
    gc.collect()
    graph = tensorflow().__internal__.FuncGraph
    return sum(isinstance(one, graph) for one in gc.get_objects())


@pytest.mark.parametrize("privacy", [None, Privacy(1.0, 1.0)])
def test_a_training_that_is_over_leaves_no_program(privacy: Privacy | None) -> None:
    part = Examples(np.random.default_rng(0).random((20, 6)), np.arange(20) % 2, 2)
    net = Classifier((6,), 2, (4,), "tanh")
    recipe = Recipe(net, steps=2, rate=0.5, batch_size=10.0, learning_rate=0.1, privacy=privacy)
    others = gc.callbacks.count(_collecting)
    for _ in range(others):  # that of all tests
        gc.callbacks.remove(_collecting)
    try:
        train(recipe, [part], [0])  # what is made once is made
        before = programs()
        train(recipe, [part], [1])
        assert programs() > before, "TensorFlow forgets by itself: bench/dp/graph_cleanup.py can go"
        with forgetting():
            train(recipe, [part], [2])
            assert programs() <= before
        assert _collecting not in gc.callbacks
    finally:
        gc.callbacks.extend([_collecting] * others)


def test_a_gradient_of_ones_own_is_not_forgotten() -> None:
    tf = tensorflow()

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def clipped(x: Any) -> tuple[Any, Any]:
        return x, lambda dy: dy * 7.0

    @tf.function  # type: ignore[untyped-decorator]
    def run(x: Any) -> Any:
        return clipped(x) * 2.0

    x = tf.constant(3.0)
    with forgetting():
        graph = run.get_concrete_function(x).graph
        gc.collect()
        with graph.as_default():  # symbolic: by the name that was registered
            [found] = tf.gradients(graph.outputs[0], graph.inputs[0])
    assert found is not None, "its name was dropped"


def test_garbage_may_be_collected_while_tensorflow_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is there then, and empty; what a callback raises Python prints, over whatever the user reads."""
    said: list[Any] = []
    name = "tensorflow.python.framework.ops"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    with forgetting():
        gc.collect()
    assert said == []


def test_every_command_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    others, found = gc.callbacks.count(_collecting), list[int]()

    def add(verbs: Any) -> Any:
        parser = verbs.add_parser("table")
        parser.set_defaults(does=lambda _: found.append(gc.callbacks.count(_collecting)) or 0)
        return parser

    monkeypatch.setitem(main.VERBS, "table", add)
    assert main.main(["table"]) == 0
    assert found == [others + 1]
