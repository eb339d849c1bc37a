"""A decoder trained on public pairs reconstructs unseen records as far as their embeddings determine them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.core.dataset import Examples, Split
from bench.core.errors import UserError
from bench.dp import networks
from bench.models import code_decoder
from bench.models.code_decoder import Decoder, trained_decoder


def mixed(x: NDArray[Any], keep: int = 64) -> NDArray[Any]:
    """An encoder: the first `keep` coordinates of a fixed rotation, scaled and shifted."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0]
    return np.asarray(3 + 1e-3 * x.reshape(len(x), -1) @ rotation[:, :keep], np.float32)


def error(decode: networks.Published, encode: Any, records: Examples) -> float:
    return float(np.square(decode(encode(records.x)) - records.x).mean())


def test_unseen_records_are_reconstructed(digits: Split) -> None:
    """Far better than the mean record if embeddings determine the record, and no better if they are constant."""
    baseline = float(np.square(digits.public.x.mean(0) - digits.holdout.x).mean())
    decode = trained_decoder(mixed, digits.public, 1, steps=600)
    assert decode(mixed(digits.holdout.x)).shape == digits.holdout.x.shape
    assert error(decode, mixed, digits.holdout) < 0.5 * baseline

    def constant(x: NDArray[Any]) -> NDArray[Any]:
        return np.full((len(x), 3), 0.25, np.float32)

    uninformed = trained_decoder(constant, digits.public, 1, steps=600)
    assert error(uninformed, constant, digits.holdout) > 0.99 * baseline


def test_a_decoder_of_shuffled_pairs_is_no_better_than_the_mean_record(digits: Split) -> None:
    """The mutant is trained on embeddings of other records."""
    baseline = float(np.square(digits.public.x.mean(0) - digits.holdout.x).mean())

    def shuffled(x: NDArray[Any]) -> NDArray[Any]:
        return np.random.default_rng(0).permutation(mixed(x))

    decode = trained_decoder(shuffled, digits.public, 1, steps=600)
    assert error(decode, mixed, digits.holdout) > 0.9 * baseline


def test_a_constant_coordinate_of_the_embedding_is_not_amplified(digits: Split) -> None:
    """Constant on public records, different on others: divided by its deviation it would dominate the embedding."""

    def encode(x: NDArray[Any]) -> NDArray[Any]:
        last = 0.0 if len(x) == len(digits.public) else 1e-3
        return np.concatenate([mixed(x), np.full((len(x), 1), last, np.float32)], axis=1)

    decode = trained_decoder(encode, digits.public, 1, steps=600)
    reference = error(decode, mixed_and_zero, digits.holdout)
    assert error(decode, encode, digits.holdout) == pytest.approx(reference, rel=0.05)


def mixed_and_zero(x: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([mixed(x), np.zeros((len(x), 1), np.float32)], axis=1)


def test_the_same_seed_gives_the_same_decoder(digits: Split) -> None:
    embeddings = mixed(digits.holdout.x)
    first, again, other = (trained_decoder(mixed, digits.public, seed, steps=5)(embeddings) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_model_gives_the_logits_of_the_published_function(digits: Split) -> None:
    decode = trained_decoder(mixed, digits.public, 1, steps=5)
    embeddings = mixed(digits.holdout.x)
    logits = np.asarray(decode.model(embeddings), np.float64)
    assert np.allclose(decode(embeddings).reshape(len(embeddings), -1), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_the_loss_is_the_cross_entropy_of_the_record() -> None:
    rng = np.random.default_rng(0)
    pairs = np.concatenate([rng.normal(size=(5, 3)), rng.random((5, 4))], axis=1)
    logits = rng.normal(size=(5, 4))
    p, x = 1 / (1 + np.exp(-logits)), pairs[:, 3:]
    naive = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(1)
    found = Decoder((7,), 3, ()).loss([np.float32(logits)], np.float32(pairs), None)
    assert np.allclose(np.asarray(found), naive, atol=1e-5)


def test_an_empty_layer_is_refused_in_one_sentence(digits: Split) -> None:
    with pytest.raises(UserError, match="at least 1 unit"):
        trained_decoder(mixed, digits.public, 1, hidden=(0,))


def test_the_decoder_is_trained_by_the_shared_function(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through it trainings are cached and run jointly."""
    calls: list[Any] = []
    train = code_decoder.train

    def recorded(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return train(*arguments, **options)

    monkeypatch.setattr(code_decoder, "train", recorded)
    trained_decoder(mixed, digits.public, 1, steps=5)
    [(recipe, [pairs], _, _)] = calls
    assert recipe.privacy is None
    assert pairs.x.shape == (len(digits.public), 128)
