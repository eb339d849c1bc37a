"""Releases: noise that nobody can repeat, a card, and no seed in any file."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import components, quick, split

from bench.cli.main import main
from bench.core import randomness
from bench.core.component import Choice
from bench.core.dataset import DataLocation
from bench.core.notices import SEEDED, UNSEEDED
from bench.dp.weights_cache import WeightsCache
from bench.runner import play
from bench.runner import release as releasing
from bench.runner.release_card import contents
from bench.runner.selection import choose
from bench.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = '''
import numpy as np

from bench.dp import accounting, gaussian_mechanism as mechanism
from bench.core.dataset import Examples, Split
from bench.core.component import dataset, defense
from bench.core.release import Release

N = "the number of private records"


@dataset("made")
def made(where, rng, *, private=60, holdout=30, public=20):
    """Records of noise."""
    return Split("made", *(Examples(rng.random((n, 4)), np.arange(n) % 2, 2) for n in (private, holdout, public)))


def release(private, seed, noise_multiplier=2.0):
    sums = mechanism.gaussian(private.x.sum(0), 2.0, noise_multiplier, np.random.default_rng(seed))
    x = np.clip(sums / 60 + np.random.default_rng([seed, 1]).normal(size=(50, 4)) / 10, 0, 1)
    spent = accounting.training_event(rate=1.0, noise_multiplier=noise_multiplier, steps=1)
    return Release(spent, synthetic=Examples(x, np.arange(50) % 2, 2))


@defense("sums", publishes={"synthetic"}, private=True, public_knowledge=(N, "features between 0 and 1"))
def sums(private, public, *, seed, epsilon=8.0):
    """Noisy sums."""
    return release(private, seed)


@defense("secretive", publishes={"synthetic"}, private=True, public_knowledge=("features between 0 and 1",))
def secretive(private, public, *, seed):
    """The same, and how many records there are is nobody's business."""
    return release(private, seed)


@defense("open", publishes={"synthetic"})
def open_(private, public, *, seed):
    """Claims nothing."""
    return release(private, seed)


@defense("naked", publishes={"synthetic"}, private=True)
def naked(private, public, *, seed, noise_multiplier=0.0):
    """Claims privacy and adds no noise."""
    return release(private, seed, noise_multiplier)


@defense("answers", publishes={"predict"}, private=True)
def answers(private, public, *, seed):
    """Publishes what no file holds."""


@defense("chatty", publishes={"synthetic"}, private=True, public_knowledge=(N,))
def chatty(private, public, *, seed):
    """Fails, and tells everybody its seed."""
    raise ValueError(f"bad seed {seed}")


@defense("starts", publishes={"model"}, private=True, public_knowledge=(N,))
def starts(private, public, *, seed):
    """A network whose layers remember the seed that they started from."""
    from tensorflow import keras

    start = keras.initializers.GlorotUniform(seed=seed % 2**31)
    layers = [keras.Input((4,)), keras.layers.Dense(3, kernel_initializer=start)]
    return Release(accounting.training_event(1.0, 2.0, 1), model=keras.Sequential(layers))
'''
SECRET = 0xC0FFEE_5EED_0123456789ABCDEF_FEDCBA9876543210_DEADBEEF12345678  # of 256 bits or less, and in no file by luck
Release = Callable[..., int]


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture(autouse=True)
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the linter finds, in its place: its own tests say whether it finds what is there."""
    found: list[Any] = []
    lint = types.ModuleType("bench.lint.linter")
    lint.lint = lambda choice, data, seed: tuple(found)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bench.lint.linter", lint)
    return found


@pytest.fixture
def release(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """`bench release` in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, folder: str = "out", data: str = "made") -> int:
        return main(["release", "--plugin", str(plugin), "--data", data, "--into", folder, *words])

    return call


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Noise


def drawn(folder: Path) -> np.ndarray[Any, Any]:
    with np.load(folder / "made" / "sums" / "synthetic.npz", allow_pickle=False) as archive:
        return np.array(archive["x"])


def test_two_releases_of_the_same_words_differ_in_their_noise(release: Release, tmp_path: Path) -> None:
    assert release("--defense", "sums", folder="one") == release("--defense", "sums", folder="two") == 0
    assert not np.array_equal(drawn(tmp_path / "one"), drawn(tmp_path / "two"))


def test_the_mutant_whose_seed_is_fixed_would_be_found_by_that(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releasing, "_entropy", lambda: 0)
    assert release("--defense", "sums", folder="one") == release("--defense", "sums", folder="two") == 0
    np.testing.assert_array_equal(drawn(tmp_path / "one"), drawn(tmp_path / "two"))


def test_the_seed_is_drawn_anew_with_256_bits_for_each_release(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(releasing.secrets, "randbits", lambda bits: asked.append(bits) or len(asked))
    seeds: list[int] = []
    plain = play.release
    monkeypatch.setattr(play, "release", lambda data, choice, seed: seeds.append(seed) or plain(data, choice, seed))
    assert release("--defense", "sums", "--defense", "secretive") == 0
    assert asked == [256, 256]
    assert seeds == [1, 2]


def spellings(number: int) -> Iterator[bytes]:
    """How a number may stand in a file: decimal, hexadecimal, and as bytes."""
    yield str(number).encode()
    yield f"{number:x}".encode()
    yield f"{number:X}".encode()
    size = -(-number.bit_length() // 8)
    for width in {size, 8 if size <= 8 else 32}:
        yield number.to_bytes(width, "big")
        yield number.to_bytes(width, "little")


def holds(folder: Path, numbers: set[int]) -> list[str]:
    """Files below a folder that hold one of the numbers, packed or not."""
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
    """The master seed of each release, which is known here, and every seed that is derived meanwhile."""
    seen = {SECRET}
    monkeypatch.setattr(releasing.secrets, "randbits", lambda bits: SECRET)
    plain = randomness.hashlib.blake2b

    def blake2b(data: bytes, *, digest_size: int) -> Any:
        made = plain(data, digest_size=digest_size)
        number = int.from_bytes(made.digest(), "big")
        seen.update({number, number >> 1, (number >> 1) % 2**31})
        return made

    monkeypatch.setattr(randomness, "hashlib", types.SimpleNamespace(blake2b=blake2b))
    return seen


def test_no_file_holds_the_seed_or_one_derived_from_it(
    release: Release, tmp_path: Path, seeds: set[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a defense of numbers, of one whose layers remember their start, and of one that ships."""
    assert release("--defense", "sums", "--defense", "secretive", "--defense", "starts") == 0
    shipped = "dp_vaegm,samples=20,classifier_samples=20,steps=2,classifier_steps=2"
    assert release("--defense", shipped, data="breast_cancer,private=60,holdout=30,public=30") == 0
    written = files(tmp_path / "out")
    assert {Path(name).name for name in written} == {
        "card.md", "card.json", "synthetic.npz", "synthetic.csv", "model.npz", "decode.npz",
    }  # fmt: skip
    assert len(seeds) > 20
    assert holds(tmp_path, seeds) == []
    assert not (tmp_path / "results").exists(), "no fit is remembered"
    said = "".join(capsys.readouterr())
    assert not any(str(seed) in said for seed in seeds if seed > 2**31)


def test_where_nothing_can_be_written_nothing_is_trained(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(play, "release", lambda data, defense, seed: pytest.fail("trained"))
    (tmp_path / "out").write_text("a file")
    assert release("--defense", "sums") == 2
    assert "a file is in its place" in capsys.readouterr().err


def test_the_search_for_a_seed_finds_one(tmp_path: Path, seeds: set[int]) -> None:
    for i, spelling in enumerate({*spellings(SECRET), *spellings(2**62 + 12345)}):
        (tmp_path / str(i)).write_bytes(b"abc" + spelling + b"xyz")
    np.savez_compressed(tmp_path / "packed.npz", seed=np.array([2**62 + 12345]))
    np.savez_compressed(tmp_path / "innocent.npz", seed=np.array([2**62 + 12346]))
    found = holds(tmp_path, {SECRET, 2**62 + 12345})
    assert set(found) == set(files(tmp_path)) - {"innocent.npz"}


def test_a_defense_that_fails_does_not_tell_its_seed(
    release: Release, tmp_path: Path, seeds: set[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert release("--defense", "chatty") == 2
    err = capsys.readouterr().err
    assert "chatty failed while it trained (ValueError)" in err
    assert not any(str(seed) in err for seed in seeds)
    assert files(tmp_path / "out") == {}


# What is written


def test_the_card_says_what_is_promised_and_the_files_are_what_was_published(release: Release, tmp_path: Path) -> None:
    assert release("--defense", "sums,epsilon=4", data="made,private=40") == 0
    folder = tmp_path / "out" / "made,private=40" / "sums,epsilon=4"
    card, words = json.loads((folder / "card.json").read_text()), (folder / "card.md").read_text()
    assert card["sizes"] == {"private": 40, "holdout": 30, "public": 20}
    assert card["options"] == {"data": {"private": 40, "holdout": 30, "public": 20}, "defense": {"epsilon": 4.0}}
    assert card["claim"]["relation"] == "add/remove one record"
    assert 0 < card["claim"]["epsilon"] <= card["claim"]["epsilon_rdp"] * 1.01
    assert card["claim"]["delta"] == 1e-5
    assert card["claim"]["sampler"] == "Poisson, rate 1, 1 steps, noise multiplier 2"
    assert card["public_knowledge"] == ["features between 0 and 1", "the number of private records"]
    assert card["noise"] == UNSEEDED
    assert card["files"] == ["synthetic.csv", "synthetic.npz"]
    assert {"numpy", "dp-generative-bench"} <= card["versions"].keys()
    for said in (UNSEEDED, "by seed 0", "No attack was played", "found nothing", "private 40", "spends its epsilon"):
        assert said in words
    assert card["date"] in words
    assert SEEDED not in words
    with np.load(folder / "synthetic.npz", allow_pickle=False) as archive:
        x, y = archive["x"], archive["y"]
    rows = list(csv.reader((folder / "synthetic.csv").read_text().splitlines()))
    assert rows[0] == ["x0", "x1", "x2", "x3", "y"]
    np.testing.assert_array_equal(np.array([row[:-1] for row in rows[1:]], np.float32), x)
    np.testing.assert_array_equal([int(row[-1]) for row in rows[1:]], y)


def test_no_private_record_is_in_a_release(release: Release, tmp_path: Path) -> None:
    registry = releasing_registry(tmp_path)
    [data] = choose(registry, "data", "made")
    private = play.split(data, DataLocation(), 0)[0].private
    assert release("--defense", "sums") == 0
    with np.load(tmp_path / "out" / "made" / "sums" / "synthetic.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {"x", "y"}
    everything = b"".join(files(tmp_path / "out").values())
    assert not [row for row in private.x if row.tobytes() in everything]


def releasing_registry(folder: Path) -> Any:
    from bench.runner.registry import discover

    return discover([folder / "plugin.py"])


def test_the_number_of_private_records_is_said_only_where_it_is_public(release: Release, tmp_path: Path) -> None:
    assert release("--defense", "secretive", data="made,private=47,holdout=23,public=19") == 0
    folder = tmp_path / "out" / "made" / "secretive"
    card, words = json.loads((folder / "card.json").read_text()), (folder / "card.md").read_text()
    assert card["sizes"] is None
    assert not {"private", "holdout", "public"} & card["options"]["data"].keys()
    assert "private not stated" in words
    assert "47" not in words


def test_a_digest_of_records_of_ones_own_is_no_part_of_a_release(release: Release, tmp_path: Path) -> None:
    """Whoever knows all records but one could try what the last one is."""
    lines = [f"{i / 80:.4f},{(i * 7 % 80) / 80:.4f},0.5,{i % 3 / 2},{'ab'[i % 2]}" for i in range(80)]
    (tmp_path / "mine.csv").write_text("\n".join(["u,v,w,z,label", *lines, ""]))
    (tmp_path / "mine.bounds.yaml").write_text("".join(f"{name}: [0, 1]\n" for name in "uvwz") + "label: [a, b]\n")
    [own] = choose(components(), "data", str(tmp_path / "mine.csv"))
    assert release("--defense", "sums", data="mine.csv") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.csv"]
    digest = str(own.settings["content"])
    assert len(digest) == 12
    assert not [name for name, data in files(tmp_path / "out").items() if digest.encode() in data or digest in name]


@pytest.mark.parametrize("name", ["dp_augm", "dp_sgd", "dp_vaegm"])
def test_weights_are_those_of_the_release_and_rebuild_it_where_the_card_says_how(name: str) -> None:
    component = components().defenses[name]
    found = play.release(split("breast_cancer"), Choice(component, quick(component)), 1)
    made, networks = contents(found)
    for access, network in networks.items():
        published = getattr(found, access)
        model = getattr(published, "model", published)
        with np.load(io.BytesIO(made[f"{access}.npz"]), allow_pickle=False) as archive:
            weights = [archive[f"w{i}"] for i in range(len(archive.files))]
        for one, other in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        assert (network["keras"] is None) == (name == "dp_vaegm"), "slices and products are code to Keras"
        if network["keras"]:
            from tensorflow import keras

            again = keras.models.model_from_json(json.dumps(network["keras"]))
            again.set_weights(weights)
            x = split("breast_cancer").holdout.x
            np.testing.assert_array_equal(again(x).numpy(), model(x).numpy())


# What is refused


def refused(err: str, why: str) -> None:
    assert err.startswith("bench: ")
    assert err.count("\n") == 1
    assert why in err


REFUSED: dict[str, tuple[list[str], str]] = {
    "no defense": ([], "select one with --defense"),
    "claims nothing": (["--defense", "open"], "open claims no differential privacy"),
    "ships and claims nothing": (["--defense", "none"], "none claims no differential privacy"),
    "epsilon is inf": (["--defense", "sums,epsilon=inf"], "trains without privacy"),
    "a sweep to inf": (["--defense", "sums", "--epsilon", "1,inf"], "trains without privacy"),
    "spends inf": (["--defense", "naked"], "spent an infinite epsilon"),
    "no file": (["--defense", "answers"], "publishes predict, of which nothing can be written"),
    "attack": (["--defense", "sums", "--attack", "confidence"], "`release` does not take '--attack'"),
    "seeds": (["--defense", "sums", "--seeds", "0"], "`release` does not take '--seeds'"),
    "committed": (["--defense", "sums", "--reuse-committed"], "`release` does not take '--reuse-committed'"),
    "budget": (["--defense", "sums", "--budget", "1h"], "`release` does not take '--budget'"),
    "results": (["--defense", "sums", "--results", "out"], "`release` does not take '--results'"),
}


@pytest.mark.parametrize(("argv", "why"), REFUSED.values(), ids=REFUSED)
def test_what_must_not_be_released_is_one_sentence_and_nothing_is_written(
    release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], why: str
) -> None:
    assert release(*argv) == 2
    err = capsys.readouterr().err
    refused("".join(line for line in err.splitlines(keepends=True) if line.startswith("bench: ")), why)
    assert files(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("attack", "confidence"), ("seeds", "0"), ("reuse-committed", "true"), ("budget", "1h"), ("results", "out")],
)
def test_settings_of_a_configuration_are_refused_alike(
    release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    where = "parts: [{defense: sums}, {defense: sums, %s}]" if name in ("attack", "seeds") else "defense: sums\n%s"
    (tmp_path / "board.yaml").write_text(where % f"{name}: {value}")
    assert release("--config", "board.yaml") == 2
    refused(capsys.readouterr().err, f"`bench release` does not take the setting '{name}'")
    assert files(tmp_path / "out") == {}


def test_nothing_is_overwritten(release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release("--defense", "sums") == 0
    before = files(tmp_path / "out")
    capsys.readouterr()
    assert release("--defense", "sums") == 2
    assert "exists already and nothing is overwritten" in capsys.readouterr().err
    assert release("--defense", "secretive", "--defense", "sums") == 2, "before anything is trained"
    assert files(tmp_path / "out") == before


def test_nothing_is_overwritten_that_came_meanwhile(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = play.release

    def slow(*asked: Any) -> Any:
        other = tmp_path / "out" / "made" / "sums"
        other.mkdir(parents=True)
        (other / "card.md").write_text("somebody else's")
        return plain(*asked)

    monkeypatch.setattr(play, "release", slow)
    assert release("--defense", "sums") == 2
    assert files(tmp_path / "out") == {"made/sums/card.md": b"somebody else's"}


def test_what_the_linter_finds_is_said_and_that_release_is_not_made(
    release: Release, tmp_path: Path, findings: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = types.SimpleNamespace(probe="sensitivity", what="one record moves the sum by 2.00, and 1.00 is accounted.")
    findings.append(found)
    assert release("--defense", "sums") == releasing.REFUSED == 3
    assert "sums is not released (sensitivity): one record moves the sum by 2.00" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", range(4))
def test_a_release_that_is_killed_half_way_leaves_no_card(tmp_path: Path, plugin: Path, file: int) -> None:
    code = f"""
import os, signal, sys, types
lint = types.ModuleType("bench.lint.linter")
lint.lint = lambda *_: ()
sys.modules["bench.lint.linter"] = lint
from bench.runner import release as releasing
from bench.cli.main import main
from bench.core.files import write
left = {file}
def killed(path, data):
    global left
    if not left:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.parent / f"{{path.name}}.part", "wb") as half:
            half.write(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(path, data)
releasing.write = killed
main(["release", "--plugin", {str(plugin)!r}, "--data", "made", "--into", "out", "--defense", "sums"])
"""
    ours = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ours, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out" / "made" / "sums").exists()
    assert not list((tmp_path / "out").rglob("card.md"))
    assert all("made/" in name and ".tmp/" in name for name in files(tmp_path / "out"))


def test_a_release_that_fails_leaves_nothing(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    plain = releasing.write

    def full(path: Path, data: bytes) -> None:
        written.append(path.name)
        if path.name == "card.md":
            raise OSError(28, "No space left on device")
        plain(path, data)

    monkeypatch.setattr(releasing, "write", full)
    assert release("--defense", "sums") == 2
    assert written[-2:] == ["card.json", "card.md"], "the card comes last"
    assert files(tmp_path / "out") == {}


def test_a_release_reads_no_stored_weights(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.dp import train

    def refuse(*_: Any) -> None:
        raise AssertionError("a store was asked")

    for owner, methods in ((Store, ("save", "save_asked")), (WeightsCache, ("load", "save"))):
        for method in methods:
            monkeypatch.setattr(owner, method, refuse)
    with train.caching(WeightsCache(tmp_path / "results")):
        assert release("--defense", "dp_augm,steps=2,classifier_steps=2", data="breast_cancer") == 0
        assert release("--defense", "public_only", data="breast_cancer") == 0, "what reads nothing private claims 0"
    card = json.loads((tmp_path / "out" / "breast_cancer" / "public_only" / "card.json").read_text())
    assert (card["claim"]["epsilon"], card["claim"]["sampler"]) == (0.0, "no access")
