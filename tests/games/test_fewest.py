"""The least number of records that a game states is the least of which a challenge can be drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import components

from bench.cli.main import main
from bench.core.dataset import Attribute, Examples, Split
from bench.core.errors import UserError
from bench.games import GAMES
from bench.runner import play

STATED = [(name, of, part) for name, game in GAMES.items() for of, parts in game.fewest.items() for part in parts]
PARTS = ("private", "holdout", "public")


def split(sizes: dict[str, int]) -> Split:
    """Pictures of two classes and one binary attribute, as even as can be."""

    def part(n: int) -> Examples:
        x = np.zeros((n, 1), np.float32)
        x[::2] = 1
        return Examples(x, np.arange(n) % 2, 2)

    attribute = Attribute("flag", 0, 1)
    return Split("made", *(part(sizes[name]) for name in PARTS), attributes=(attribute,))


def drawn(game: str, of: str, sizes: dict[str, int]) -> Iterator[bool]:
    """Whether a challenge is drawn, by seed: which classes `of=unseen` leaves out is chance."""
    for seed in range(10):
        try:
            GAMES[game].challenge(split(sizes), np.random.default_rng(seed), of)
        except UserError:
            yield False
        else:
            yield True


@pytest.mark.parametrize(("game", "of", "part"), STATED)
def test_with_one_record_less_no_challenge_can_be_drawn(game: str, of: str, part: str) -> None:
    one = GAMES[game]
    sizes = {name: one.fewest[of].get(name, 1) for name in PARTS}
    assert one.lacks(sizes, of) == ""
    assert any(drawn(game, of, sizes))
    less = sizes | {part: sizes[part] - 1}
    assert one.lacks(less, of) == f"{sizes[part]} {part} records, not {less[part]}"
    assert not any(drawn(game, of, less))


def test_a_size_that_is_not_known_lacks_nothing() -> None:
    assert GAMES["membership"].lacks({"public": 3}) == ""
    assert GAMES["membership"].lacks({}, "public") == ""


@pytest.mark.parametrize("command", ["run", "plan"])
def test_too_few_records_are_refused_before_anything_is_loaded_or_linted(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setattr(play, "split", lambda *given: pytest.fail("loaded"))
    monkeypatch.setattr("bench.lint.verdicts.measure", lambda *given: pytest.fail("linted"))
    words = [command, "--defense", "dp_sgd,batch_size=7", "--attack", "confidence", "--seeds", "0"]
    assert main([*words, "--data", "digits,private=3", "--results", str(results)]) == 2
    said = "membership on digits,private=3 needs at least 4 private records, not 3: ask for more.\n"
    assert capsys.readouterr().err == f"bench: {said}"
    assert not results.exists()


def test_where_other_cells_can_be_measured_it_is_a_note(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--defense", "dp_sgd", "--attack", "confidence", "--seeds", "0", "--results", str(results)]
    assert main([*words, "--data", "digits,private=3", "--data", "digits"]) == 0
    err = capsys.readouterr().err
    assert err == (
        "bench: note: membership on digits,private=3 needs at least 4 private records, not 3: these cells will fail.\n"
    )
    assert "dp_sgd" in components().defenses
