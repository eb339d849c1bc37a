"""The TensorFlow program of a training: forward passes, sums over Poisson batches, and the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.dp import networks
from bench.dp.forward import Forward
from bench.dp.layers import Single
from bench.dp.tensorflow_setup import tensorflow

if TYPE_CHECKING:
    from bench.dp.networks import Weights
    from bench.dp.recipe import Recipe
    from bench.dp.sampling import Streams


class Program:
    """One traced function that takes the steps of all models of a stack.

    data: records and labels as `Training` hands them to `run`; only their shapes are read here. They are handed to the
    program and not captured by it, because a program is kept longer than its training. Whatever belongs to one training
    is a variable, which `start` sets: so a program serves several, one after the other.
    """

    def __init__(self, recipes: Sequence[Recipe], model: Any, data: Sequence[Any], streams: Sequence[Streams]) -> None:
        tf = tensorflow()
        from bench.dp.clipping import private_layers

        recipe, models = recipes[0], len(recipes)
        self._recipe, self.model, self._models = recipe, model, models
        # One model of the stack; Keras' own weights, of which only shapes and what has one axis are used.
        self.alone: Weights = (networks.build(recipe.net, Single()) if models > 1 else model).get_weights()
        layers = private_layers(model)
        self.variables = [w for layer in layers for w in layer.trainable_weights]
        self._unclipped = [w for w in model.trainable_weights if not any(w is v for v in self.variables)]
        self.optimizer = make_optimizer(recipes, [s.noise for s in streams])
        self._forward = Forward(recipe, model, models)
        if recipe.privacy:
            self._forward.check()
        self._clipped_sums = clipped_sums_function(recipe, self._forward, self.optimizer, layers)
        self._input_keys = tf.Variable(_input_keys(streams), trainable=False)
        self._divisor = np.array([r.batch_size for r in recipes], np.float32)
        self._average = None
        if recipe.ema:
            self._average = tf.train.ExponentialMovingAverage(recipe.ema, self.optimizer.iterations)
            self._average.apply(model.weights)
        self._unclipped_optimizer = make_optimizer([replace(recipe, privacy=None)], []) if self._unclipped else None
        # Their variables exist before the program is traced: else TensorFlow traces it twice.
        create_state(self.optimizer, self.variables)
        if self._unclipped_optimizer:
            create_state(self._unclipped_optimizer, self._unclipped)
        self._piece = max(1, recipe.physical_batch // models)
        self._in_pieces = in_pieces(recipes, data)
        self.run = self._traced(data)

    def start(self, weights: Weights, streams: Sequence[Streams]) -> None:
        """Begin another training: from these weights of the Keras model, with these streams, at step 0."""
        tf = tensorflow()
        self.model.set_weights(weights)
        optimizers = [one for one in (self.optimizer, self._unclipped_optimizer) if one]
        for variable in (v for one in optimizers for v in one.variables()):
            variable.assign(tf.zeros_like(variable))
        if self._average:
            for w in self.model.weights:
                self._average.average(w).assign(w)
        self._input_keys.assign(_input_keys(streams))
        if self._recipe.privacy:
            self.optimizer.set_noise_keys([s.noise for s in streams])

    @property
    def state(self) -> list[Any]:
        """The variables that hold what a training has come to: weights, their averages, and states of optimizers."""
        optimizers = [one for one in (self.optimizer, self._unclipped_optimizer) if one]
        averages = [self._average.average(w) for w in self.model.weights] if self._average else []
        return [*self.model.weights, *averages, *(v for one in optimizers for v in one.variables())]

    @property
    def iterations(self) -> Any:
        """The optimizer's count of steps."""
        return self.optimizer.iterations

    def averaged_weights(self) -> list[Any]:
        """The averages of all weights, for recipes with `ema`."""
        assert self._average
        return [self._average.average(w).numpy() for w in self.model.weights]

    def _traced(self, data: Sequence[Any]) -> Callable[..., None]:
        """A function of batches (steps, models, width) of rows, and of the data."""
        tf = tensorflow()
        step = tf.autograph.experimental.do_not_convert(self._step)
        axis = min(self._models, 2) - 1  # of records, of which the next training may have more or fewer
        shapes = [[None if i == axis else size for i, size in enumerate(v.shape)] for v in data]
        signature = [tf.TensorSpec([None, self._models, None], tf.int32)]
        signature += [tf.TensorSpec(shape, v.dtype) for shape, v in zip(shapes, data, strict=True)]

        @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
        def run(batches: Any, *data: Any) -> None:
            for t in tf.range(tf.shape(batches)[0]):
                step(data, batches[t])

        traced: Callable[..., None] = run
        return traced

    def _step(self, data: Sequence[Any], rows: Any) -> None:
        tf = tensorflow()
        width = tf.reduce_max(tf.reduce_sum(tf.cast(rows >= 0, tf.int32), 1))
        total = self._batch_sums(data, rows[:, : tf.maximum(width, 1)])
        if self._recipe.privacy:
            self.optimizer.apply_sums(total, self.variables)
        else:
            apply_gradients(self.optimizer, total, self.variables)
        if self._unclipped:
            self._train_unclipped()
        if self._average:
            self._average.apply(self.model.weights)

    def _batch_sums(self, data: Sequence[Any], rows: Any) -> list[Any]:
        """The sums over a whole Poisson batch, piece by piece where it is too large for one."""
        tf = tensorflow()
        width, piece = tf.shape(rows)[1], self._piece
        noise = self._noise_inputs(width, self._input_keys[0])
        if not self._in_pieces:
            return self._sums(data, rows, noise)

        def cut(start: Any) -> list[Any]:
            return self._sums(data, rows[:, start : start + piece], noise[..., start : start + piece, :])

        def more(start: Any, total: list[Any]) -> tuple[Any, list[Any]]:
            return start + piece, [a + b for a, b in zip(total, cut(start), strict=True)]

        _, total = tf.while_loop(lambda start, _: start < width, more, (piece, cut(0)), parallel_iterations=1)
        return list(total)

    def _noise_inputs(self, width: Any, keys: Any) -> Any:
        """Standard normal numbers of each record, drawn outside of the network.

        So a sampling layer runs once, and a model gets the numbers that it would get alone.
        """
        from bench.dp.optimizer import normals

        out = normals(width, self._recipe.net.noise_inputs, keys, self.optimizer.iterations)
        return out if self._models > 1 else out[0]

    def _sums(self, data: Sequence[Any], rows: Any, noise: Any) -> list[Any]:
        """What the records of one piece of a batch add to each variable: clipped sums, or plain gradients."""
        tf = tensorflow()
        models = self._models
        present = rows >= 0
        rows = tf.maximum(rows, 0)
        if models == 1:
            rows, present = rows[0], present[0]
        bx, by = (tf.gather(v, rows, batch_dims=min(models, 2) - 1) for v in data)
        if self._recipe.privacy:
            return self._clipped_sums(bx, by, noise, present)
        with tf.GradientTape() as tape:
            losses, _, _ = self._forward(bx, by, noise)
            losses = tf.where(present, losses, 0.0) / (self._divisor[:, None] if models > 1 else self._divisor[0])
        return list(tape.gradient(losses, self.variables))  # of a vector: the gradient of its sum

    def _train_unclipped(self) -> None:
        """One plain step of the layers that no record trains: on noise inputs alone, as many as the expected batch."""
        tf = tensorflow()
        blank = math.ceil(max(self._divisor))
        lead = (blank,) if self._models == 1 else (self._models, blank)
        noise = self._noise_inputs(blank, self._input_keys[1])
        net, variables = self._recipe.net, self._unclipped
        with tf.GradientTape() as tape:
            outputs = self._forward.outputs(tf.zeros((*lead, *net.shape)), tf.zeros(lead, tf.int64), noise)
            losses = net.unclipped_loss(outputs) / blank
        apply_gradients(self._unclipped_optimizer, tape.gradient(losses, variables), variables)


def in_pieces(recipes: Sequence[Recipe], data: Sequence[Any]) -> bool:
    """Whether a batch may be too large to be computed at once: six standard deviations above its expected size."""
    models = len(recipes)
    n = data[0].shape[min(models, 2) - 1]
    largest = max(r.rate * n + 6 * (r.rate * n) ** 0.5 for r in recipes)
    return bool(largest > max(1, recipes[0].physical_batch // models))


def _input_keys(streams: Sequence[Streams]) -> Any:
    """Keys of the noise inputs, and of those of unclipped layers: (2, models)."""
    return np.array([[s.noise_inputs for s in streams], [s.unclipped for s in streams]], np.uint64)


def clipped_sums_function(
    recipe: Recipe, forward: Forward, optimizer: Any, layers: Sequence[Any]
) -> Callable[..., list[Any]]:
    """A function of one batch to the clipped sums of each variable of `layers`, by the recipe's engine."""
    tf = tensorflow()
    from bench.dp.clipping import per_record_gradients, site

    variables = [w for layer in layers for w in layer.trainable_weights]
    names = [getattr(layer, "network", "whole") for layer in layers for _ in layer.trainable_weights]
    networks = names if recipe.clip_networks else None
    axis = min(forward.models, 2) - 1  # of records

    def ghost(bx: Any, by: Any, noise: Any, present: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            losses, a, z = forward(bx, by, noise)
            losses.shape.assert_is_compatible_with(present.shape)
            losses = tf.where(present, losses, 0.0)
        sites = [site(*each, apart=recipe.clip_networks) for each in zip(layers, a, z, strict=True)]
        return list(optimizer.clipped_sums(losses, variables, tape, sites=sites))

    def vectorized(*batch: Any) -> list[Any]:
        def one(record: Any) -> Any:
            bx, by, noise, present = (tf.expand_dims(t, axis) for t in record)
            return tf.reduce_sum(tf.where(present, forward(bx, by, noise)[0], 0.0))

        in_front = tuple(tf.transpose(t, [axis, *range(axis), *range(axis + 1, t.shape.rank)]) for t in batch)
        gradients = per_record_gradients(one, in_front, variables)
        losses = tf.zeros(tf.shape(batch[-1]))  # only its shape is read
        return list(optimizer.clipped_sums(losses, variables, None, gradients=gradients, networks=networks))

    return ghost if recipe.engine == "onepass" else vectorized


def make_optimizer(recipes: Sequence[Recipe], noise_keys: Sequence[int]) -> Any:
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
    privacy = [r.privacy for r in recipes if r.privacy]
    return (PoissonDPAdam if recipe.optimizer == "adam" else PoissonDPSGD)(
        l2_norm_clip=[p.l2_norm_clip for p in privacy],
        noise_multiplier=[p.noise_multiplier for p in privacy],
        batch_size=[r.batch_size for r in recipes],
        noise_keys=noise_keys,
        **options,
    )


def create_state(optimizer: Any, variables: Sequence[Any]) -> None:
    """Create the variables of a legacy Keras optimizer: its count of steps, its learning rate, and its moments."""
    with tensorflow().init_scope():
        optimizer._create_all_weights(variables)


def apply_gradients(optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """One plain step of a legacy Keras optimizer, without its sum over replicas, of which there is one.

    The gradient of that sum would be registered with TensorFlow for good, and the whole program with it.
    """
    pairs = zip(gradients, variables, strict=True)
    optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)
