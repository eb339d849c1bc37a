"""A decoder trained on public pairs: it brings back records it never saw, as far as their codes hold them."""

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
    """An encoder: a fixed rotation of which only the first `keep` numbers are let out, on a scale of its own."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0]
    return np.asarray(3 + 1e-3 * x.reshape(len(x), -1) @ rotation[:, :keep], np.float32)


def error(decode: networks.Published, encode: Any, records: Examples) -> float:
    return float(np.square(decode(encode(records.x)) - records.x).mean())


def test_brings_back_records_that_it_never_saw(digits: Split) -> None:
    """Well below the error of the mean record where codes hold everything, and not where they hold nothing."""
    nothing = float(np.square(digits.public.x.mean(0) - digits.holdout.x).mean())
    decode = trained_decoder(mixed, digits.public, 1, steps=600)
    assert decode(mixed(digits.holdout.x)).shape == digits.holdout.x.shape
    assert error(decode, mixed, digits.holdout) < 0.5 * nothing

    def constant(x: NDArray[Any]) -> NDArray[Any]:
        return np.full((len(x), 3), 0.25, np.float32)

    blank = trained_decoder(constant, digits.public, 1, steps=600)
    assert error(blank, constant, digits.holdout) > 0.99 * nothing


def test_pairs_that_do_not_belong_together_are_caught(digits: Split) -> None:
    """The mutant: trained on codes of other records it is no better than the mean record."""
    nothing = float(np.square(digits.public.x.mean(0) - digits.holdout.x).mean())

    def shuffled(x: NDArray[Any]) -> NDArray[Any]:
        return np.random.default_rng(0).permutation(mixed(x))

    decode = trained_decoder(shuffled, digits.public, 1, steps=600)
    assert error(decode, mixed, digits.holdout) > 0.9 * nothing


def test_a_number_of_the_code_that_never_varies_does_not_blow_up(digits: Split) -> None:
    """Constant over public records, other elsewhere: divided by its spread it would drown the rest."""

    def encode(x: NDArray[Any]) -> NDArray[Any]:
        own = 0.0 if len(x) == len(digits.public) else 1e-3
        return np.concatenate([mixed(x), np.full((len(x), 1), own, np.float32)], axis=1)

    decode = trained_decoder(encode, digits.public, 1, steps=600)
    beside = error(decode, mixed_beside_zero, digits.holdout)
    assert error(decode, encode, digits.holdout) == pytest.approx(beside, rel=0.05)


def mixed_beside_zero(x: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([mixed(x), np.zeros((len(x), 1), np.float32)], axis=1)


def test_same_seed_same_decoder(digits: Split) -> None:
    codes = mixed(digits.holdout.x)
    first, again, other = (trained_decoder(mixed, digits.public, seed, steps=5)(codes) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_model_is_the_map_up_to_its_end(digits: Split) -> None:
    decode = trained_decoder(mixed, digits.public, 1, steps=5)
    codes = mixed(digits.holdout.x)
    logits = np.asarray(decode.model(codes), np.float64)
    assert np.allclose(decode(codes).reshape(len(codes), -1), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_loss_is_the_cross_entropy_of_the_record_alone() -> None:
    rng = np.random.default_rng(0)
    pairs = np.concatenate([rng.normal(size=(5, 3)), rng.random((5, 4))], axis=1)
    logits = rng.normal(size=(5, 4))
    p, x = 1 / (1 + np.exp(-logits)), pairs[:, 3:]
    naive = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(1)
    found = Decoder((7,), 3, ()).loss([np.float32(logits)], np.float32(pairs), None)
    assert np.allclose(np.asarray(found), naive, atol=1e-5)


def test_an_empty_layer_is_one_sentence(digits: Split) -> None:
    with pytest.raises(UserError, match="at least 1 unit"):
        trained_decoder(mixed, digits.public, 1, hidden=(0,))


def test_it_is_trained_by_the_one_training(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is remembered, and trains beside others."""
    asked: list[Any] = []
    train = code_decoder.train

    def seen(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments)
        return train(*arguments, **options)

    monkeypatch.setattr(code_decoder, "train", seen)
    trained_decoder(mixed, digits.public, 1, steps=5)
    [(recipe, [pairs], _, _)] = asked
    assert recipe.privacy is None
    assert pairs.x.shape == (len(digits.public), 128)
