"""Flags and configurations become a request; an error in a configuration is one sentence and exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_fakes import Fakes, is_one_sentence, words

from bench.cli.main import main
from bench.runner.registry import discover
from bench.runner.request import Grid

YAMLS = {
    "": "is empty",
    "# seeds: 0": "is empty",
    "{}": "is empty",
    "accept-published: true": "it is now called 'reuse-committed'",
    "a: [1\nb: 2": "line 2",
    "seeds: 0-4\n\tepsilon: 1": "line 2",
    "defence: shield": "did you mean 'defense'",
    "3: x": "unknown word 3",
    "seeds: 0\ndefense: shield\ndefense: none": "line 3: 'defense' stands there again",
    "parts:\n- seeds: 0\n  seeds: 1": "line 3: 'seeds' stands there again",
    "- run": "word: value",
    "just words": "word: value",
    "defense: {shield: 1}": "a list of them",
    "defense: [shield, [spear]]": "a list of them",
    "defense: []": "a list of them",
    "seeds: true": "a list of them",
    "seeds: 2020-01-01": "a list of them",
    "offline: maybe": "true or false",
    "reference: none": "true or false",
    "seeds: many": "no seed",
    "parts: []": "a list of parts",
    "parts: digits": "a list of parts",
    "parts: [digits]": "a list of parts",
    "parts: [{results: out}]": "unknown word 'results'",
    "parts: [{parts: []}]": "unknown word 'parts'",
    "x: !!python/object/apply:os.system [ls]": "line 1",
    "x: \x00": "not valid YAML",
    "a: 2020-99-99": "not valid YAML",
}


@pytest.mark.parametrize(("content", "why"), YAMLS.items())
def test_a_mistake_in_a_configuration_is_one_sentence_and_exit_2(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], content: str, why: str
) -> None:
    Path("board.yaml").write_text(content)
    assert main(words(["run", "--config", "board.yaml"])) == 2
    err = capsys.readouterr().err
    is_one_sentence(err)
    assert "board.yaml" in err or "seed" in err
    assert why in err
    assert fakes.requests == []


def test_a_configuration_that_is_not_text(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("board.yaml").write_bytes(b"seeds: \xff")
    assert main(["run", "--config", "board.yaml"]) == 2
    is_one_sentence(capsys.readouterr().err)


def requested(fakes: Fakes, argv: list[str]) -> dict[str, Any]:
    assert main(argv) == 0
    request = fakes.requests[-1]
    grid, *references = request.grids
    rest = {"references": list(map(spelled, references))}
    rest |= {name: getattr(request, name) for name in ("results", "where", "reuse_committed")}
    return spelled(grid) | rest


def spelled(grid: Grid) -> dict[str, Any]:
    labels = {kind: [c.label for c in getattr(grid, kind)] for kind in ("defenses", "attacks", "data")}
    return {**labels, "seeds": grid.seeds}


def test_flags_become_a_request(fakes: Fakes) -> None:
    Path("files").mkdir()
    argv = "run --plugin mine.py --defense shield,hidden=8 --defense shield,epsilon=3 --attack membership,learner=gb"
    argv += " --data digits,private=600 --seeds 0,3 --epsilon 1,inf --results out --data-dir files --offline"
    found = requested(fakes, [*argv.split(), "--reuse-committed"])
    assert found["defenses"] == ["shield,epsilon=1,hidden=8", "shield,epsilon=inf,hidden=8", "shield,epsilon=3"]
    assert "spear,learner=gb" in found["attacks"]
    assert found["data"] == ["digits,private=600"]
    assert found["seeds"] == (0, 3)
    assert found["results"] == Path("out")
    assert found["reuse_committed"]
    assert found["where"].data_dir == Path("files")
    assert found["where"].offline
    assert fakes.calls == ["publish"]
    [reference] = found["references"]
    assert reference["defenses"] == ["none"]
    assert [reference[kind] for kind in ("data", "seeds")] == [found[kind] for kind in ("data", "seeds")]
    assert "spear,learner=gb" in reference["attacks"]


@pytest.mark.parametrize("command", ["run", "plan"])
def test_the_reference_is_left_out_by_flag_and_by_configuration(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def measured(*more: str) -> set[str]:
        assert main([command, *more]) == 0
        if command == "run":
            return {choice.label for grid in fakes.requests[-1].grids for choice in grid.defenses}
        return {line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("digits")}

    words = ["--plugin", "mine.py", "--defense", "shield", "--attack", "spear"]
    Path("board.yaml").write_text("plugin: mine.py\ndefense: shield\nattack: spear\nreference: false\n")
    assert measured(*words) == {"shield", "none"}
    assert measured(*words, "--no-reference") == {"shield"}
    assert measured("--config", "board.yaml") == {"shield"}
    assert measured("--config", "board.yaml", "--reference") == {"shield", "none"}


def test_the_default_selection_is_every_component_on_digits(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = discover([Path("mine.py")])
    found = requested(fakes, ["run", "--plugin", "mine.py"])
    assert found["defenses"] == list(registry.defenses)
    assert found["attacks"] == list(registry.attacks)
    assert (found["data"], found["seeds"], found["results"]) == (["digits"], (0, 1, 2), Path("results"))
    assert not found["reuse_committed"]
    assert found["where"].data_dir is None
    assert not found["where"].offline
    Path("files").mkdir()
    monkeypatch.setenv("BENCH_DATA_DIR", "files")
    assert requested(fakes, ["run", "--plugin", "mine.py"])["where"].data_dir == Path("files")


def test_a_configuration_equals_the_same_flags_and_flags_take_precedence(fakes: Fakes) -> None:
    Path("files").mkdir()
    Path("board.yaml").write_text(
        "plugin: mine.py\ndefense: ['shield,hidden=8', shield]\nattack: membership\nseeds: 0-1\n"
        "epsilon: [1, 8.0, .inf]\ndata: [digits, breast_cancer]\nresults: out\n"
        "data-dir: files\noffline: true\nreuse-committed: true\n"
    )
    flags = "run --plugin mine.py --defense shield,hidden=8 --defense shield --attack membership --seeds 0-1"
    flags += " --epsilon 1,8,inf --data digits --data breast_cancer --results out --data-dir files --offline"
    config = ["run", "--config", "board.yaml"]
    plugged = [*config, "--plugin", "mine.py"]
    assert requested(fakes, config) == requested(fakes, [*flags.split(), "--reuse-committed"])
    found = requested(fakes, [*config, "--seeds", "7", "--defense", "shield", "--epsilon", "2", "--no-offline"])
    assert found["seeds"] == (7,)
    assert found["defenses"] == ["shield,epsilon=2"]
    assert not found["where"].offline
    assert found["data"] == ["digits", "breast_cancer"]
    Path("board.yaml").write_text("seeds: 4")
    assert requested(fakes, plugged)["seeds"] == (4,)
    Path("board.yaml").write_text("seeds: [4, 0-1]")
    assert requested(fakes, plugged)["seeds"] == (4, 0, 1)


def test_each_part_of_a_configuration_is_a_grid(fakes: Fakes) -> None:
    Path("board.yaml").write_text(
        "plugin: mine.py\nattack: spear\nseeds: 0-1\nreuse-committed: true\nparts:\n"
        "  - {defense: shield, data: digits, epsilon: [1, 8]}\n"
        "  - {defense: shield, data: 'digits,private=600', seeds: 3}\n"
    )
    assert main(["run", "--config", "board.yaml"]) == 0
    request = fakes.requests[-1]
    assert request.reuse_committed
    first, second, *references = map(spelled, request.grids)
    assert first == {
        "defenses": ["shield,epsilon=1", "shield"],  # 8 is the default
        "attacks": ["spear"],
        "data": ["digits"],
        "seeds": (0, 1),
    }
    assert second == {
        "defenses": ["shield"],
        "attacks": ["spear"],
        "data": ["digits,private=600"],
        "seeds": (3,),
    }
    assert references == [first | {"defenses": ["none"]}, second | {"defenses": ["none"]}]
    assert main(["run", "--config", "board.yaml", "--seeds", "7", "--no-reference"]) == 0
    assert [grid.seeds for grid in fakes.requests[-1].grids] == [(7,), (7,)]
