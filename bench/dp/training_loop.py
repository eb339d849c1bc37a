"""The loop behind `bench.dp.train.train`: K models of one shape, each with its own records, batches, noise and clip.

Everything random comes from the streams of a model, so that a model trained among others is the model trained alone.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.dp import networks, sampling
from bench.dp.instrumentation import current_observer
from bench.dp.layers import Single, Stacked
from bench.dp.networks import Net, Weights
from bench.dp.program_cache import PROGRAMS, ProgramCache, program_key
from bench.dp.sampling import Streams
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.training_program import Program

if TYPE_CHECKING:
    from bench.dp.recipe import Recipe
    from bench.dp.training_context import OnProgress

REPORTS = 20  # how often a training reports its progress


def pad(datasets: Sequence[Examples]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Records (models, n, *shape) and labels (models, n), short sets filled with zeros that no batch ever names."""
    if len(datasets) == 1 and len(datasets[0]):
        return datasets[0].x[None], datasets[0].y[None]  # no copy: records can be large
    n = max(1, max(len(dataset) for dataset in datasets))
    x = np.zeros((len(datasets), n, *datasets[0].shape), np.float32)
    y = np.zeros((len(datasets), n), np.int64)
    for k, dataset in enumerate(datasets):
        x[k, : len(dataset)], y[k, : len(dataset)] = dataset.x, dataset.y
    return x, y


def build(net: Net, starts: Sequence[np.random.Generator]) -> Any:
    """The Keras model of a stack, each model with the initial weights that it would have alone."""
    model = _layers(net, len(starts))
    model.set_weights(_initial(net, model, networks.build(net, Single()).get_weights(), starts))
    return model


def _layers(net: Net, models: int) -> Any:
    return networks.build(net, Stacked(models)) if models > 1 else networks.build(net, Single())


def _initial(net: Net, model: Any, alone: Weights, starts: Sequence[np.random.Generator]) -> Weights:
    """Initial weights of the Keras model of a stack; alone: any weights of one model of it.

    Matrices and filters are drawn as Keras does by default (Glorot and Bengio 2010), but from the stream of the model,
    so that nothing global is seeded and a stack of many costs one build; what has fewer axes starts as its layer says.
    """
    initial = [net.start([_glorot(rng, w.shape) if w.ndim > 1 else w for w in alone]) for rng in starts]
    return [np.stack([ws[i] for ws in initial]).reshape(w.shape) for i, w in enumerate(model.weights)]


def _glorot(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    window = math.prod(shape[:-2])
    limit = math.sqrt(6 / (window * (shape[-2] + shape[-1])))
    return rng.uniform(-limit, limit, shape).astype(np.float32)


class Training:
    """Models of one shape, each with its own records and streams, trained further whenever `run` is called.

    What ran before is never run again: batches, noise and noise inputs go on where they stopped, whatever weights are
    set in between. So steps that run are steps that are accounted, and a run of 3 and one of 4 steps are a run of 7.
    streams: of each model; by default those of its seed. programs: where a program for it may be found; it is put back
    by `finish`, after which this training must not be used. An observed training has a program of its own.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        datasets: Sequence[Examples],
        seeds: Sequence[int],
        streams: Sequence[Streams] | None = None,
        programs: ProgramCache | None = None,
    ) -> None:
        requested, observer = (recipes, datasets), current_observer()
        if observer:
            recipes, datasets = observer.training_inputs(recipes, datasets)
        streams = [sampling.streams(seed) for seed in seeds] if streams is None else streams
        self._recipe = recipes[0]
        tf, models, net = tensorflow(), len(recipes), recipes[0].net
        self._data = [tf.constant(v) if models > 1 else tf.constant(v[0]) for v in pad(datasets)]
        self._programs = None if observer else programs
        self._key = program_key(recipes, self._data) if self._programs is not None else None
        found = self._programs.take(self._key) if self._programs is not None else None
        self._program = found or Program(recipes, _layers(net, models), self._data, streams)
        self._model = self._program.model
        alone = self._program.alone
        self._program.start(_initial(net, self._model, alone, [s.start for s in streams]), streams)
        self._shapes = [w.shape for w in alone]
        self.optimizer = self._program.optimizer
        self.variables = self._program.variables
        sizes, rates = [len(dataset) for dataset in datasets], [r.rate for r in recipes]
        self._rows = sampling.PoissonBatches(rates, sizes, [s.batches for s in streams]).rows
        if observer:
            observer.training_started(self, *requested, seeds)

    @property
    def steps(self) -> int:
        """How many have run."""
        return int(self._program.iterations.numpy())

    def set_steps(self, steps: int) -> None:
        """Let the optimizer count on from `steps`, which decides its noise and its learning rate."""
        self._program.iterations.assign(steps)

    def run(self, steps: int, on_steps: Callable[[int], None] | None = None) -> None:
        """Take `steps` more; `on_steps` hears how many of them are done. Raises ValueError beyond the recipe's."""
        self._check(steps)
        stride = max(1, steps // REPORTS) if on_steps else steps
        ends = [*range(0, steps, stride), steps]
        chunks = (self._rows(b - a) for a, b in itertools.pairwise(ends))
        for done, rows in zip(ends[1:], sampling.prefetched(chunks), strict=True):
            self.take(rows)
            if on_steps:
                on_steps(done)

    def draw(self, steps: int) -> NDArray[Any]:
        """The rows of the next batches (steps, models, width), -1 for padding. Raises ValueError as `run` does."""
        self._check(steps)
        return self._rows(steps)

    def take(self, rows: Any) -> None:
        """Take one step on each batch of `rows`, as `draw` gives them."""
        self._program.run(rows, *self._data)

    def _check(self, steps: int) -> None:
        if self.steps + steps > self._recipe.steps:
            raise ValueError(f"{self.steps + steps} steps would run, but {self._recipe.steps} are accounted")

    def finish(self) -> None:
        """Let the next training have the program."""
        if self._programs is not None:
            self._programs.put(self._key, self._program)

    @property
    def weights(self) -> Weights:
        """Those that training returns, each with a leading model axis."""
        found = self._program.averaged_weights() if self._recipe.ema else self._model.get_weights()
        return [w.reshape(-1, *shape) for w, shape in zip(found, self._shapes, strict=True)]

    def set_weights(self, weights: Weights) -> None:
        """Go on from these, each with a leading model axis; the state of the optimizer stays."""
        current = self._model.get_weights()
        self._model.set_weights([w.reshape(old.shape) for w, old in zip(weights, current, strict=True)])


def fit(
    recipes: Sequence[Recipe],
    datasets: Sequence[Examples],
    seeds: Sequence[int],
    what: str,
    on_progress: OnProgress | None,
) -> dict[str, NDArray[Any]]:
    """Train; weights `w0`, `w1`, … with a leading model axis, the steps that ran, and seconds.

    Raises FloatingPointError where the weights are not finite at the end.
    """
    start = time.perf_counter()
    steps = recipes[0].steps
    training = Training(recipes, datasets, seeds, programs=PROGRAMS)
    training.run(steps, lambda done: on_progress(what, done, steps) if on_progress else None)
    weights = training.weights
    if not all(np.isfinite(w).all() for w in weights):
        raise FloatingPointError(f"{what} diverged: the weights are not finite; use a smaller learning rate")
    out = {f"w{i}": w for i, w in enumerate(weights)}
    out["steps"] = np.array(training.steps)
    training.finish()
    out["seconds"] = np.array(time.perf_counter() - start)
    return out
