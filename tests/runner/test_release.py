"""A release: its card and its files state and contain exactly what was published."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import components, quick, split
from releases import PLUGIN, Release, files  # noqa: F401 - the fixture `plugin` writes PLUGIN

from bench.core.component import Choice
from bench.core.dataset import DataLocation
from bench.core.notices import SEEDED, UNSEEDED
from bench.dp.weights_cache import WeightsCache
from bench.runner import play
from bench.runner.release_card import contents
from bench.runner.selection import choose
from bench.store.store import Store


def test_the_card_states_the_claim_and_the_files_are_the_release(release: Release, tmp_path: Path) -> None:
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
    for sentence in (
        UNSEEDED,
        "by seed 0",
        "No attack was played",
        "found nothing",
        "private 40",
        "spends its epsilon",
    ):
        assert sentence in words
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


def test_the_number_of_private_records_is_stated_only_where_it_is_public(release: Release, tmp_path: Path) -> None:
    assert release("--defense", "secretive", data="made,private=47,holdout=23,public=19") == 0
    folder = tmp_path / "out" / "made" / "secretive"
    card, words = json.loads((folder / "card.json").read_text()), (folder / "card.md").read_text()
    assert card["sizes"] is None
    assert not {"private", "holdout", "public"} & card["options"]["data"].keys()
    assert "private not stated" in words
    assert "47" not in words


def test_a_release_does_not_contain_the_digest_of_the_users_records(release: Release, tmp_path: Path) -> None:
    """An adversary who knows all records except one could test candidates for the last."""
    lines = [f"{i / 80:.4f},{(i * 7 % 80) / 80:.4f},0.5,{i % 3 / 2},{'ab'[i % 2]}" for i in range(80)]
    (tmp_path / "mine.csv").write_text("\n".join(["u,v,w,z,label", *lines, ""]))
    (tmp_path / "mine.bounds.yaml").write_text("".join(f"{name}: [0, 1]\n" for name in "uvwz") + "label: [a, b]\n")
    [mine] = choose(components(), "data", str(tmp_path / "mine.csv"))
    assert release("--defense", "sums", data="mine.csv") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.csv"]
    digest = str(mine.settings["content"])
    assert len(digest) == 12
    assert not [name for name, data in files(tmp_path / "out").items() if digest.encode() in data or digest in name]


@pytest.mark.parametrize("name", ["dp_augm", "dp_sgd", "dp_vaegm"])
def test_released_weights_rebuild_the_model_described_in_the_card(name: str) -> None:
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


def test_a_release_reads_no_stored_weights(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.dp import train

    def refuse(*_: Any) -> None:
        raise AssertionError("a store was asked")

    for owner, methods in ((Store, ("save", "save_asked")), (WeightsCache, ("load", "save"))):
        for method in methods:
            monkeypatch.setattr(owner, method, refuse)
    with train.caching(WeightsCache(tmp_path / "results")):
        assert release("--defense", "dp_augm,steps=2,classifier_steps=2", data="breast_cancer") == 0
        assert release("--defense", "public_only", data="breast_cancer") == 0, (
            "a defense that reads no private record claims 0"
        )
    card = json.loads((tmp_path / "out" / "breast_cancer" / "public_only" / "card.json").read_text())
    assert (card["claim"]["epsilon"], card["claim"]["sampler"]) == (0.0, "no access")
