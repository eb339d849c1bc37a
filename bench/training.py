"""One deep function: train(recipe, parts, seeds) -> fits. Every network that is trained anywhere is trained here.

What was trained once is remembered as weights under a digest of recipe, records, seeds and this code, so that a new
attack retrains nothing and a killed run loses one fit. TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench import accounting, nets
from bench.data import Examples
from bench.errors import UserError
from bench.store import Store, digest, source_digest

if TYPE_CHECKING:
    from dp_accounting import DpEvent

ENGINES = ("onepass", "vectorized")
OPTIMIZERS = ("adam", "sgd")
Say = Callable[[str, int, int], None]
_memory: ContextVar[Store | None] = ContextVar("memory", default=None)
_say: ContextVar[Say | None] = ContextVar("say", default=None)
_recalled: ContextVar[float] = ContextVar("recalled", default=0.0)


@dataclass(frozen=True)
class Privacy:
    """The two numbers of the Gaussian mechanism: clip of one record's gradient, and noise in multiples of it."""

    l2_norm_clip: float
    noise_multiplier: float


def _check_plan(steps: int, rate: float) -> None:
    if steps < 1 or not 0 < rate <= 1:
        raise UserError(f"steps must be at least 1 and the sampling rate in (0, 1], not {steps} and {rate:g}.")


@dataclass(frozen=True)
class Recipe:
    """How to train: `steps` Poisson batches, each record with chance `rate`, sums divided by the constant `batch_size`.

    batch_size is a public constant (the expected size, from public numbers only); privacy None trains plainly;
    engine "onepass" clips dense layers from one backward pass, "vectorized" is the reference for any layers.
    """

    net: nets.Net
    steps: int
    rate: float
    batch_size: float
    learning_rate: float
    optimizer: str = "adam"
    momentum: float = 0.0
    privacy: Privacy | None = None
    engine: str = "onepass"

    def __post_init__(self) -> None:
        _check_plan(self.steps, self.rate)
        if not (self.learning_rate > 0 and self.batch_size > 0):
            raise UserError(
                f"learning_rate and batch_size must be above 0, not {self.learning_rate:g} and {self.batch_size:g}."
            )
        if self.engine not in ENGINES or self.optimizer not in OPTIMIZERS:
            raise UserError(f"engine is one of {', '.join(ENGINES)}, optimizer one of {', '.join(OPTIMIZERS)}.")


@dataclass(frozen=True)
class Fit:
    """Trained weights (as of one Keras model, in its order), the steps that ran, and what they cost the records."""

    weights: nets.Weights
    steps: int
    seconds: float
    spent: DpEvent


def private_training(epsilon: float, n: int, rate: float, steps: int, l2_norm_clip: float) -> Privacy | None:
    """The clip and the least noise that keep `steps` Poisson steps within epsilon at the rule's delta; None for inf."""
    _check_plan(steps, rate)
    if not 0 < l2_norm_clip < float("inf"):
        raise UserError(f"l2_norm_clip must be a number above 0, not {l2_norm_clip:g}.")
    if epsilon == float("inf"):
        return None
    delta = accounting.delta_for(n)
    return Privacy(l2_norm_clip, accounting.noise_multiplier(epsilon, delta, rate, steps))


@contextlib.contextmanager
def remembering(store: Store | None, say: Say | None = None) -> Iterator[None]:
    """Within this block fits are remembered in `store`, and `say(what, done, total)` hears of progress."""
    memory, voice = _memory.set(store), _say.set(say)
    try:
        yield
    finally:
        _memory.reset(memory)
        _say.reset(voice)


def recalled_seconds() -> float:
    """Seconds that remembered fits once took, of all that were recalled so far: what a run would have cost afresh."""
    return _recalled.get()


def tensorflow() -> Any:
    """TensorFlow, deterministic and quiet; what must be said before its first import stands in bench/__init__.py."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    tf.get_logger().setLevel("ERROR")
    return tf


def device() -> str:
    """The name of the device that trains: a GPU's, or CPU."""
    tf = tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else "CPU"


def train(recipe: Recipe, parts: Sequence[Examples], seeds: Sequence[int], what: str = "training") -> list[Fit]:
    """Train one network a part, all in one program, each with its own records, batches, noise and seed.

    Returns fits in the order of the parts; each equals, to float accuracy, what training it alone would give. Raises
    ValueError for equal seeds (equal noise would cancel) and FloatingPointError where plain training diverges.
    """
    if len(set(seeds)) != len(seeds) or len(seeds) != len(parts):
        raise ValueError("every model needs a seed of its own: equal seeds give equal noise")
    key = digest((recipe, [(part.x, part.y) for part in parts], list(seeds), _code(recipe.net)))
    store = _memory.get()
    found = store.load_fit(key) if store else None
    if found is None:
        found = _train(recipe, parts, seeds, what)
        if store:
            store.save_fit(key, found)
    else:
        _recalled.set(_recalled.get() + float(found["seconds"]))
    return [_fit(recipe, found, k) for k in range(len(parts))]


def _code(net: nets.Net) -> tuple[str, ...]:
    here = Path(__file__).parent
    files = [here / name for name in ("__init__.py", "training.py", "nets.py", "optimizer.py", "randomness.py")]
    files.append(Path(inspect.getfile(type(net))))  # somebody else's network is somebody else's code
    packages = ("tensorflow", "keras", "tensorflow-privacy", "numpy")
    return (*map(source_digest, files), *map(version, packages), device())


def _fit(recipe: Recipe, found: dict[str, NDArray[Any]], k: int) -> Fit:
    steps = int(found["steps"])
    if steps != recipe.steps:
        raise ValueError(f"{steps} steps ran, but {recipe.steps} would be accounted")
    count = len([name for name in found if name.startswith("w")])
    sigma = recipe.privacy.noise_multiplier if recipe.privacy else 0.0
    spent = accounting.training_event(recipe.rate, sigma, steps)
    return Fit([found[f"w{i}"][k] for i in range(count)], steps, float(found["seconds"]), spent)


def _streams(seed: int) -> tuple[int, np.random.Generator, NDArray[Any], NDArray[Any]]:
    """Seed of the initial weights, generator of the batches, and stateless seeds of noise and of sampling layers."""
    init, batches, noise, draws = np.random.SeedSequence(seed).spawn(4)
    words = [(s.generate_state(2).astype(np.int64) % 2**31).astype(np.int32) for s in (noise, draws)]
    return int(init.generate_state(1)[0]), np.random.default_rng(batches), words[0], words[1]


def _poisson_rows(recipe: Recipe, sizes: Sequence[int], generators: Sequence[np.random.Generator]) -> NDArray[Any]:
    """Rows of every batch (steps, models, width), -1 for padding; the width holds the largest batch, so none is cut."""
    rows = [
        [np.flatnonzero(rng.random(n) < recipe.rate) for n, rng in zip(sizes, generators, strict=True)]
        for _ in range(recipe.steps)
    ]
    width = max(1, max((len(r) for step in rows for r in step), default=1))
    out = np.full((recipe.steps, len(sizes), width), -1, np.int32)
    for t, step in enumerate(rows):
        for k, r in enumerate(step):
            out[t, k, : len(r)] = r
    return out


def _pad(parts: Sequence[Examples]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Records (models, n, *shape) and labels (models, n), short parts filled with zeros that no batch ever names."""
    n = max(1, max(len(part) for part in parts))
    x = np.zeros((len(parts), n, *parts[0].shape), np.float32)
    y = np.zeros((len(parts), n), np.int64)
    for k, part in enumerate(parts):
        x[k, : len(part)], y[k, : len(part)] = part.x, part.y
    return x, y


def _initial(net: nets.Net, seeds: Sequence[int], model: Any) -> None:
    """Give each model of a stack the initial weights that it would have alone."""
    tf = tensorflow()
    alone = []
    for seed in seeds:
        tf.keras.utils.set_random_seed(seed % 2**32)
        alone.append(nets.build(net, nets.Single()).get_weights())
    shapes = [w.shape for w in model.get_weights()]
    model.set_weights([np.stack([w[i] for w in alone]).reshape(shape) for i, shape in enumerate(shapes)])


def _train(recipe: Recipe, parts: Sequence[Examples], seeds: Sequence[int], what: str) -> dict[str, NDArray[Any]]:
    tf = tensorflow()
    start = time.perf_counter()
    models = len(parts)
    streams = [_streams(seed) for seed in seeds]
    layers = nets.Stacked(models) if models > 1 else nets.Single()
    model = nets.build(recipe.net, layers)
    _initial(recipe.net, [s[0] for s in streams], model)
    x, y = _pad(parts)
    rows = _poisson_rows(recipe, [len(part) for part in parts], [s[1] for s in streams])
    step, iterations = _step(recipe, model, models, x, y, streams)

    @tf.function(input_signature=[tf.TensorSpec([None, models, rows.shape[2]], tf.int32)])  # type: ignore[untyped-decorator]
    def run(batches: Any) -> None:
        for t in tf.range(tf.shape(batches)[0]):
            step(batches[t])

    stride = max(1, recipe.steps // 20)
    say = _say.get()
    for t in range(0, recipe.steps, stride):
        run(tf.constant(rows[t : t + stride]))
        if say:
            say(what, min(t + stride, recipe.steps), recipe.steps)
    weights = model.get_weights()
    if not all(np.isfinite(w).all() for w in weights):
        raise FloatingPointError(f"{what} diverged: the weights are not finite; use a smaller learning rate")
    shapes = [w.shape for w in nets.build(recipe.net, nets.Single()).get_weights()]
    out = {f"w{i}": w.reshape(models, *shape) for i, (w, shape) in enumerate(zip(weights, shapes, strict=True))}
    out["steps"] = np.array(iterations.numpy())
    out["seconds"] = np.array(time.perf_counter() - start)
    return out


def _step(recipe: Recipe, model: Any, models: int, x: NDArray[Any], y: NDArray[Any], streams: Sequence[Any]) -> Any:
    """The function of one step on batch rows (models, width), and the variable that counts executed steps."""
    tf = tensorflow()
    from bench.optimizer import check_private, per_record_gradients

    net, privacy = recipe.net, recipe.privacy
    records, labels = tf.constant(x), tf.constant(y)
    optimizer = _optimizer(recipe, np.stack([s[2] for s in streams]))
    draw_seeds = [tf.constant(s[3]) for s in streams]

    def normals(width: Any) -> Any:
        # drawn here and handed to the network, so that a sampling layer runs once and a model draws as if alone
        seeds = [tf.random.experimental.stateless_fold_in(seed, optimizer.iterations) for seed in draw_seeds]
        drawn = tf.stack([tf.random.stateless_normal([width, net.draws], s, alg="philox") for s in seeds])
        return drawn if models > 1 else drawn[0]

    view, layers = _view(recipe, model)

    def forward(bx: Any, by: Any, draw: Any) -> tuple[Any, list[Any], list[Any]]:
        inputs = [bx, draw] if net.draws else [bx]
        out = tf.nest.flatten(view(inputs, training=True))  # Keras unwraps a list of one
        count = len(model.outputs)
        return net.loss(out[:count], bx, by), out[count : count + len(layers)], out[count + len(layers) :]

    if privacy:
        probe = tf.random.stateless_uniform((models, 3, *net.shape), [0, 1])
        zeros = tf.zeros((models, 3), tf.int64)
        if models == 1:
            probe, zeros = probe[0], zeros[0]
        check_private(model, lambda p: forward(p, zeros, normals(3))[0], probe)

    def gradients(*batch: Any) -> list[Any]:
        axis = min(models, 2) - 1  # of records

        def one(record: Any) -> Any:
            bx, by, draw, present = (tf.expand_dims(t, axis) for t in record)
            return tf.reduce_sum(tf.where(present, forward(bx, by, draw)[0], 0.0))

        in_front = tuple(tf.transpose(t, [axis, *range(axis), *range(axis + 1, t.shape.rank)]) for t in batch)
        return per_record_gradients(one, in_front, model.trainable_variables)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def step(rows: Any) -> None:
        present = rows >= 0
        rows = tf.maximum(rows, 0)
        bx, by = tf.gather(records, rows, batch_dims=1), tf.gather(labels, rows, batch_dims=1)
        if models == 1:
            bx, by, present = bx[0], by[0], present[0]
        draw = normals(tf.shape(rows)[1])
        with tf.GradientTape() as tape:
            losses, a, z = forward(bx, by, draw)
            losses.shape.assert_is_compatible_with(present.shape)
            losses = tf.where(present, losses, 0.0)
            total = tf.reduce_sum(losses) / recipe.batch_size
        variables = model.trainable_variables
        if privacy is None:
            optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))
        elif recipe.engine == "onepass":
            optimizer.minimize(losses, variables, tape=tape, sites=_sites(layers, a, z))
        else:
            optimizer.minimize(losses, variables, gradients=gradients(bx, by, draw, present))

    return step, optimizer.iterations


def _view(recipe: Recipe, model: Any) -> tuple[Any, list[Any]]:
    """The model with each dense layer's input and output among its outputs, and those layers, for one-pass clipping."""
    from bench.optimizer import dense_layers

    if recipe.privacy is None or recipe.engine != "onepass":
        return model, []
    layers = dense_layers(model)
    tf = tensorflow()
    outputs = [*model.outputs, *(layer.input for layer in layers), *(layer.output for layer in layers)]
    return tf.keras.Model(model.inputs, outputs), layers


def _sites(layers: Sequence[Any], a: Sequence[Any], z: Sequence[Any]) -> list[Any]:
    from bench.optimizer import Site

    return [Site(layer.kernel, layer.bias, ai, zi) for layer, ai, zi in zip(layers, a, z, strict=True)]


def _optimizer(recipe: Recipe, noise_seeds: NDArray[Any]) -> Any:
    tf = tensorflow()
    from bench.optimizer import PoissonDPAdam, PoissonDPSGD

    options: dict[str, Any] = {"learning_rate": recipe.learning_rate}
    if recipe.optimizer == "sgd":
        options["momentum"] = recipe.momentum
    if recipe.privacy is None:
        legacy = tf.keras.optimizers.legacy
        return (legacy.Adam if recipe.optimizer == "adam" else legacy.SGD)(**options)
    kind = PoissonDPAdam if recipe.optimizer == "adam" else PoissonDPSGD
    return kind(
        l2_norm_clip=recipe.privacy.l2_norm_clip,
        noise_multiplier=recipe.privacy.noise_multiplier,
        batch_size=recipe.batch_size,
        noise_seeds=noise_seeds,
        **options,
    )
