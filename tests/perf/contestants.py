"""DP-SGD steps of this project and of its peers on one task, and the check that each clips and noises as stated.

Every contestant trains the same autoencoder (784-400-128-400-784, float32) with Adam on the same batches. A framework
is imported only in the functions that use it: each has a separate environment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

CLIP, LEARNING_RATE, STEPS, THREADS = 1.0, 1e-3, 20, 1
SIZES = (784, 400, 128, 400, 784)
TORCH = ("torch==2.13.0", "opacus==1.6.0", "numpy==2.4.6")  # in this order: opacus would install another torch
JAX = ("jax==0.10.2", "jaxlib==0.10.2", "optax==0.2.8", "numpy==2.4.6", "jax-privacy==2.0.0")
Loop = tuple[Callable[[int], object], Callable[[], list[Any]]]  # run k steps and wait for them; the weights


@dataclass(frozen=True)
class Task:
    """What to train: batches of `size` out of records `x`, with Adam, or with SGD at rate 1 where steps are checked."""

    x: Any
    size: int
    private: bool
    noise: float = 1.0
    adam: bool = True

    @property
    def rows(self) -> Any:
        """Fixed batches (STEPS, size), none with a record twice."""
        import numpy as np

        rng = np.random.default_rng(2)
        return np.stack([rng.permutation(len(self.x))[: self.size] for _ in range(STEPS)])


def records() -> Any:
    """10,000 records between 0 and 1, mostly dark, as pictures of digits are."""
    import numpy as np

    return np.random.default_rng(0).random((10_000, SIZES[0]), np.float32) ** 6


def initial() -> list[Any]:
    """The initial weights of all contestants: kernel (in, out) and bias of each layer."""
    import numpy as np

    rng = np.random.default_rng(1)
    kernels = [rng.uniform(-1, 1, (i, o)) * (6 / (i + o)) ** 0.5 for i, o in pairwise(SIZES)]
    return [w.astype(np.float32) for kernel in kernels for w in (kernel, np.zeros(kernel.shape[1]))]


def clipped_mean(weights: list[Any], x: Any) -> list[Any]:
    """Naive reference: the mean over records of their clipped gradients."""
    import numpy as np

    total = [np.zeros(w.shape) for w in weights]
    for record in x.astype(np.float64):
        a = [record]
        for i, act in enumerate((lambda z: np.maximum(z, 0), np.tanh, lambda z: np.maximum(z, 0), lambda z: z)):
            a.append(act(a[-1] @ weights[2 * i] + weights[2 * i + 1]))
        d, gradients = 1 / (1 + np.exp(-a[4])) - record, []
        for i in (3, 2, 1, 0):
            gradients[:0] = [np.outer(a[i], d), d]
            d = (weights[2 * i] @ d) * (1 - a[i] ** 2 if i == 2 else a[i] > 0)
        factor = min(1.0, CLIP / np.sqrt(sum((g**2).sum() for g in gradients)))
        total = [t + factor * g / len(x) for t, g in zip(total, gradients, strict=True)]
    return total


def keras_loop(task: Task, private_optimizer: Any = None) -> Loop:
    """Ordinary Keras in a traced loop, with a DP optimizer of TensorFlow Privacy where one is given."""
    import tensorflow as tf
    from tensorflow import keras

    layers = zip(SIZES[1:], ("relu", "tanh", "relu", None), strict=True)
    model = keras.Sequential([keras.Input(SIZES[:1]), *(keras.layers.Dense(n, act) for n, act in layers)])
    model.set_weights(initial())
    x, rows, variables = tf.constant(task.x), tf.constant(task.rows), model.trainable_variables
    optimizer = private_optimizer or keras.optimizers.Adam(LEARNING_RATE)

    @tf.function(input_signature=[tf.TensorSpec([None, task.size], rows.dtype)])
    def run(batches: Any) -> None:
        for t in tf.range(tf.shape(batches)[0]):
            batch = tf.gather(x, batches[t])
            with tf.GradientTape(persistent=bool(private_optimizer)) as tape:
                cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=batch, logits=model(batch, training=True))
                losses = tf.reduce_sum(cross, 1)
                loss = losses if private_optimizer else tf.reduce_mean(losses)
            if private_optimizer:
                optimizer.minimize(loss, variables, tape=tape)
            else:
                optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    return lambda k: (run(rows[:k]), optimizer.iterations.numpy()), model.get_weights


def ours(task: Task) -> Loop:
    """This project's step on Poisson batches."""
    import numpy as np
    import steps

    from bench.core.dataset import Examples
    from bench.dp import networks
    from bench.dp.recipe import Privacy, Recipe

    if not task.private:
        return keras_loop(task)
    net = networks.Autoencoder(SIZES[:1], SIZES[1:2], SIZES[2])
    privacy = Privacy(CLIP, task.noise)
    how = (LEARNING_RATE, "adam") if task.adam else (1.0, "sgd")
    recipe = Recipe(net, STEPS, task.size / len(task.x), task.size, *how, privacy=privacy, engine="onepass")
    run, training = steps.ours(recipe, [Examples(task.x, np.zeros(len(task.x), np.int64), 10)], initial())
    return run, lambda: [w[0] for w in training.weights]


def tf_privacy(task: Task) -> Loop:
    """TensorFlow Privacy's vectorized optimizer, with the default settings of TensorFlow."""
    import tensorflow as tf
    import tensorflow_privacy as tfp

    tf.random.set_seed(0)
    kind = tfp.VectorizedDPKerasAdamOptimizer if task.adam else tfp.VectorizedDPKerasSGDOptimizer
    rate = LEARNING_RATE if task.adam else 1.0
    return keras_loop(task, kind(CLIP, task.noise, task.size, learning_rate=rate) if task.private else None)


def opacus(task: Task, mode: str = "ghost") -> Loop:
    """Opacus on eager PyTorch; make_private gets fixed batches, so its loader is not used."""
    import torch
    from opacus import PrivacyEngine
    from torch import nn

    class CrossEntropy(nn.Module):
        reduction = "mean"

        def forward(self, logits: Any, x: Any) -> Any:
            losses = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
            return losses.mean() if self.reduction == "mean" else losses

    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    dense = [nn.Linear(i, o) for i, o in pairwise(SIZES)]
    inner = model = nn.Sequential(dense[0], nn.ReLU(), dense[1], nn.Tanh(), dense[2], nn.ReLU(), dense[3])
    for parameter, w in zip(inner.parameters(), initial(), strict=True):
        parameter.data = torch.tensor(w.T).contiguous()  # PyTorch keeps kernels as (out, in)
    x, rows, criterion = torch.tensor(task.x), torch.tensor(task.rows), CrossEntropy()
    sgd = torch.optim.SGD(model.parameters(), 1.0)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE) if task.adam else sgd
    if task.private:
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[: task.size]), task.size)
        made = PrivacyEngine().make_private(
            module=model, optimizer=optimizer, criterion=criterion, data_loader=loader, noise_multiplier=task.noise,
            max_grad_norm=CLIP, poisson_sampling=False, grad_sample_mode=mode,
        )  # fmt: skip
        model, optimizer, criterion = made[0], made[1], made[2] if mode == "ghost" else criterion

    def run(k: int) -> None:
        for batch in rows[:k]:
            optimizer.zero_grad()
            records = x[batch]
            criterion(model(records), records).backward()
            optimizer.step()

    return run, lambda: [p.detach().numpy().T.copy() for p in inner.parameters()]


def jax_privacy(task: Task, microbatch: int | None = None) -> Loop:
    """jax_privacy's clipped_grad and gaussian_privatizer with optax, one compiled step."""
    import jax
    import numpy as np
    import optax
    from jax import numpy as jnp
    from jax_privacy import clipped_grad
    from jax_privacy.noise_addition import gaussian_privatizer

    def loss(w: Any, batch: Any) -> Any:
        h = jnp.tanh(jax.nn.relu(batch @ w[0] + w[1]) @ w[2] + w[3])
        logits = jax.nn.relu(h @ w[4] + w[5]) @ w[6] + w[7]
        return optax.sigmoid_binary_cross_entropy(logits, batch).sum(-1).mean()

    optimizer, gradient = optax.adam(LEARNING_RATE) if task.adam else optax.sgd(1.0), jax.grad(loss)
    if task.private:
        gradient = clipped_grad(
            loss, l2_clip_norm=CLIP, normalize_by=task.size, keep_batch_dim=False, microbatch_size=microbatch
        )
        noise = gaussian_privatizer(stddev=task.noise * CLIP / task.size, prng_key=0)
        optimizer = optax.chain(noise, optimizer)
    x, rows = jnp.asarray(task.x), [jnp.asarray(r) for r in task.rows]
    weights = [jnp.asarray(w) for w in initial()]
    at = [weights, optimizer.init(weights)]

    @jax.jit
    def step(weights: Any, state: Any, x: Any, batch: Any) -> Any:
        updates, state = optimizer.update(gradient(weights, x[batch]), state)
        return optax.apply_updates(weights, updates), state

    def run(k: int) -> None:
        for batch in rows[:k]:
            at[:] = step(*at, x, batch)
        jax.block_until_ready(at)

    return run, lambda: [np.array(w) for w in at[0]]


@dataclass(frozen=True)
class Contestant:
    """A row of the table: makes loops; names its packages and the pins of its environment (none: this environment)."""

    title: str
    make: Callable[[Task], Loop]
    packages: tuple[str, ...]
    pins: tuple[str, ...] = ()
    copies: int = 0  # of the model per record in memory


CONTESTANTS = {
    "ours": Contestant("this project, onepass", ours, ("dp-generative-bench", "tensorflow")),
    "ghost": Contestant("Opacus, ghost", opacus, ("opacus", "torch"), TORCH),
    "hooks": Contestant("Opacus, hooks", lambda task: opacus(task, "hooks"), ("opacus", "torch"), TORCH, 3),
    "jax1": Contestant("jax_privacy, microbatch 1", lambda task: jax_privacy(task, 1), ("jax-privacy", "jax"), JAX),
    "jax": Contestant("jax_privacy", jax_privacy, ("jax-privacy", "jax"), JAX, 3),
    "tfp": Contestant("TF-Privacy, vectorized", tf_privacy, ("tensorflow-privacy", "tensorflow"), (), 5),
}


def check(make: Callable[[Task], Loop]) -> None:
    """Stops a contestant whose step is not the mean of clipped gradients, or whose noise is not as requested."""
    import numpy as np

    x, start, moves = records()[:64], initial(), []
    for noise in (0.0, 1.0):
        run, weights = make(Task(x, len(x), private=True, noise=noise, adam=False))
        run(1)
        moves.append([before - after for before, after in zip(start, weights(), strict=True)])
    for truth, quiet, noised in zip(clipped_mean(start, x), *moves, strict=True):
        if not np.allclose(quiet, truth, rtol=1e-3, atol=1e-6):
            raise SystemExit("its step without noise is not the mean of clipped gradients")
        if not 0.75 < (noised - quiet).std() * len(x) / CLIP < 1.25 or (noised == quiet).mean() > 1e-3:
            raise SystemExit("its noise is not as requested")
