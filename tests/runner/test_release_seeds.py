"""Each release draws a fresh 256-bit seed, and no file or message contains it or a seed derived from it."""

from __future__ import annotations

import io
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from releases import PLUGIN, Release, files  # noqa: F401 - the fixture `plugin` writes PLUGIN

from bench.core import randomness
from bench.runner import play
from bench.runner import release as releasing

SECRET = 0xC0FFEE_5EED_0123456789ABCDEF_FEDCBA9876543210_DEADBEEF12345678  # at most 256 bits, and in no file by chance


def drawn(folder: Path) -> np.ndarray[Any, Any]:
    with np.load(folder / "made" / "sums" / "synthetic.npz", allow_pickle=False) as archive:
        return np.array(archive["x"])


def test_two_releases_of_the_same_command_differ_in_their_noise(release: Release, tmp_path: Path) -> None:
    assert release("--defense", "sums", folder="one") == release("--defense", "sums", folder="two") == 0
    assert not np.array_equal(drawn(tmp_path / "one"), drawn(tmp_path / "two"))


def test_a_mutant_with_a_fixed_seed_repeats_its_noise(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releasing, "_entropy", lambda: 0)
    assert release("--defense", "sums", folder="one") == release("--defense", "sums", folder="two") == 0
    np.testing.assert_array_equal(drawn(tmp_path / "one"), drawn(tmp_path / "two"))


def test_each_release_draws_a_new_seed_of_256_bits(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    bits_drawn: list[int] = []
    monkeypatch.setattr(releasing.secrets, "randbits", lambda bits: bits_drawn.append(bits) or len(bits_drawn))
    seeds: list[int] = []
    original = play.release
    monkeypatch.setattr(play, "release", lambda data, choice, seed: seeds.append(seed) or original(data, choice, seed))
    assert release("--defense", "sums", "--defense", "secretive") == 0
    assert bits_drawn == [256, 256]
    assert seeds == [1, 2]


def spellings(number: int) -> Iterator[bytes]:
    """The forms of a number in a file: decimal, hexadecimal, and as bytes."""
    yield str(number).encode()
    yield f"{number:x}".encode()
    yield f"{number:X}".encode()
    size = -(-number.bit_length() // 8)
    for width in {size, 8 if size <= 8 else 32}:
        yield number.to_bytes(width, "big")
        yield number.to_bytes(width, "little")


def holds(folder: Path, numbers: set[int]) -> list[str]:
    """Files below a folder that contain one of the numbers, compressed or not."""
    found = []
    for name, data in files(folder).items():
        inside = [data]
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                inside += [archive.read(one) for one in archive.namelist()]
        if any(spelling in one for one in inside for number in numbers for spelling in spellings(number)):
            found.append(name)
    return found


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The master seed of each release, fixed here, and every seed derived from it."""
    seen = {SECRET}
    monkeypatch.setattr(releasing.secrets, "randbits", lambda bits: SECRET)
    original = randomness.hashlib.blake2b

    def blake2b(data: bytes, *, digest_size: int) -> Any:
        made = original(data, digest_size=digest_size)
        number = int.from_bytes(made.digest(), "big")
        seen.update({number, number >> 1, (number >> 1) % 2**31})
        return made

    monkeypatch.setattr(randomness, "hashlib", types.SimpleNamespace(blake2b=blake2b))
    return seen


def test_no_file_holds_the_seed_or_one_derived_from_it(
    release: Release, tmp_path: Path, seeds: set[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """For arrays, for a network whose layers store their initial seed, and for a shipped defense."""
    assert release("--defense", "sums", "--defense", "secretive", "--defense", "starts") == 0
    shipped = "dp_vaegm,samples=20,classifier_samples=20,steps=2,classifier_steps=2"
    assert release("--defense", shipped, data="breast_cancer,private=60,holdout=30,public=30") == 0
    written = files(tmp_path / "out")
    assert {Path(name).name for name in written} == {
        "card.md", "card.json", "synthetic.npz", "synthetic.csv", "model.npz", "decode.npz",
    }  # fmt: skip
    assert len(seeds) > 20
    assert holds(tmp_path, seeds) == []
    assert not (tmp_path / "results").exists(), "no fit is stored"
    printed = "".join(capsys.readouterr())
    assert not any(str(seed) in printed for seed in seeds if seed > 2**31)


def test_the_search_for_a_seed_finds_one(tmp_path: Path, seeds: set[int]) -> None:
    for i, spelling in enumerate({*spellings(SECRET), *spellings(2**62 + 12345)}):
        (tmp_path / str(i)).write_bytes(b"abc" + spelling + b"xyz")
    np.savez_compressed(tmp_path / "packed.npz", seed=np.array([2**62 + 12345]))
    np.savez_compressed(tmp_path / "innocent.npz", seed=np.array([2**62 + 12346]))
    found = holds(tmp_path, {SECRET, 2**62 + 12345})
    assert set(found) == set(files(tmp_path)) - {"innocent.npz"}


def test_a_failing_defense_does_not_reveal_its_seed(
    release: Release, tmp_path: Path, seeds: set[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert release("--defense", "chatty") == 2
    err = capsys.readouterr().err
    assert "chatty failed while it trained (ValueError)" in err
    assert not any(str(seed) in err for seed in seeds)
    assert files(tmp_path / "out") == {}
