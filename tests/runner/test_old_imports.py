"""The error of a component with old imports names the new ones."""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path

import pytest

import bench
from bench.core.errors import UserError
from bench.runner.old_imports import MOVED
from bench.runner.registry import Registry, add


def load(folder: Path, source: str) -> str:
    """The error message of a plugin with this source."""
    path = folder / "mine.py"
    path.write_text(textwrap.dedent(source))
    with pytest.raises(UserError) as found:
        add(Registry({}, {}, {}, []), path)
    return str(found.value)


def test_a_defense_of_the_old_layout_gets_one_sentence(tmp_path: Path) -> None:
    """An example of an earlier CONTRIBUTING.md."""
    sentence = load(
        tmp_path,
        """
        import numpy as np

        from bench import mechanism
        from bench.accounting import training_event
        from bench.data import Examples
        from bench.registry import defense
        from bench.release import Release
        """,
    )
    assert "\n" not in sentence
    assert "`from bench import Examples, Release, defense`" in sentence
    assert "`from bench.dp import gaussian_mechanism as mechanism`" in sentence
    assert "`from bench.dp.accounting import training_event`" in sentence
    assert "in line 4" in sentence


@pytest.mark.parametrize(
    ("source", "instead"),
    [
        ("from bench.training import Recipe, train", "`from bench import Recipe, train`"),
        ("from bench.data import Examples as E", "`from bench import Examples as E`"),
        ("from bench.errors import Doubt", "`from bench import Caveat as Doubt`"),
        ("from bench.nets import VAE", "`from bench.dp.networks import VAE`"),
        ("from bench import nets, Examples", "`from bench.dp import networks as nets`"),
        ("import bench.training as t", "`from bench.dp import train as t`"),
        ("import bench.registry", "`from bench.core import component as registry`"),
        ("from bench.sources import scaled", "`from bench.core.dataset import scaled`"),
        ("try:\n    import bench.shadows\nexcept ValueError:\n    pass", "shadow_models as shadows"),
    ],
)
def test_each_kind_of_import_is_replaced(tmp_path: Path, source: str, instead: str) -> None:
    assert instead in load(tmp_path, source)


def test_suggested_imports_work() -> None:
    for old, new in MOVED.items():
        assert importlib.util.find_spec(f"bench.{new}"), old
    for name in bench.__all__:
        assert getattr(bench, name) is not None


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import bench.no_such_module", "ModuleNotFoundError: No module named 'bench.no_such_module'"),
        ("from bench.core.dataset import NoSuchName", "cannot import name 'NoSuchName'"),
        ("raise TypeError('got an unexpected keyword argument')", "TypeError: got an unexpected keyword argument"),
    ],
)
def test_other_errors_keep_their_messages(tmp_path: Path, source: str, text: str) -> None:
    sentence = load(tmp_path, source)
    assert text in sentence
    assert "moved" not in sentence


def test_a_renamed_argument_is_named(tmp_path: Path) -> None:
    source = "from bench import defense\n@defense('d', publishes={'predict'}, assumes={'n'})\ndef d(): ...\n"
    assert "the argument assumes is now called public_knowledge" in load(tmp_path, source)
