"""The loop behind `bench.dp.train.train`: K models of one shape, each with its own records, batches, noise and clip.

Everything random is drawn from a model's own streams, so that a model trained among others is the model trained alone.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.dp import networks as nets
from bench.dp.layers import Single, Stacked

if TYPE_CHECKING:
    from bench.dp.train import Recipe

Say = Callable[[str, int, int], None]
FEW = 50  # batches of less than one record in so many are drawn by their size
REPORTS = 20  # times that a training tells how far it is


def tensorflow() -> Any:
    """TensorFlow, deterministic and quiet; what must be said before its first import stands in bench/__init__.py."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    tf.get_logger().setLevel("ERROR")
    return tf


@dataclass(frozen=True)
class Streams:
    """The randomness of one model: initial weights and batches; keys of noise and of draws."""

    start: np.random.Generator
    batches: np.random.Generator
    noise: int
    draws: int
    free: int


def streams(seed: int) -> Streams:
    """Streams that share nothing, from one seed."""
    start, batches, *rest = np.random.SeedSequence(seed).spawn(5)
    noise, draws, free = (int(sequence.generate_state(1, np.uint64)[0]) for sequence in rest)
    return Streams(np.random.default_rng(start), np.random.default_rng(batches), noise, draws, free)


def poisson_rows(
    rates: Sequence[float], sizes: Sequence[int], generators: Sequence[np.random.Generator], steps: int
) -> NDArray[Any]:
    """Rows of `steps` batches (steps, models, width), each row of a model with its rate; -1 is padding, none is cut."""
    rows = [[_sample(*own) for own in zip(rates, sizes, generators, strict=True)] for _ in range(steps)]
    width = max(1, max(len(r) for step in rows for r in step))
    out = np.full((steps, len(sizes), width), -1, np.int32)
    for t, step in enumerate(rows):
        for k, r in enumerate(step):
            out[t, k, : len(r)] = r
    return out


def _sample(rate: float, n: int, rng: np.random.Generator) -> NDArray[Any]:
    """The records of one Poisson batch, each in it with chance `rate`, whatever the others do."""
    if rate * FEW > 1:
        return np.flatnonzero(rng.random(n) < rate)
    # The same law with a draw a record of the batch in place of one a record of all: how many, then which.
    return np.sort(rng.choice(n, rng.binomial(n, rate), replace=False, shuffle=False))


def _ahead(chunks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The same chunks, each drawn while the one before it is trained on."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, chunks, None)
        while (chunk := waiting.result()) is not None:
            waiting = pool.submit(next, chunks, None)
            yield chunk


def pad(parts: Sequence[Examples]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Records (models, n, *shape) and labels (models, n), short parts filled with zeros that no batch ever names."""
    if len(parts) == 1 and len(parts[0]):
        return parts[0].x[None], parts[0].y[None]  # no copy: records can be large
    n = max(1, max(len(part) for part in parts))
    x = np.zeros((len(parts), n, *parts[0].shape), np.float32)
    y = np.zeros((len(parts), n), np.int64)
    for k, part in enumerate(parts):
        x[k, : len(part)], y[k, : len(part)] = part.x, part.y
    return x, y


def build(net: nets.Net, starts: Sequence[np.random.Generator]) -> Any:
    """The Keras model of a stack, each model with the initial weights that it would have alone.

    Matrices and filters are drawn as Keras does by default (Glorot and Bengio 2010), but from the model's own stream,
    so that nothing global is seeded and a stack of many costs one build; what has fewer axes starts as its layer says.
    """
    alone = nets.build(net, Single()).get_weights()
    model = nets.build(net, Stacked(len(starts))) if len(starts) > 1 else nets.build(net, Single())
    drawn = [net.start([_glorot(rng, w.shape) if w.ndim > 1 else w for w in alone]) for rng in starts]
    shapes = [w.shape for w in model.get_weights()]
    model.set_weights([np.stack([ws[i] for ws in drawn]).reshape(shape) for i, shape in enumerate(shapes)])
    return model


def _glorot(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    window = math.prod(shape[:-2])
    limit = math.sqrt(6 / (window * (shape[-2] + shape[-1])))
    return rng.uniform(-limit, limit, shape).astype(np.float32)


class Training:
    """Models of one shape, each with its own records and streams, trained further whenever `run` is called.

    What ran before is never run again: batches, noise and draws go on where they stopped, whatever weights are set in
    between. So steps that run are steps that are accounted, and a run of 3 and one of 4 steps are a run of 7.
    """

    def __init__(self, recipes: Sequence[Recipe], parts: Sequence[Examples], seeds: Sequence[int]) -> None:
        own = [streams(seed) for seed in seeds]
        self._recipe = recipes[0]
        self._model = build(self._recipe.net, [s.start for s in own])
        self._run, self._iterations, self._average = _program(recipes, self._model, *pad(parts), own)
        sizes, rates = [len(part) for part in parts], [r.rate for r in recipes]
        self._rows = functools.partial(poisson_rows, rates, sizes, [s.batches for s in own])
        self._shapes = [w.shape for w in nets.build(self._recipe.net, Single()).get_weights()]

    @property
    def steps(self) -> int:
        """How many have run."""
        return int(self._iterations.numpy())

    def run(self, steps: int, heard: Callable[[int], None] | None = None) -> None:
        """Take `steps` more; `heard` is told how many of them are done. Raises ValueError beyond the recipe's."""
        if self.steps + steps > self._recipe.steps:
            raise ValueError(f"{self.steps + steps} steps would run, but {self._recipe.steps} are accounted")
        stride = max(1, steps // REPORTS) if heard else steps
        ends = [*range(0, steps, stride), steps]
        chunks = (self._rows(b - a) for a, b in itertools.pairwise(ends))
        for done, rows in zip(ends[1:], _ahead(chunks), strict=True):
            self._run(rows)
            if heard:
                heard(done)

    @property
    def weights(self) -> nets.Weights:
        """Those that training returns, each with a leading model axis."""
        found = self._average() if self._recipe.ema else self._model.get_weights()
        return [w.reshape(-1, *shape) for w, shape in zip(found, self._shapes, strict=True)]

    def set_weights(self, weights: nets.Weights) -> None:
        """Go on from these, each with a leading model axis; what the optimizer remembers stays."""
        held = self._model.get_weights()
        self._model.set_weights([w.reshape(old.shape) for w, old in zip(weights, held, strict=True)])


def fit(
    recipes: Sequence[Recipe], parts: Sequence[Examples], seeds: Sequence[int], what: str, say: Say | None
) -> dict[str, NDArray[Any]]:
    """Train; weights `w0`, `w1`, … with a leading model axis, the steps that ran, and seconds.

    Raises FloatingPointError where the weights are not finite at the end.
    """
    start = time.perf_counter()
    steps = recipes[0].steps
    training = Training(recipes, parts, seeds)
    training.run(steps, lambda done: say(what, done, steps) if say else None)
    weights = training.weights
    if not all(np.isfinite(w).all() for w in weights):
        raise FloatingPointError(f"{what} diverged: the weights are not finite; use a smaller learning rate")
    out = {f"w{i}": w for i, w in enumerate(weights)}
    out["steps"] = np.array(training.steps)
    out["seconds"] = np.array(time.perf_counter() - start)
    return out


def _program(
    recipes: Sequence[Recipe], model: Any, x: NDArray[Any], y: NDArray[Any], own: Sequence[Streams]
) -> tuple[Callable[[NDArray[Any]], None], Any, Callable[[], Any]]:
    """A function that trains on rows (steps, models, width), the count of steps, and a getter of averaged weights."""
    tf = tensorflow()
    from bench.dp.clipping import private_layers
    from bench.dp.optimizer import normals

    recipe, models, net = recipes[0], len(recipes), recipes[0].net
    layers = private_layers(model)
    variables = [w for layer in layers for w in layer.trainable_weights]
    free = [w for w in model.trainable_weights if not any(w is v for v in variables)]
    optimizer = _optimizer(recipes, [s.noise for s in own])
    forward = _Forward(recipe, model, models)
    if recipe.privacy:
        forward.check()
    clipped = _clipped(recipe, forward, optimizer, layers)
    divisor = np.array([r.batch_size for r in recipes], np.float32)
    # Handed to the program, not captured by it: TensorFlow keeps programs for good, and with them what they captured.
    held = [tf.constant(v) if models > 1 else tf.constant(v[0]) for v in (x, y)]
    average = tf.train.ExponentialMovingAverage(recipe.ema, optimizer.iterations) if recipe.ema else None
    if average:
        average.apply(model.weights)

    def drawn(width: Any, keys: Sequence[int]) -> Any:
        # Drawn here and handed to the network, so that a sampling layer runs once and a model draws as if alone.
        out = normals(width, net.draws, keys, optimizer.iterations)
        return out if models > 1 else out[0]

    def sums(data: Sequence[Any], rows: Any, draw: Any) -> list[Any]:
        """What the records of one piece of a lot add to each variable: clipped, or plain gradients."""
        present = rows >= 0
        rows = tf.maximum(rows, 0)
        if models == 1:
            rows, present = rows[0], present[0]
        bx, by = (tf.gather(v, rows, batch_dims=min(models, 2) - 1) for v in data)
        if recipe.privacy:
            return clipped(bx, by, draw, present)
        with tf.GradientTape() as tape:
            losses, _, _ = forward(bx, by, draw)
            losses = tf.where(present, losses, 0.0) / (divisor[:, None] if models > 1 else divisor[0])
        return list(tape.gradient(losses, variables))  # of a vector: the gradient of its sum

    piece = max(1, recipe.physical_batch // models)
    most = max(r.rate * x.shape[1] + 6 * (r.rate * x.shape[1]) ** 0.5 for r in recipes)

    def lot(data: Sequence[Any], rows: Any) -> list[Any]:
        """The sums of a whole lot, piece by piece where it is too large for one."""
        width = tf.shape(rows)[1]
        draw = drawn(width, [s.draws for s in own])
        if most <= piece:
            return sums(data, rows, draw)

        def cut(start: Any) -> list[Any]:
            return sums(data, rows[:, start : start + piece], draw[..., start : start + piece, :])

        def more(start: Any, total: list[Any]) -> tuple[Any, list[Any]]:
            return start + piece, [a + b for a, b in zip(total, cut(start), strict=True)]

        _, total = tf.while_loop(lambda start, _: start < width, more, (piece, cut(0)), parallel_iterations=1)
        return list(total)

    def step(data: Sequence[Any], rows: Any) -> None:
        width = tf.reduce_max(tf.reduce_sum(tf.cast(rows >= 0, tf.int32), 1))
        total = lot(data, rows[:, : tf.maximum(width, 1)])
        if recipe.privacy:
            optimizer.apply_sums(total, variables)
        else:
            optimizer.apply_gradients(zip(total, variables, strict=True))
        if free:
            adversary()
        if average:
            average.apply(model.weights)

    free_optimizer = _optimizer([replace(recipe, privacy=None)], []) if free else None
    blank = math.ceil(max(divisor))

    def adversary() -> None:
        """One plain step of the layers that no record trains: of draws alone, as many as a batch is expected to be."""
        assert free_optimizer
        lead = (blank,) if models == 1 else (models, blank)
        draw = drawn(blank, [s.free for s in own])
        with tf.GradientTape() as tape:
            outputs = forward.outputs(tf.zeros((*lead, *net.shape)), tf.zeros(lead, tf.int64), draw)
            losses = net.free_loss(outputs) / blank
        free_optimizer.apply_gradients(zip(tape.gradient(losses, free), free, strict=True))

    step = tf.autograph.experimental.do_not_convert(step)

    signature = [tf.TensorSpec([None, models, None], tf.int32), *map(tf.TensorSpec.from_tensor, held)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def run(batches: Any, *data: Any) -> None:
        for t in tf.range(tf.shape(batches)[0]):
            step(data, batches[t])

    def averaged() -> list[Any]:
        return [average.average(w).numpy() for w in model.weights] if average else []

    return lambda rows: run(rows, *held), optimizer.iterations, averaged


class _Forward:
    """The model with what one-pass clipping must see of it: input and output of each layer that records train."""

    def __init__(self, recipe: Recipe, model: Any, models: int) -> None:
        from bench.dp.clipping import onepass_layers

        tf = tensorflow()
        self.net, self.model, self.models = recipe.net, model, models
        onepass = recipe.privacy is not None and recipe.engine == "onepass"
        self.layers = onepass_layers(model) if onepass else []
        seen = [*(layer.input for layer in self.layers), *(layer.output for layer in self.layers)]
        self.view = tf.keras.Model(model.inputs, [*model.outputs, *seen]) if onepass else model

    def _run(self, view: Any, bx: Any, by: Any, draw: Any) -> list[Any]:
        tf = tensorflow()
        inputs = [bx]
        if self.net.draws:
            inputs.append(draw)
        if self.net.labels:
            inputs.append(tf.one_hot(by, self.net.labels))
        return list(tf.nest.flatten(view(inputs, training=True)))  # Keras unwraps a list of one

    def outputs(self, bx: Any, by: Any, draw: Any) -> list[Any]:
        """The network's own outputs."""
        return self._run(self.model, bx, by, draw)

    def __call__(self, bx: Any, by: Any, draw: Any) -> tuple[Any, list[Any], list[Any]]:
        """Per-record losses, and inputs and outputs of the layers."""
        out, count, sites = self._run(self.view, bx, by, draw), len(self.model.outputs), len(self.layers)
        losses = self.net.loss(out[:count], bx, by)
        return losses, out[count : count + sites], out[count + sites :]

    def check(self) -> None:
        """Refuse a network whose clipping would bound nothing."""
        from bench.dp.optimizer import check_private

        tf = tensorflow()
        lead = (3,) if self.models == 1 else (self.models, 3)
        probe = tf.random.stateless_uniform((*lead, *self.net.shape), [0, 1])
        draw = tf.random.stateless_normal((*lead, self.net.draws), [0, 2])

        def losses(x: Any) -> Any:
            return self(x, tf.zeros(lead, tf.int64), draw)[0]

        check_private(self.model, losses, probe)


def _clipped(recipe: Recipe, forward: _Forward, optimizer: Any, layers: Sequence[Any]) -> Callable[..., list[Any]]:
    """A function of one batch to the clipped sums of each variable of `layers`, by the engine that was asked for."""
    tf = tensorflow()
    from bench.dp.clipping import per_record_gradients, site

    variables = [w for layer in layers for w in layer.trainable_weights]
    names = [getattr(layer, "network", "whole") for layer in layers for _ in layer.trainable_weights]
    networks = names if recipe.clip_networks else None
    axis = min(forward.models, 2) - 1  # of records

    def onepass(bx: Any, by: Any, draw: Any, present: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            losses, a, z = forward(bx, by, draw)
            losses.shape.assert_is_compatible_with(present.shape)
            losses = tf.where(present, losses, 0.0)
        sites = [site(*each, apart=recipe.clip_networks) for each in zip(layers, a, z, strict=True)]
        return list(optimizer.clipped_sums(losses, variables, tape, sites=sites))

    def vectorized(*batch: Any) -> list[Any]:
        def one(record: Any) -> Any:
            bx, by, draw, present = (tf.expand_dims(t, axis) for t in record)
            return tf.reduce_sum(tf.where(present, forward(bx, by, draw)[0], 0.0))

        in_front = tuple(tf.transpose(t, [axis, *range(axis), *range(axis + 1, t.shape.rank)]) for t in batch)
        gradients = per_record_gradients(one, in_front, variables)
        losses = tf.zeros(tf.shape(batch[-1]))  # only its shape is read
        return list(optimizer.clipped_sums(losses, variables, None, gradients=gradients, networks=networks))

    return onepass if recipe.engine == "onepass" else vectorized


def _optimizer(recipes: Sequence[Recipe], noise_keys: Sequence[int]) -> Any:
    """The Keras optimizer of a recipe, or TensorFlow Privacy's."""
    tf = tensorflow()
    from bench.dp.optimizer import PoissonDPAdam, PoissonDPSGD

    recipe = recipes[0]
    schedules = tf.keras.optimizers.schedules
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = schedules.CosineDecay(rate, recipe.steps)
    elif recipe.schedule == "linear":
        rate = schedules.PolynomialDecay(rate, recipe.steps, 0.0)
    options: dict[str, Any] = {"learning_rate": rate}
    if recipe.momentum is not None:
        options["beta_1" if recipe.optimizer == "adam" else "momentum"] = recipe.momentum
    if recipe.privacy is None:
        legacy = tf.keras.optimizers.legacy
        return (legacy.Adam if recipe.optimizer == "adam" else legacy.SGD)(**options)
    own = [r.privacy for r in recipes if r.privacy]
    return (PoissonDPAdam if recipe.optimizer == "adam" else PoissonDPSGD)(
        l2_norm_clip=[p.l2_norm_clip for p in own],
        noise_multiplier=[p.noise_multiplier for p in own],
        batch_size=[r.batch_size for r in recipes],
        noise_keys=noise_keys,
        **options,
    )
