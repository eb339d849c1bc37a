"""`bench score` computes every bound from a file of scores, adds a leaderboard row, and refuses malformed files."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.audit import score_audit
from bench.audit.bounds import one_run, rank
from bench.audit.score_file import load
from bench.cli.main import main
from bench.core.errors import Caveat
from bench.core.randomness import stream
from bench.report.aggregate import build
from bench.store.read_write import sealed
from bench.store.records import ScoreRow
from bench.store.store import Store
from tests.cells import cell

N = 400


def arrays(**more: Any) -> dict[str, Any]:
    """Scores of members and non-members; half of the members score above every non-member."""
    rng = np.random.default_rng(0)
    return {"in": rng.random(N) + rng.integers(0, 2, N), "out": rng.random(N)} | more


def saved(path: Path, **found: Any) -> str:
    np.savez(path, **found)
    return str(path)


def score(tmp_path: Path, *flags: str, **found: Any) -> int:
    return main(["score", saved(tmp_path / "mine.npz", **found), "--results", str(tmp_path / "results"), *flags])


def test_every_figure_is_printed_and_a_refuted_claim_is_exit_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(tmp_path, **arrays()) == 0  # nothing claimed
    out = capsys.readouterr().out
    found = score_audit.audit(load(tmp_path / "mine.npz"))
    for name in ("beta_binomial", "clopper_pearson", "gaussian_dp"):
        assert 0 < found.bounds[name]["value"] < found.bounds[name]["most"]
        assert f"{found.bounds[name]['value'] - 0.005:.2f}" in out
        assert f"{found.bounds[name]['most'] - 0.005:.2f}" in out
    assert f"AUC {found.auc['value']:.3f}" in out
    assert "TPR at 1 % FPR not measurable: 400 non-members" in out
    assert "mine on unnamed, attack unnamed: claims epsilon inf at delta 1e-05" in out

    assert found.headline == "beta_binomial"
    assert 3.0 < found.lower < 4.0
    assert score(tmp_path, **arrays(epsilon=found.lower + 1e-3)) == 0
    assert "VIOLATION" not in capsys.readouterr().out
    assert score(tmp_path, **arrays(epsilon=found.lower - 1e-3)) == 3
    assert "VIOLATION: above the claimed" in capsys.readouterr().out
    assert score(tmp_path, "--confidence", "0.999", **arrays(epsilon=found.lower - 1e-3)) == 0


def test_the_file_defines_the_statistics_of_its_scores(tmp_path: Path) -> None:
    def found(**fields: Any) -> ScoreRow:
        return score_audit.audit(load(Path(saved(tmp_path / "x.npz", **fields))))

    both = arrays()
    scores, member = np.concatenate([both["in"], both["out"]]), np.repeat([1, 0], N)
    trials, same = found(**both), found(scores=scores[::-1], member=member[::-1])
    assert trials.bounds == same.bounds
    assert trials.auc == same.auc
    gaussian = found(**both, mechanism="gaussian")
    assert gaussian.headline == "gaussian_dp"
    assert gaussian.bounds == trials.bounds
    assert found(**both, mechanism="gaussian", delta=0).headline == "beta_binomial"
    coins = found(scores=scores, included=member == 1, delta=1e-6)
    assert coins.headline == "one_run"
    assert all("not_measurable" in coins.bounds[name] for name in trials.bounds if name != "one_run")
    assert coins.lower == one_run.bound(scores, member == 1, 1e-6, 1 - 0.95, stream(0, "audit", "ties"))
    rules = rank.rules(np.sort(both["in"]), np.sort(both["out"]))
    assert trials.lower == rank.epsilon(rules, 1e-5, 1 - 0.95)
    assert "not_measurable" in trials.bounds["one_run"]


def test_a_submitted_row_is_on_the_leaderboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"defense": "mine|torch", "data": "cifar10", "attack": "lira", "epsilon": 0.5, "utility": 0.7}
    assert score(tmp_path, **arrays(**words)) == 3
    store = Store(tmp_path / "results")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.results() == []  # a row is no cell
    capsys.readouterr()
    assert main(["table", "--results", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert "mine|torch on cifar10, lira: claims 0.50, audited VIOLATION" in out
    assert "Nothing is stored" not in out
    store.save(cell())
    assert main(["table", "--results", str(store.root)]) == 0
    leaderboard = (store.root / "leaderboard.md").read_text()
    [line] = [line for line in leaderboard.splitlines() if "mine\\|torch" in line]
    head = next(line for line in leaderboard.splitlines() if line.startswith("| defense | data"))
    assert line.replace("\\|", "").count("|") == head.count("|")
    assert "| 0.700 | 0.50 | 1e-05 | **VIOLATION** 3." in line
    assert (
        leaderboard.index("## digits: membership")
        < leaderboard.index("## Submitted scores")
        < leaderboard.index("## Notes")
    )

    [path] = (store.root / "scores").rglob("*.json")
    values = json.loads(path.read_bytes())
    path.write_bytes(sealed(values | {"code": "of another day"}))
    assert main(["table", "--results", str(store.root)]) == 0
    [line] = [line for line in (store.root / "leaderboard.md").read_text().splitlines() if "mine\\|torch" in line]
    assert "stale: score it again" in line
    assert "VIOLATION" not in line


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.pop("auc"),
        lambda row: row.update(defense="another"),
        lambda row: row.update(utility="much"),
        lambda row: row.update(headline="no_such"),
        lambda row: row["auc"].update(value=float("nan")),
        lambda row: row["bounds"]["beta_binomial"].update(value="3"),
    ],
)  # fmt: skip
def test_a_row_edited_by_hand_is_left_out_aloud(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    score(tmp_path, **arrays())
    store = Store(tmp_path / "results")
    assert len(build(store, None).score_rows) == 1
    [path] = (store.root / "scores").rglob("*.json")
    row = json.loads(path.read_bytes())
    change(row)
    try:
        path.write_bytes(sealed(row))
    except ValueError:  # JSON cannot represent it
        path.write_text(json.dumps(row))
    with pytest.warns(Caveat, match="is left out .*bench score"):
        assert build(store, None).score_rows == ()


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "but of these it has none"),
    "half": ({"in": np.ones(3)}, "but of these it has in"),
    "too much": (arrays(scores=np.ones(3)), "but of these it has in, out, scores"),
    "both truths": ({"scores": np.ones(4), "member": np.ones(4), "included": np.ones(4)}, "must hold"),
    "unknown": (arrays(epsylon=1.0), "did you mean 'epsilon'?"),
    "pickled": (arrays(out=np.array([1.0, None], object)), "never unpickled"),
    "pickled word": (arrays(defense=np.array({"a": 1}, object)), "never unpickled"),
    "nan": (arrays(out=np.array([0.0, np.nan])), "1 of 2 entries of `out` are not finite"),
    "infinite": (arrays(out=np.array([0.0, np.inf])), "not finite"),
    "empty": (arrays(out=np.zeros(0)), "400 held-in and 0 held-out"),
    "one": (arrays(out=np.zeros(1)), "needs 2 of each"),
    "all members": ({"scores": np.arange(3.0), "member": np.ones(3, bool)}, "3 held-in and 0 held-out"),
    "square": (arrays(out=np.zeros((5, 2))), "must be real numbers (n,)"),
    "words": (arrays(out=np.array(["a", "b"])), "must be real numbers (n,)"),
    "complex": (arrays(out=np.zeros(4, complex)), "must be real numbers (n,)"),
    "lengths": ({"scores": np.zeros(5), "member": np.array([0, 1, 0, 1])}, "5 scores but 4 entries of `member`"),
    "no truth": ({"scores": np.zeros(3), "included": np.array([-1, 1, 1])}, "`included` must be true or false"),
    "half a truth": ({"scores": np.zeros(3), "member": np.array([0.5, 1, 0])}, "`member` must be true or false"),
    "claims": (arrays(epsilon=-1.0), "`epsilon` is -1.0, but must be 0 or more"),
    "claims nothing": (arrays(epsilon=np.nan), "`epsilon` is nan"),
    "delta": (arrays(delta=1.0), "`delta` is 1.0, but must be from 0 to below 1"),
    "utility": (arrays(utility=70), "`utility` is 70.0"),
    "two claims": (arrays(epsilon=np.array([1.0, 2.0])), "must be one number"),
    "a word for a number": (arrays(epsilon="8"), "must be one number"),
    "a number for a word": (arrays(defense=3), "`defense` must be a word"),
    "no word": (arrays(data=" "), "`data` must be a word"),
    "long": (arrays(data="x" * 101), "at most 100 letters"),
    "mechanism": (arrays(mechanism="laplace"), "'gaussian' or be left out"),
}


@pytest.mark.parametrize(("found", "why"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_file_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], found: dict[str, Any], why: str
) -> None:
    assert score(tmp_path, **found) == 2
    refused(capsys, why)
    assert not (tmp_path / "results").exists()


def refused(capsys: pytest.CaptureFixture[str], why: str) -> None:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bench: ")
    assert err.count("\n") == 1
    assert why in err


def bomb() -> bytes:
    """An archive whose header states an array of four gigabytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("in.npy", b"\x93NUMPY")
        file.filelist[0].file_size = 4 << 30
    return buffer.getvalue()


def test_a_file_that_is_no_npz_is_refused_and_not_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pickled.npz").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    (tmp_path / "cut.npz").write_bytes(Path(saved(tmp_path / "whole.npz", **arrays())).read_bytes()[:900])
    (tmp_path / "empty.npz").touch()
    np.save(tmp_path / "one.npy", np.zeros(4))
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "bomb.npz").write_bytes(bomb())
    for name, why in (
        ("pickled.npz", "no archive of arrays"), ("cut.npz", "no archive of arrays"),
        ("empty.npz", "no archive of arrays"), ("one.npy", "no archive of arrays"), ("pipe.npz", "there is no file"),
        ("bomb.npz", "above the limit"), ("missing.npz", "there is no file"), (".", "there is no file"),
    ):  # fmt: skip
        assert main(["score", str(tmp_path / name), "--results", str(tmp_path / "results")]) == 2
        refused(capsys, why)
    damaged = bytearray((tmp_path / "whole.npz").read_bytes())
    damaged[200:260] = bytes(60)
    (tmp_path / "damaged.npz").write_bytes(damaged)
    assert main(["score", str(tmp_path / "damaged.npz"), "--results", str(tmp_path / "results")]) == 2
    refused(capsys, "'in' cannot be read")


@pytest.mark.parametrize("confidence", ["0.2", "1", "nan"])
def test_a_confidence_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], confidence: str
) -> None:
    assert score(tmp_path, "--confidence", confidence, **arrays()) == 2
    refused(capsys, "a confidence lies between")


def test_scoring_imports_no_framework(tmp_path: Path) -> None:
    path = saved(tmp_path / "mine.npz", **arrays())
    code = f"""
import sys
from bench.cli.main import main
assert main(["score", {path!r}, "--results", {str(tmp_path)!r}]) == 0
heavy = {{"tensorflow", "tensorflow_privacy", "keras", "art", "sklearn", "pandas", "matplotlib", "dp_accounting"}}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
