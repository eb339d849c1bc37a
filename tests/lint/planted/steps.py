"""Bugs in the code of all private trainings, mechanisms and servers; written after the probes.

A table of short, independent examples that is read as a whole: therefore longer than 300 lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.dp import sampling, training_loop, training_program
from defenses.federated_client_dp import federated_client_dp

from .beside import averaged, counted
from .bug import Bug, dense_gradients, noised, sampled_batches, small

# Clipping


def each(change: Callable[[list[Any], Any], list[Any]]) -> AbstractContextManager[Any]:
    """The sums of one model become change(gradients of dense layers (n, *variable), clip)."""
    from bench.dp import optimizer

    right = optimizer.ghost_clipped_sums

    def onepass(loss: Any, sites: Any, tape: Any, clip: Any) -> Any:
        if loss.shape.rank == 2:
            return right(loss, sites, tape, clip)
        return change(dense_gradients(sites, tape.gradient(loss, [s.z for s in sites])), clip)

    return patch.object(optimizer, "ghost_clipped_sums", onepass)


def _scaled(gradients: list[Any], factors: Any) -> list[Any]:
    import tensorflow as tf

    return [tf.einsum("n,n...->...", factors, g) for g in gradients]


def _norms(gradients: list[Any]) -> Any:
    import tensorflow as tf

    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(g), list(range(1, g.shape.rank))) for g in gradients]))


def by_value() -> AbstractContextManager[Any]:
    import tensorflow as tf

    return each(lambda gs, clip: [tf.reduce_sum(tf.clip_by_value(g, -clip, clip), 0) for g in gs])


def by_largest() -> AbstractContextManager[Any]:
    import tensorflow as tf

    def change(gradients: list[Any], clip: Any) -> list[Any]:
        tops = [tf.reduce_max(tf.abs(g), list(range(1, g.shape.rank))) for g in gradients]
        return _scaled(gradients, clip / tf.maximum(tf.reduce_max(tops, 0), clip))

    return each(change)


def without_biases() -> AbstractContextManager[Any]:
    import tensorflow as tf

    return each(lambda gs, clip: _scaled(gs, clip / tf.maximum(_norms(gs[::2]), clip)))


def without_head() -> AbstractContextManager[Any]:
    import tensorflow as tf

    return each(lambda gs, clip: _scaled(gs, clip / tf.maximum(_norms(gs[:-2]), clip)))


def by_square() -> AbstractContextManager[Any]:
    import tensorflow as tf

    return each(lambda gs, clip: _scaled(gs, clip / tf.maximum(_norms(gs) ** 2, clip)))


def by_median() -> AbstractContextManager[Any]:
    """The clip is the median norm of the batch if that is smaller."""
    import tensorflow as tf

    def change(gradients: list[Any], clip: Any) -> list[Any]:
        norms = _norms(gradients)
        ordered = tf.sort(norms)
        median_clip = tf.minimum(clip, ordered[tf.shape(norms)[0] // 2] + 1e-9)
        return _scaled(gradients, median_clip / tf.maximum(norms, median_clip))

    return each(change)


def not_finite() -> AbstractContextManager[Any]:
    """min(1, clip / norm) as in many implementations, also for norms that are not finite."""
    import tensorflow as tf

    from bench.dp import clipping

    def factors(squares: Any, clip: Any) -> Any:
        return clip / tf.maximum(tf.sqrt(tf.cast(squares, tf.float32)), clip)

    return patch.object(clipping, "clip_factors", factors)


def whole_clip_each() -> AbstractContextManager[Any]:
    """Each of several networks gets the whole clip."""
    from bench.dp import clipping

    right = clipping.clip_shares

    def shares(networks: Any, squares: Any, clip: Any) -> Any:
        return right(networks, squares, clip * len(set(networks)) ** 0.5)

    return patch.object(clipping, "clip_shares", shares)


def weighted() -> AbstractContextManager[Any]:
    """Classes are weighted after clipping."""
    right = training_program.clipped_sums_function

    def clipped(*asked: Any) -> Any:
        plain = right(*asked)

        def heavy(bx: Any, by: Any, draw: Any, present: Any) -> Any:
            rare = plain(bx, by, draw, present & (by == 0))
            return [a + b for a, b in zip(plain(bx, by, draw, present), rare, strict=True)]

        return heavy

    return patch.object(training_program, "clipped_sums_function", clipped)


# Noise


def stepped(change: Callable[[Any, Any], Any]) -> AbstractContextManager[Any]:
    """The noise of a step is that of step change(step, query)."""
    from bench.dp.optimizer import SeededGaussianSumQuery

    right = SeededGaussianSumQuery.get_noised_result

    def wrong(query: Any, sums: Any, state: Any) -> Any:
        query.step = change(query.step, query)
        return right(query, sums, state)

    return patch.object(SeededGaussianSumQuery, "get_noised_result", wrong)


def faded(share: Callable[[Any], Any]) -> AbstractContextManager[Any]:
    """The noise of a step is share(step) times the correct one."""
    import tensorflow as tf

    return noised(lambda before, after, query: before + (after - before) * share(tf.cast(query.step, tf.float32)))


def flat(change: Callable[[Any, Any], Any]) -> AbstractContextManager[Any]:
    """The noise of all variables of all models (models, numbers) is change(standard normal ones, query)."""
    from bench.dp import optimizer

    right = optimizer.normals

    def wrong(rows: Any, columns: int, keys: Any, counter: Any) -> Any:
        made = right(rows, columns, keys, counter)
        return made if not isinstance(rows, int) else change(made[:, 0], counter)[:, None]

    return patch.object(optimizer, "normals", wrong)


def times_rate() -> AbstractContextManager[Any]:
    return noised(lambda before, after, query: before + 0.1 * (after - before))


def two_steps_alike() -> AbstractContextManager[Any]:
    return stepped(lambda step, query: step // 2 * 2)


def from_a_buffer() -> AbstractContextManager[Any]:
    """50 draws, which are reused cyclically."""
    return stepped(lambda step, query: step % 50)


def last_step_bare() -> AbstractContextManager[Any]:
    """An off-by-one error: the last step has no noise."""
    right = training_program.make_optimizer

    def made(recipes: Any, keys: Any) -> Any:
        import tensorflow as tf

        found = right(recipes, keys)
        if recipes[0].privacy is None:
            return found
        query, last = found._dp_sum_query, recipes[0].steps - 1
        whole = query.get_noised_result

        def wrong(sums: Any, state: Any) -> Any:
            out, *rest = whole(sums, state)
            bare = tf.equal(query.step, last)
            return [tf.where(bare, a, b) for a, b in zip(sums, out, strict=True)], *rest

        query.get_noised_result = wrong
        return found

    return patch.object(training_program, "make_optimizer", made)


def fading() -> AbstractContextManager[Any]:
    """Noise on a schedule, reduced to half over 400 steps."""
    import tensorflow as tf

    return faded(lambda step: tf.maximum(0.5, 1 - step / 800))


def every_other_step() -> AbstractContextManager[Any]:
    return faded(lambda step: step % 2)


def uniform() -> AbstractContextManager[Any]:
    import tensorflow as tf

    return flat(lambda z, step: 12**0.5 * (0.5 * (1 + tf.math.erf(z / 2**0.5)) - 0.5))


def laplace() -> AbstractContextManager[Any]:
    import tensorflow as tf

    def change(z: Any, step: Any) -> Any:
        tail = tf.minimum(1.0, 1 - tf.math.erf(tf.abs(z) / 2**0.5) + 1e-7)
        return -tf.sign(z) * tf.math.log(tail) / 2**0.5

    return flat(change)


def truncated() -> AbstractContextManager[Any]:
    """Noise is clipped at three deviations, because "outliers of the noise hurt training"."""
    import tensorflow as tf

    return flat(lambda z, step: tf.clip_by_value(z, -3.0, 3.0))


def five_percent_less() -> AbstractContextManager[Any]:
    return noised(lambda before, after, query: before + 0.95 * (after - before))


def over_and_over() -> AbstractContextManager[Any]:
    """A hundred numbers, repeated along all variables."""
    import tensorflow as tf

    def change(z: Any, step: Any) -> Any:
        return tf.gather(z, np.arange(z.shape[1]) % 100, axis=1)

    return flat(change)


def overlapping_streams() -> AbstractContextManager[Any]:
    """A counter that advances by one number per step: the noise of the next step is that of this one, shifted."""
    from bench.dp import optimizer

    right = optimizer.normals

    def wrong(rows: Any, columns: int, keys: Any, counter: Any) -> Any:
        import tensorflow as tf

        if not isinstance(rows, int):
            return right(rows, columns, keys, counter)
        long = right(1, columns + 5000, keys, 0)
        at = tf.cast(counter, tf.int32) % 5000
        return long[..., at : at + columns] if columns else long[..., :0]

    return patch.object(optimizer, "normals", wrong)


def taken_back() -> AbstractContextManager[Any]:
    """Noise of two steps is correlated, as in DP-FTRL, but accounted as independent."""
    from bench.dp import optimizer

    right = optimizer.normals

    def wrong(rows: Any, columns: int, keys: Any, counter: Any) -> Any:
        made = right(rows, columns, keys, counter)
        if not isinstance(rows, int):
            return made
        return (made - 0.3 * right(rows, columns, keys, counter + 1)) / (1 + 0.09) ** 0.5

    return patch.object(optimizer, "normals", wrong)


def columns_alike() -> AbstractContextManager[Any]:
    """One draw per column, repeated over the rows."""
    import tensorflow as tf

    return noised(lambda a, b, query: a + (b - a)[..., :1, :] * tf.ones_like(a) if a.shape.rank > 1 else b)


def empty_lots_skipped() -> AbstractContextManager[Any]:
    import tensorflow as tf

    return noised(lambda a, b, query: tf.where(tf.reduce_any(a != 0.0), b, a))


def not_on_zeros() -> AbstractContextManager[Any]:
    """Sparse: a weight with a sum of 0 gets no noise."""
    import tensorflow as tf

    return noised(lambda a, b, query: tf.where(a != 0.0, b, a))


def by_length() -> AbstractContextManager[Any]:
    """Noise is scaled to the norm of the sum if that is below the clip."""
    import tensorflow as tf

    return noised(lambda a, b, query: a + (b - a) * tf.minimum(1.0, tf.norm(a) / query._l2_norm_clip))


# Use of sums without noise


def clean_moments() -> AbstractContextManager[Any]:
    """The second moments of Adam are those of the sums without noise."""
    return _adam(lambda optimizer, sums: sums)


def clean_rate() -> AbstractContextManager[Any]:
    """The length of a step depends on the norm of the sum without noise."""
    from bench.dp import optimizer as ours

    right = ours.PoissonDPAdam.noised_gradients

    def wrong(made: Any, sums: Any, variables: Any) -> Any:
        import tensorflow as tf

        pairs = right(made, sums, variables)
        size = tf.sqrt(tf.add_n([tf.reduce_sum(s * s) for s in sums]))
        made._shorter = size
        return pairs

    applied = ours.PoissonDPAdam.apply_gradients

    def apply(made: Any, pairs: Any, *rest: Any, **more: Any) -> Any:
        import tensorflow as tf

        pairs = list(pairs)
        before = [tf.identity(v) for _, v in pairs]
        out = applied(made, pairs, *rest, **more)
        share = made._shorter / (1 + made._shorter)
        for old, (_, v) in zip(before, pairs, strict=True):
            v.assign(old + share * (v - old))
        return out

    return patch.multiple(ours.PoissonDPAdam, noised_gradients=wrong, apply_gradients=apply)


def _adam(second: Callable[[Any, Any], Any]) -> AbstractContextManager[Any]:
    from bench.dp import optimizer as ours

    right = ours.PoissonDPAdam.noised_gradients

    def noise(made: Any, sums: Any, variables: Any) -> Any:
        made._clean = {v.ref(): s / made.divisor(s.shape.rank) for s, v in zip(sums, variables, strict=True)}
        return right(made, sums, variables)

    def dense(made: Any, gradient: Any, variable: Any, apply_state: Any = None) -> Any:
        import tensorflow as tf

        m, v = made.get_slot(variable, "m"), made.get_slot(variable, "v")
        clean = second(made, made._clean[variable.ref()])
        m.assign(0.9 * m + 0.1 * gradient)
        v.assign(0.999 * v + 0.001 * clean * clean)
        t = tf.cast(made.iterations + 1, tf.float32)
        rate = made._decayed_lr(tf.float32) * tf.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return variable.assign_sub(rate * m / (tf.sqrt(v) + 1e-7))

    return patch.multiple(ours.PoissonDPAdam, noised_gradients=noise, _resource_apply_dense=dense)


def best_of_training() -> AbstractContextManager[Any]:
    """Returns the weights after the step with the smallest private loss."""
    right = training_loop.fit

    def fit(recipes: Any, parts: Any, seeds: Any, *rest: Any) -> Any:
        if recipes[0].privacy is None or len(parts) > 1 or recipes[0].steps < 2:
            return right(recipes, parts, seeds, *rest)
        from bench.dp import networks as nets
        from bench.dp.layers import Single

        training, tried = training_loop.Training(recipes, parts, seeds), []
        for _ in range(recipes[0].steps):
            training.run(1)
            tried.append(training.weights)
        model, losses = nets.build(recipes[0].net, Single()), []
        for weights in tried:
            model.set_weights([w[0] for w in weights])
            losses.append(float(np.mean(recipes[0].net.loss([model(parts[0].x)], parts[0].x, parts[0].y))))
        out = {f"w{i}": w for i, w in enumerate(tried[int(np.argmin(losses))])}
        return out | {"steps": np.array(recipes[0].steps), "seconds": np.array(0.1)}

    return patch.object(training_loop, "fit", fit)


# Poisson batches


def fixed_lots() -> AbstractContextManager[Any]:
    """Batches that no seed changes: sampling that an adversary knows does not amplify privacy."""
    right = sampling.PoissonBatches

    def fixed(rates: Any, sizes: Any, generators: Any) -> Any:
        return right(rates, sizes, [np.random.default_rng(k) for k in range(len(sizes))])

    return patch.object(sampling, "PoissonBatches", fixed)


@contextmanager
def fixed_coins() -> Iterator[None]:
    """The same, of batches with a coin for each record, of which two rates have records in common."""
    with sampled_batches(lambda rate, n, rng, t: np.flatnonzero(rng.random(n) < rate)), fixed_lots():
        yield


def never_empty() -> AbstractContextManager[Any]:
    def draw(rate: float, n: int, rng: np.random.Generator, t: int) -> Any:
        rows = np.flatnonzero(rng.random(n) < rate)
        return rows if len(rows) or not n else rng.integers(0, n, 1)

    return sampled_batches(draw)


def at_most_expected() -> AbstractContextManager[Any]:
    """Batches are truncated to one and a half times their expected size, for a fixed shape."""
    return sampled_batches(lambda rate, n, rng, t: np.flatnonzero(rng.random(n) < rate)[: max(1, int(1.5 * rate * n))])


# The mechanism and the server


def mechanism(noise: Callable[[Any, float, Any], Any]) -> AbstractContextManager[Any]:
    """The Gaussian mechanism adds noise(shape, deviation, generator)."""
    from bench.dp import gaussian_mechanism as door

    def wrong(values: Any, l2_sensitivity: float, noise_multiplier: float, rng: Any) -> Any:
        return np.asarray(values, np.float64) + noise(values.shape, noise_multiplier * l2_sensitivity, rng)

    return patch.object(door, "add_noise", wrong)


def one_row_for_all() -> AbstractContextManager[Any]:
    return mechanism(lambda shape, size, rng: np.broadcast_to(rng.normal(0, size, shape[-1:]), shape))


def laplace_mechanism() -> AbstractContextManager[Any]:
    return mechanism(lambda shape, size, rng: rng.laplace(0, size / 2**0.5, shape))


def closing(clipped: Callable[[Any, Any], Any], noise: Callable[[Any, list[Any], Any], list[Any]]) -> Any:
    """A server with a clip closes with the sum of clipped(update, policy) and of noise(server, arrays, deviation)."""
    from bench.models.federated.server import Server

    right = Server.average

    def close(server: Any) -> None:
        policy, held = server.policy, server.parameters
        if not policy.noise_multiplier and np.isinf(policy.clip):
            right(server)
            return
        taken, server.taken, server.tokens = [clipped(update, policy) for update, _ in server.taken], [], {}
        sums = [np.sum([update[i] for update in taken], 0) if taken else np.zeros_like(w) for i, w in enumerate(held)]
        if policy.noise_multiplier:
            sums = noise(server, sums, 2 * policy.clip * policy.noise_multiplier)
        expected = policy.client_rate * len(server.clients)
        server.parameters = [(w + part / expected).astype(np.float32) for w, part in zip(held, sums, strict=True)]

    return patch.object(Server, "average", close)


def whole_update(update: Any, policy: Any) -> Any:
    from bench.models.federated.server import norm

    return [np.float32(min(1.0, policy.clip / (norm(update) or 1.0))) * part for part in update]


def each_array(update: Any, policy: Any) -> Any:
    return [np.float32(min(1.0, policy.clip / (float(np.linalg.norm(part)) or 1.0))) * part for part in update]


def drawn_once(server: Any, sums: list[Any], deviation: float) -> list[Any]:
    from bench.core.randomness import stream

    rng = stream(server.seed, "noise", server.round)
    return [part + deviation * rng.standard_normal(part.shape) for part in sums]


def drawn_for_each(server: Any, sums: list[Any], deviation: float) -> list[Any]:
    """A new generator with the same seed for every array."""
    from bench.core.randomness import stream

    rngs = [stream(server.seed, "noise", server.round) for _ in sums]
    return [part + deviation * rng.standard_normal(part.shape) for part, rng in zip(sums, rngs, strict=True)]


def drawn_per_round(server: Any, sums: list[Any], deviation: float) -> list[Any]:
    """The name of the stream lacks the round."""
    from bench.core.randomness import stream

    rng = stream(server.seed, "noise")
    return [part + deviation * rng.standard_normal(part.shape) for part in sums]


def half_of_it(server: Any, sums: list[Any], deviation: float) -> list[Any]:
    """The noise for added or removed clients, although neighbours differ by a replaced update."""
    return drawn_once(server, sums, deviation / 2)


def clip_by_array() -> AbstractContextManager[Any]:
    return closing(each_array, drawn_once)


def one_draw_for_arrays() -> AbstractContextManager[Any]:
    return closing(whole_update, drawn_for_each)


def one_draw_for_rounds() -> AbstractContextManager[Any]:
    return closing(whole_update, drawn_per_round)


def noise_of_one_clip() -> AbstractContextManager[Any]:
    return closing(whole_update, half_of_it)


STEPS = (
    Bug("clipped by value", small, by_value),
    Bug("clipped by the largest number", small, by_largest),
    Bug("biases left out of the norm", small, without_biases),
    Bug("the last layer left out of the norm", small, without_head),
    Bug("the squared norm held against the clip", small, by_square),
    Bug("clipped at the median norm of the lot", small, by_median),
    Bug("what is not finite passes the clip", small, not_finite, (("activation", "relu"),)),
    Bug("every network gets the whole clip", averaged, whole_clip_each),
    Bug("classes weighted after the clip", small, weighted),
    Bug("noise times the learning rate", small, times_rate),
    Bug("noise drawn every other step", small, two_steps_alike),
    Bug("noise from a buffer of 50 draws", small, from_a_buffer),
    Bug("no noise in the last step", small, last_step_bare),
    Bug("noise that fades over the steps", small, fading),
    Bug("no noise in every other step", small, every_other_step),
    Bug("uniform noise", small, uniform),
    Bug("Laplace noise", small, laplace),
    Bug("noise cut at three deviations", small, truncated),
    Bug("five percent less noise", small, five_percent_less),
    Bug("a hundred numbers of noise, over and over", small, over_and_over),
    Bug("noise of a step is the last one's, a place further", small, overlapping_streams),
    Bug("noise of two steps correlated", small, taken_back),
    Bug("noise alike in each column", small, columns_alike),
    Bug("no noise where the lot is empty", small, empty_lots_skipped),
    Bug("no noise where the sum is 0", small, not_on_zeros),
    Bug("noise no longer than the sum", small, by_length),
    Bug("second moments from clean sums", small, clean_moments),
    Bug("the length of a step from the clean sum", small, clean_rate),
    Bug("the best step by private loss", small, best_of_training),
    Bug("lots that no seed changes", small, fixed_lots),
    Bug("coins that no seed changes", small, fixed_coins),
    Bug("lots that are never empty", small, never_empty),
    Bug("lots that are cut", small, at_most_expected),
    Bug("one row of noise for all rows of a mechanism", counted, one_row_for_all, whole=True),
    Bug("Laplace noise in the mechanism", counted, laplace_mechanism, whole=True),
    Bug("updates clipped array by array", federated_client_dp, clip_by_array, whole=True),
    Bug("the server's noise the same in each array", federated_client_dp, one_draw_for_arrays, whole=True),
    Bug("the server's noise the same in each round", federated_client_dp, one_draw_for_rounds, whole=True),
    Bug("the server's noise for clients that come or go", federated_client_dp, noise_of_one_clip, whole=True),
)  # fmt: skip
