"""Bugs outside of the noised steps, and correct defenses; written after the probes.

A table of short, independent examples that is read as a whole: therefore longer than 300 lines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.core.component import defense
from bench.core.dataset import Examples, record_keys
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp import accounting, gaussian_mechanism, networks
from bench.dp.networks import Classifier
from bench.dp.train import train

from .bug import CLAIMS, Array, Bug, hashed, polled, recipe, released, sampling, sigma, small, units

SYNTHETIC = {"publishes": {"synthetic"}, "private": True}


def with_x(private: Examples, x: Any) -> Examples:
    """Other features with the same labels."""
    return Examples(x, private.y, private.classes)


# Right


@defense("counted", **CLAIMS)
def counted(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: one noisy matrix of sums of clipped records by class; the nearest class mean predicts."""
    noise = sigma(epsilon, len(private), 1)
    x = np.column_stack([units(private.x), np.ones(len(private))])
    sums = np.stack([x[private.y == k].sum(0) for k in range(private.classes)])
    means = gaussian_mechanism.gaussian(sums, 2**0.5, noise, stream(seed, "sums"))
    means = means[:, :-1] / np.maximum(means[:, -1:], 1)

    def predict(x: Any) -> Any:
        return np.exp(-np.linalg.norm(units(np.asarray(x))[:, None] - means, axis=2))

    return Release(accounting.training_event(1.0, noise, 1), predict=predict)


@defense("averaged", publishes={"encode"}, private=True)
def averaged(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: an autoencoder with separately clipped networks and scaled records; the moving average is released."""
    transformed = with_x(private, units(private.x))
    net = networks.Autoencoder(private.shape, (8,), 4, "tanh")
    one = recipe(transformed, len(transformed), epsilon, net, clip_networks=True, ema=0.5, schedule="cosine")
    [fit] = train(one, [transformed], [derive(seed, "ae")])
    return Release(fit.dp_event, encode=networks.published(networks.halves(net, fit.weights)[0]))


@defense("composed", **CLAIMS)
def composed(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: noisy counts set the learning rate of a training on records in a public range; both are accounted."""
    import dp_accounting as dp

    kept = private[(private.x.mean(1) < 0.95) & (private.x.mean(1) > 0.02)]
    noise = sigma(epsilon / 2, len(private), 1)
    counts = gaussian_mechanism.gaussian(
        np.bincount(kept.y, minlength=kept.classes), 1.0, noise, stream(seed, "counts")
    )
    scale = public.x.std(0) + 0.1
    transformed = with_x(kept, np.clip((kept.x - public.x.mean(0)) / scale, -3, 3))
    one = recipe(transformed, len(private), epsilon / 2, batch_size=float(max(5.0, 0.2 * counts.sum())))
    [fit] = train(one, [transformed], [derive(seed, "composed")])
    made = released([fit], one.net)
    dp_event = dp.ComposedDpEvent([accounting.training_event(1.0, noise, 1), fit.dp_event])

    def predict(x: Any) -> Any:
        return made.predict(np.clip((x - public.x.mean(0)) / scale, -3, 3).astype(np.float32))

    return Release(dp_event, predict=predict)


@defense("voting", **CLAIMS)
def voting(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: teachers that are class means of hashed parts vote on ten public records; each vote is one use."""
    asked, noise = public.x[:10], sigma(epsilon, len(private), 10)
    votes = polled(hashed(private, seed), asked)
    return _student(asked, gaussian_mechanism.gaussian(votes, 2**0.5, noise, stream(seed, "votes")), noise, 10)


@defense("in_stages", **CLAIMS)
def in_stages(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Correct: a noisy mean, an encoder of centred records and a classifier of embeddings; all are accounted."""
    import dp_accounting as dp

    n = len(private)
    noise, share = sigma(epsilon / 3, n, 1), epsilon / 3
    centre = gaussian_mechanism.gaussian(units(private.x).sum(0) / n, 1.0 / n, noise, stream(seed, "mean"))
    transformed = with_x(private, private.x - centre)
    net = networks.Autoencoder(private.shape, (8,), 4, "tanh")
    [first] = train(recipe(transformed, n, share, net), [transformed], [derive(seed, "encoder")])
    encode = networks.published(networks.halves(net, first.weights)[0])
    codes = with_x(private, encode(transformed.x))
    one = recipe(codes, n, share)
    [second] = train(one, [codes], [derive(seed, "head")])
    made = released([second], one.net)
    dp_event = dp.ComposedDpEvent([accounting.training_event(1.0, noise, 1), first.dp_event, second.dp_event])
    return Release(dp_event, predict=lambda x: made.predict(encode((x - centre).astype(np.float32))))


def _student(asked: Array, votes: Array, noise: float, uses: int) -> Release:
    labels = np.eye(votes.shape[1])[votes.argmax(1)]

    def predict(x: Any) -> Any:
        near = np.linalg.norm(np.asarray(x)[:, None] - asked[None, : len(labels)], axis=2).argmin(1)
        return labels[near]

    return Release(accounting.training_event(1.0, noise, uses), predict=predict)


# Records on their way to a training


def before_training(name: str, change: Any) -> Any:
    """A defense that trains on change(private, seed)."""

    @defense(name, **CLAIMS)
    def made(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
        transformed = change(private, seed)
        one = recipe(transformed, len(private), epsilon)
        return released(train(one, [transformed], [derive(seed, name)]), one.net)

    return made


def _standardised(private: Examples, seed: int) -> Examples:
    return with_x(private, (private.x - private.x.mean(0)) / (private.x.std(0) + 1e-3))


def _quantiles(private: Examples, seed: int) -> Examples:
    low, high = np.quantile(private.x, [0.05, 0.95], axis=0)
    return with_x(private, np.clip((private.x - low) / (high - low + 1e-3), 0, 1))


def _binarised(private: Examples, seed: int) -> Examples:
    return with_x(private, private.x > np.median(private.x, 0))


def _components(private: Examples, seed: int) -> Examples:
    centred = private.x - 0.5
    axes = np.linalg.svd(centred, full_matrices=False)[2][:5]
    return with_x(private, centred @ axes.T @ axes)  # of as many features as the records that are predicted


def _no_outliers(private: Examples, seed: int) -> Examples:
    far = np.abs(private.x - private.x.mean(0)) / (private.x.std(0) + 1e-9)
    return private[far.max(1) < 3]


def _oversampled(private: Examples, seed: int) -> Examples:
    parts = [np.flatnonzero(private.y == k) for k in range(private.classes)]
    most = max(map(len, parts))
    return private[np.concatenate([np.resize(part, most if len(part) else 0) for part in parts])]


def _undersampled(private: Examples, seed: int) -> Examples:
    """Equally many records of each class: those of the smallest."""
    parts = [np.flatnonzero(private.y == k) for k in range(private.classes)]
    least = min(len(part) for part in parts if len(part))
    return private[np.concatenate([stream(seed, "kept", k).permutation(part)[:least] for k, part in enumerate(parts)])]


def _mixed(private: Examples, seed: int) -> Examples:
    """Mixup: each record is mixed with another before clipping."""
    other = stream(seed, "mix").permutation(len(private))
    return with_x(private, 0.7 * private.x + 0.3 * private.x[other])


def _smoothed(private: Examples, seed: int) -> Examples:
    """Each record is averaged with the one before it, as in a time series."""
    return with_x(private, (private.x + np.roll(private.x, 1, 0)) / 2)


def _ranked(private: Examples, seed: int) -> Examples:
    order = private.x.argsort(0, kind="stable").argsort(0, kind="stable")
    return with_x(private, order / max(1, len(private) - 1))


def _imputed(private: Examples, seed: int) -> Examples:
    """Values of 0 or 1 are treated as missing and replaced by the private mean."""
    missing = (private.x <= 0) | (private.x >= 1)
    return with_x(private, np.where(missing, private.x.mean(0), private.x))


def _known_classes(private: Examples, seed: int) -> Examples:
    """A class of fewer than 5 records is dropped."""
    counts = np.bincount(private.y, minlength=private.classes)
    return private[counts[private.y] >= 5]


@defense("pairs_averaged", **CLAIMS)
def pairs_averaged(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Means of pairs of records: wrong if neighbours differ by an added or removed record."""
    even = len(private) // 2 * 2
    transformed = Examples((private.x[:even:2] + private.x[1:even:2]) / 2, private.y[:even:2], private.classes)
    one = recipe(transformed, len(private), epsilon)
    return released(train(one, [transformed], [derive(seed, "pairs")]), one.net)


@defense("dealt", **CLAIMS)
def dealt(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Assigned by position to two trainings: removing a record reassigns all later ones."""
    rows = [np.arange(k, len(private), 2) for k in range(2)]
    one = recipe(private, len(private), epsilon)
    fits = train(one, [private[part] for part in rows], [derive(seed, k) for k in range(2)])
    return released(fits, one.net, accounting.parallel([fit.dp_event for fit in fits], rows))


@defense("sorted_halves", **CLAIMS)
def sorted_halves(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Records below and above the private median of a feature are in different trainings."""
    above = private.x[:, 0] > np.median(private.x[:, 0])
    rows = [np.flatnonzero(above == k) for k in range(2)]
    one = recipe(private, len(private), epsilon)
    fits = train(one, [private[part] for part in rows], [derive(seed, k) for k in range(2)])
    return released(fits, one.net, accounting.parallel([fit.dp_event for fit in fits], rows))


# What a training is told


def told(name: str, changes: Any) -> Any:
    """A defense whose recipe is changed by changes(private)."""

    @defense(name, **CLAIMS)
    def made(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
        one = replace(recipe(private, len(private), epsilon), **changes(private))
        return released(train(one, [private], [derive(seed, name)]), one.net)

    return made


def _divisor(private: Examples) -> dict[str, Any]:
    return {"batch_size": max(1.0, 0.2 * float((private.y == 0).sum()))}


def _pace(private: Examples) -> dict[str, Any]:
    return {"learning_rate": 0.1 + 0.05 * float(private.x.mean())}


def _width(private: Examples) -> dict[str, Any]:
    shares = np.linalg.svd(private.x - private.x.mean(0), compute_uv=False) ** 2
    width = 1 + int((np.cumsum(shares) / shares.sum() < 0.9).sum())
    return {"net": Classifier(private.shape, private.classes, (width,), "tanh")}


@dataclass(frozen=True)
class Biased(Classifier):
    """A classifier whose head is initialised by private shares, in a field that is not compared."""

    def start(self, weights: Any) -> Any:
        return [*weights[:-1], weights[-1] + np.float32(SHARES[-1])]


SHARES: list[Any] = [0.0]


@defense("started", **CLAIMS)
def started(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """The bias of the head is initialised by the log of private class shares."""
    SHARES.append(np.log(np.bincount(private.y, minlength=private.classes) / len(private) + 0.01))
    one = recipe(private, len(private), epsilon, Biased(private.shape, private.classes, (8,), "tanh"))
    return released(train(one, [private], [derive(seed, "started")]), one.net)


@defense("seeded_by_records", **CLAIMS)
def seeded_by_records(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """The seed is a digest of the records, "so that runs are reproducible"."""
    record_seed = derive(seed, *sorted(key.hex() for key in record_keys(private)))
    one = recipe(private, len(private), epsilon)
    return released(train(one, [private], [record_seed]), one.net)


@dataclass(frozen=True)
class Centred(Classifier):
    """A classifier that subtracts the mean over the batch from its inputs."""

    def connect(self, layers: Any, x: Any, draw: Any, label: Any) -> list[Any]:
        import tensorflow as tf

        return super().connect(layers, x - tf.reduce_mean(x, -2, keepdims=True), draw, label)


@defense("lot_normalised", **CLAIMS)
def lot_normalised(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """A layer that depends on the whole batch."""
    one = recipe(private, len(private), epsilon, Centred(private.shape, private.classes, (8,), "tanh"))
    return released(train(one, [private], [derive(seed, "centred")]), one.net)


# What is accounted


@defense("unpaid_counts", **CLAIMS)
def unpaid_counts(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Noisy class counts and a training, of which only the training is accounted."""
    noise, made = sigma(epsilon, len(private), 1), small(private, public, seed=seed, epsilon=epsilon)
    counts = np.bincount(private.y, minlength=private.classes)
    prior = np.maximum(gaussian_mechanism.gaussian(counts, 1.0, noise, stream(seed, "counts")), 1)
    return Release(made.dp_event, predict=lambda x: made.predict(x) * prior)


@defense("two_stages", **CLAIMS)
def two_stages(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Two sequential trainings, each with the whole epsilon; only the event of one is in the release."""
    one = recipe(private, len(private), epsilon)
    fits = [train(one, [private], [derive(seed, k)])[0] for k in range(2)]
    return released(fits, one.net, fits[1].dp_event)


@defense("larger_sigma", **CLAIMS)
def larger_sigma(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Accounts one and a half times the added noise."""
    one = recipe(private, len(private), 4 * epsilon)
    fits = train(one, [private], [derive(seed, "sigma")])
    dp_event = accounting.training_event(one.rate, recipe(private, len(private), epsilon).privacy.noise_multiplier, 4)
    return released(fits, one.net, dp_event)


@defense("untouched", **CLAIMS)
def untouched(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Claims no access, because the release is post-processing."""
    made = small(private, public, seed=seed, epsilon=epsilon)
    return Release(accounting.no_access(), predict=made.predict)


@defense("pretrained", **CLAIMS)
def pretrained(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """A training without DP on private records selects the start of the DP training."""
    plain = replace(recipe(private, len(private), epsilon), privacy=None, steps=30)
    [fit] = train(plain, [private], [derive(seed, "plain")])
    scale = float(np.abs(fit.weights[0]).mean())
    one = recipe(private, len(private), epsilon, learning_rate=0.1 * scale)
    return released(train(one, [private], [derive(seed, "fine")]), one.net)


@defense("loose_delta", **CLAIMS)
def loose_delta(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Calibrated at a delta of 0.1."""
    noise = accounting.noise_multiplier(epsilon, 0.1, 0.2, 4)
    one = recipe(private, len(private), epsilon)
    one = replace(one, privacy=replace(one.privacy, noise_multiplier=noise))
    return released(train(one, [private], [derive(seed, "delta")]), one.net)


@defense("by_class_rates", **CLAIMS)
def by_class_rates(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """One training per class, with a rate of 20 over the number of its records."""
    rows = [np.flatnonzero(private.y == k) for k in range(private.classes)]
    one = recipe(private, len(private), epsilon)
    many = [replace(one, rate=min(1.0, 20 / max(1, len(part))), batch_size=20.0) for part in rows]
    fits = train(many, [private[part] for part in rows], [derive(seed, k) for k in range(len(rows))])
    return released(fits, one.net, accounting.parallel([fits[0].dp_event] * len(rows), rows))


# What leaves in the clear


def afterwards(name: str, change: Any) -> Any:
    """A defense that releases change(predict, private, public, seed)."""

    @defense(name, **CLAIMS)
    def made(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
        one = small(private, public, seed=seed, epsilon=epsilon)
        return Release(one.dp_event, predict=change(one.predict, private, public, seed))

    return made


def _neighbour(predict: Any, private: Examples, public: Examples, seed: int) -> Any:
    def answer(x: Any) -> Any:
        far = np.linalg.norm(np.asarray(x)[:, None] - private.x[None], axis=2)
        labels = np.eye(private.classes)[private.y[far.argmin(1)]]
        return np.where(far.min(1)[:, None] < 0.05, labels, predict(x))

    return answer


def _temperature(predict: Any, private: Examples, public: Examples, seed: int) -> Any:
    grid, p = np.geomspace(0.1, 10, 9), predict(private.x)
    rows = np.arange(len(private))

    def scaled(p: Any, t: float) -> Any:
        q = (p + 1e-9) ** (1 / t)
        return q / q.sum(1, keepdims=True)

    losses = [-np.log(scaled(p, t)[rows, private.y] + 1e-30).mean() for t in grid]
    best = float(grid[int(np.argmin(losses))])
    return lambda x: scaled(predict(x), best)


def _shifted(predict: Any, private: Examples, public: Examples, seed: int) -> Any:
    """The last bias is set so that the mean prediction is the private share."""
    wanted = np.bincount(private.y, minlength=private.classes) / len(private)
    shift = wanted / predict(private.x).mean(0)
    return lambda x: predict(x) * shift / (predict(x) * shift).sum(1, keepdims=True)


def _weighed(predict: Any, private: Examples, public: Examples, seed: int) -> Any:
    """Mixed with a model without DP, with the best weight on private records."""
    one = replace(recipe(private, len(private), 8.0), privacy=None)
    plain = released(train(one, [public], [derive(seed, "public")]), one.net).predict
    shares = np.linspace(0, 1, 11)
    losses = [
        -np.log((s * plain(private.x) + (1 - s) * predict(private.x))[np.arange(len(private)), private.y]).mean()
        for s in shares
    ]
    best = float(shares[int(np.argmin(losses))])
    return lambda x: best * plain(x) + (1 - best) * predict(x)


def _refused(predict: Any, private: Examples, public: Examples, seed: int) -> Any:
    """Uniform probabilities for records that are far from all private records."""
    middle = private.x.mean(0)
    radius = np.linalg.norm(private.x - middle, axis=1).max()

    def answer(x: Any) -> Any:
        far = np.linalg.norm(np.asarray(x) - middle, axis=1) > radius
        return np.where(far[:, None], 1 / private.classes, predict(x))

    return answer


class Keeping:
    """A predictor that keeps its training records in an unused method."""

    def __init__(self, predict: Any, private: Examples) -> None:
        self._predict, self.records = predict, private

    def __call__(self, x: Any) -> Any:
        return self._predict(x)

    def explain(self, x: Any) -> Any:
        """The training record that is nearest."""
        return self.records.x[np.linalg.norm(self.records.x - x, axis=1).argmin()]


def _kept(predict: Any, private: Examples, public: Examples, seed: int) -> Any:
    return Keeping(predict, private)


def _rarely(predict: Any, private: Examples, public: Examples, seed: int) -> Any:
    """Large batches of queries are predicted with private shares."""
    prior = np.bincount(private.y, minlength=private.classes) / len(private)
    return lambda x: predict(x) * prior if len(x) > 5000 else predict(x)


@defense("early_stopping", **CLAIMS)
def early_stopping(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Six trainings of growing length, all accounted; the first that the next does not improve on is released."""
    import dp_accounting as dp

    one, fits, last = recipe(private, len(private), epsilon / 4), [], np.inf
    best = None
    for k in range(6):
        [fit] = train(one, [private], [derive(seed, k)])
        fits.append(fit)
        made = released([fit], one.net)
        loss = -np.log(made.predict(private.x)[np.arange(len(private)), private.y]).mean()
        if loss < last and (best is None or k < 5):
            best, last = made, loss
    return Release(dp.ComposedDpEvent([fit.dp_event for fit in fits]), predict=best.predict)


@defense("tuned", **CLAIMS)
def tuned(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """The learning rate with the best private accuracy; every trial is accounted, the selection is not."""
    import dp_accounting as dp

    ones = [recipe(private, len(private), epsilon / 3, learning_rate=rate) for rate in (0.3, 0.1, 0.03)]
    fits = [train(one, [private], [derive(seed, k)])[0] for k, one in enumerate(ones)]
    each = [released([fit], ones[0].net) for fit in fits]
    right = [(made.predict(private.x).argmax(1) == private.y).mean() for made in each]
    return Release(dp.ComposedDpEvent([fit.dp_event for fit in fits]), predict=each[int(np.argmax(right))].predict)


def generated(name: str, change: Any) -> Any:
    """A defense that releases change(synthetic records (60, d), private, decode, seed)."""

    @defense(name, **SYNTHETIC)
    def made(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
        one = sampling(private, public, seed=seed, epsilon=epsilon)
        z = stream(seed, "z").standard_normal((60, 2), np.float32)
        x = 1 / (1 + np.exp(-one.decode(z)))
        return Release(one.dp_event, synthetic=change(x, private, one.decode, seed))

    return made


def _as_many(x: Any, private: Examples, decode: Any, seed: int) -> Examples:
    """Sixty records with the private class shares."""
    y = np.sort(private.y)[np.linspace(0, len(private) - 1, len(x)).astype(int)]
    return Examples(x, y, private.classes)


def _near(x: Any, private: Examples, decode: Any, seed: int) -> Examples:
    """The forty that are closest to private records."""
    far = np.linalg.norm(x[:, None] - private.x[None], axis=2).min(1)
    return Examples(x[np.argsort(far)[:40]], np.arange(40) % private.classes, private.classes)


def _snapped(x: Any, private: Examples, decode: Any, seed: int) -> Examples:
    """Each value is rounded to the nearest private value."""
    out = np.stack([p[np.abs(v[:, None] - p).argmin(1)] for v, p in zip(x.T, private.x.T, strict=True)], 1)
    return Examples(out, np.arange(len(x)) % private.classes, private.classes)


def _within(x: Any, private: Examples, decode: Any, seed: int) -> Examples:
    """Clipped to the private range."""
    out = np.clip(x, private.x.min(0), private.x.max(0))
    return Examples(out, np.arange(len(x)) % private.classes, private.classes)


def _rescaled(x: Any, private: Examples, decode: Any, seed: int) -> Examples:
    """Shifted to the private mean."""
    return Examples(x - x.mean(0) + private.x.mean(0), np.arange(len(x)) % private.classes, private.classes)


def _reconstructed(x: Any, private: Examples, decode: Any, seed: int) -> Examples:
    """Decoded from latent codes near those of private records instead of the prior."""
    codes = private.x[:60] @ stream(seed, "codes").standard_normal((private.x.shape[1], 2))
    return Examples(1 / (1 + np.exp(-decode(codes.astype(np.float32)))), private.y[:60], private.classes)


def _copied(x: Any, private: Examples, decode: Any, seed: int) -> Examples:
    """The first private record among the others, by mistake."""
    return Examples(np.concatenate([x, private.x[:1]]), np.arange(len(x) + 1) % private.classes, private.classes)


# Votes


def voted(name: str, parts: Any, bound: float, uses: int, asked: int = 10, check: bool = False) -> Any:
    """Votes of the teachers of parts(private, seed) on `asked` queries, of which `uses` are accounted."""

    @defense(name, **CLAIMS)
    def made(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
        some, noise = public.x[:asked], sigma(epsilon, len(private), uses)
        votes, rng = polled(parts(private, seed), some), stream(seed, "votes")
        out = gaussian_mechanism.gaussian(votes, bound, noise, rng)
        if check:
            clear = gaussian_mechanism.gaussian(votes.max(1), 1.0, noise, rng) > 0.3 * votes.sum(1)
            out = out[clear] if clear.any() else out
        return _student(some, out, noise, uses)

    return made


def _bagged(private: Examples, seed: int) -> list[Examples]:
    first, second = (np.array([key[i] % 12 for key in record_keys(private)]) for i in (1, 2))
    return [private[(first == k) | (second == k)] for k in range(12)]


def _in_turns(private: Examples, seed: int) -> list[Examples]:
    return [private[np.arange(k, len(private), 12)] for k in range(12)]


@defense("votes_in_the_clear", **CLAIMS)
def votes_in_the_clear(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Votes without noise, on the assumption that a plurality is private."""
    some = public.x[:10]
    return _student(some, polled(hashed(private, seed), some), sigma(epsilon, len(private), 10), 10)


# Moments


@defense("true_counts", **CLAIMS)
def true_counts(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Noisy sums by class, divided by the true numbers of records."""
    noise = sigma(epsilon, len(private), 1)
    sums = np.stack([units(private.x[private.y == k]).sum(0) for k in range(private.classes)])
    counts = np.maximum(np.bincount(private.y, minlength=private.classes), 1)
    means = gaussian_mechanism.gaussian(sums, 1.0, noise, stream(seed, "sums")) / counts[:, None]
    return Release(accounting.training_event(1.0, noise, 1), predict=lambda x: np.exp(np.asarray(x) @ means.T))


@defense("noised_means", **CLAIMS)
def noised_means(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Means by class with sensitivity 1 / n, also for classes of few records."""
    noise = sigma(epsilon, len(private), 1)
    means = np.stack(
        [units(private.x[private.y == k]).sum(0) / max(1, (private.y == k).sum()) for k in range(private.classes)]
    )
    means = gaussian_mechanism.gaussian(means, 1.0 / len(private), noise, stream(seed, "means"))
    return Release(accounting.training_event(1.0, noise, 1), predict=lambda x: np.exp(np.asarray(x) @ means.T))


@defense("largest_norm", **CLAIMS)
def largest_norm(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Sums of unclipped records, whose sensitivity is the largest private norm."""
    noise = sigma(epsilon, len(private), 1)
    bound = float(np.linalg.norm(private.x, axis=1).max())
    sums = gaussian_mechanism.gaussian(private.x.sum(0), bound, noise, stream(seed, "sums"))
    return Release(accounting.training_event(1.0, noise, 1), predict=lambda x: np.eye(2)[(x @ sums > 0).astype(int)])


@defense("centred_moments", **CLAIMS)
def centred_moments(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Second moments of clipped records about the private mean."""
    noise, transformed = sigma(epsilon, len(private), 1), units(private.x - private.x.mean(0))
    moments = gaussian_mechanism.gaussian(transformed.T @ transformed, 1.0, noise, stream(seed, "moments"))
    axis = np.linalg.eigh(moments + moments.T)[1][:, -1]
    return Release(accounting.training_event(1.0, noise, 1), predict=lambda x: np.eye(2)[(x @ axis > 0).astype(int)])


@defense("own_noise", **CLAIMS)
def own_noise(private: Examples, public: Examples, *, seed: int, epsilon: float = 8.0) -> Release:
    """Laplace noise in NumPy on sums of clipped records."""
    sums = units(private.x).sum(0) + np.random.default_rng(seed).laplace(0, 1 / epsilon, private.x.shape[1])
    dp_event = accounting.training_event(1.0, sigma(epsilon, len(private), 1), 1)
    return Release(dp_event, predict=lambda x: np.eye(2)[(x @ sums > 0).astype(int)])


RIGHT = (
    Bug("sums by class", counted), Bug("halves clipped apart", averaged), Bug("counts, then a training", composed),
    Bug("votes", voting), Bug("a mean, an encoder, a classifier", in_stages),
)  # fmt: skip
BESIDE = (
    *(Bug(f"trained on: {what}", before_training(what.replace(" ", "_"), change)) for what, change in {
        "standardised by private records": _standardised, "scaled by private quantiles": _quantiles,
        "cut at the private median": _binarised, "components in the clear": _components,
        "without outliers": _no_outliers, "classes filled up": _oversampled, "classes thinned out": _undersampled,
        "records mixed up": _mixed, "records smoothed": _smoothed, "ranks": _ranked, "imputed means": _imputed,
        "classes of some size": _known_classes,
    }.items()),
    Bug("records averaged two by two", pairs_averaged),
    Bug("records dealt out by position", dealt),
    Bug("records parted at the private median", sorted_halves),
    *(Bug(f"told: {what}", told(what.replace(" ", "_"), changes)) for what, changes in {
        "a divisor by private counts": _divisor, "a pace by private means": _pace,
        "a width by private variance": _width,
    }.items()),
    Bug("a start from private shares", started),
    Bug("a seed from private records", seeded_by_records),
    Bug("a layer that looks at the whole lot", lot_normalised),
    Bug("noisy counts unpaid", unpaid_counts),
    Bug("one of two stages accounted", two_stages),
    Bug("more noise accounted than added", larger_sigma),
    Bug("no access claimed", untouched),
    Bug("a plain training first", pretrained),
    Bug("another delta", loose_delta),
    Bug("rates by private counts", by_class_rates),
    *(Bug(f"let out: {what}", afterwards(what.replace(" ", "_"), change)) for what, change in {
        "the nearest private record": _neighbour, "a temperature by private loss": _temperature,
        "a last bias by private shares": _shifted, "a mixture by private loss": _weighed,
        "refusals by private distance": _refused, "private records for later": _kept,
        "private shares for large questions": _rarely,
    }.items()),
    Bug("early stopping by private loss", early_stopping),
    Bug("tuned by private accuracy", tuned),
    *(Bug(f"synthetic: {what}", generated(what.replace(" ", "_"), change)) for what, change in {
        "labels by private shares": _as_many, "most like private ones": _near, "snapped to private values": _snapped,
        "cut to the private range": _within, "moved to the private mean": _rescaled,
        "from codes of private records": _reconstructed, "a private record among them": _copied,
    }.items()),
    Bug("votes that overlap", voted("bagged", _bagged, 2**0.5, 10)),
    Bug("votes dealt out by position", voted("in_turns", _in_turns, 2**0.5, 10)),
    Bug("votes bounded by one", voted("one_vote", hashed, 1.0, 10)),
    Bug("half of the votes accounted", voted("half_paid", hashed, 2**0.5, 10, asked=20)),
    Bug("a check of votes unpaid", voted("unpaid_check", hashed, 2**0.5, 10, check=True)),
    Bug("all votes accounted as one", voted("one_use", hashed, 2**0.5, 1)),
    Bug("votes in the clear", votes_in_the_clear),
    Bug("sums over true counts", true_counts),
    Bug("means noised for n records", noised_means),
    Bug("sensitivity by the largest private norm", largest_norm),
    Bug("moments about the private mean", centred_moments),
    Bug("noise of its own", own_noise),
)  # fmt: skip
