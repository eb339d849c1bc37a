"""`bench run` and `bench plan`: exit codes and last messages, and what is refused before the first training."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_fakes import Fakes, is_one_sentence

from bench.cli.main import main
from bench.core.errors import UserError


def test_a_failed_cell_is_named_and_exit_1(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.failed = {("digits", "shield", "spear", 2): "ValueError: of\n no use"}
    assert main(["run", "--plugin", "mine.py"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert "bench: failed: digits/shield/spear/2: ValueError: of no use" in err
    assert "bench: note: only 3 non-members." in err
    assert fakes.calls == ["publish"]


def test_a_budget_that_ran_out_is_no_failure(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.left = [("digits", "shield", "spear", seed) for seed in range(4)]
    assert main(["run", "--plugin", "mine.py", "--budget", "20m"]) == 0
    assert fakes.requests[-1].budget == 1200
    left = "left 4 to measure (digits/shield/spear/0, digits/shield/spear/1, digits/shield/spear/2, ...)"
    assert f"bench: note: the budget {left}" in capsys.readouterr().err
    Path("board.yaml").write_text("plugin: mine.py\nbudget: 90s\n")
    assert main(["run", "--config", "board.yaml"]) == 0
    assert fakes.requests[-1].budget == 90
    assert fakes.calls == ["publish"] * 2


@pytest.mark.parametrize(("error", "code"), [(UserError("The disk is full."), 2), (KeyboardInterrupt(), 130)])
def test_an_error_that_stops_a_run_is_one_line(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    fakes.raises = error
    assert main(["run", "--plugin", "mine.py"]) == code
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("bench: ")
    assert "Traceback" not in err
    assert fakes.calls == []


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_run_without_a_playable_cell_is_a_user_error(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    words = ["--plugin", "mine.py", "--defense", "shield", "--attack", "nearest_sample"]
    assert main([command, *words]) == 2
    out, err = capsys.readouterr()
    is_one_sentence(err)
    assert "which lack generate: select others" in err
    assert (out, fakes.requests, fakes.calls) == ("", [], [])
    assert main([command, *words, "--attack", "spear"]) == 0
    assert "which lack" not in capsys.readouterr().err


def test_records_that_are_not_there_are_missed_before_anything_is_linted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.lint.verdicts.measure", lambda choice, registry: pytest.fail("linted"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    results = ["--results", str(tmp_path / "results")]
    assert main(["run", "--defense", "dp_sgd,batch_size=7", "--data", "mnist", "--offline", *results]) == 2
    err = capsys.readouterr().err
    is_one_sentence(err)
    assert "mnist is not on this machine" in err
    assert not (tmp_path / "results" / "mnist").exists()
