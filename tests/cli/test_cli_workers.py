"""Which processes measure: flags and configurations of all commands that measure, and what these import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_fakes import Fakes, is_one_sentence, words

from bench.cli.main import main
from bench.core.component import Choice
from bench.runner.request import Workers
from bench.store.store import Store

MEASURING = {
    "run": ["run"],
    "plan": ["plan"],
    "figure": ["figure", "generators"],
    "controls": ["controls"],
    "audit": ["audit"],
    "reproduce": ["reproduce"],
}
MISTAKES = {
    "--workers 0": "from 1, not 0",
    "--workers -1": "from 1, not '-1'",
    "--workers two": "from 1, not 'two'",
    "--workers 2 --scheduler tcp://a:1": "--scheduler or --workers",
    "--cluster slurm --scheduler tcp://a:1": "--scheduler or --cluster",
    "--scheduler localhost": "as in tcp://HOST:8786",
    "--cluster slrum": "did you mean 'slurm'?",
    "--cluster-option queue=gpu": "needs --cluster",
    "--cluster slurm --cluster-option queue": "NAME=VALUE, as in queue=gpu, not 'queue'",
    "--cluster slurm --cluster-option que=gpu": "did you mean 'queue'?",
    "--cluster slurm --cluster-option memory=much --dry-run": "refuses these cluster options",
    "--dry-run": "say with --cluster of which kind",
}


@pytest.mark.parametrize(
    ("command", "flags", "why"),
    [("run", *one) for one in MISTAKES.items()] + [(command, *next(iter(MISTAKES.items()))) for command in MEASURING],
)
def test_a_mistake_is_one_sentence_and_exit_2_before_anything_starts(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], command: str, flags: str, why: str
) -> None:
    Path("results").mkdir()
    assert main([*MEASURING[command], *flags.split()]) == 2
    out, err = capsys.readouterr()
    is_one_sentence(err)
    assert why in err
    assert out == ""
    assert fakes.requests == []


@pytest.mark.parametrize("command", MEASURING)
def test_the_script_of_a_job_is_printed_and_nothing_else_happens(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    Path("results").mkdir()
    options = "--cluster slurm --cluster-option queue=gpu --cluster-option job_extra_directives=--gres=gpu:1 --dry-run"
    assert main([*MEASURING[command], *options.split()]) == 0
    out, err = capsys.readouterr()
    assert "#SBATCH -p gpu\n" in out
    assert "#SBATCH --gres=gpu:1\n" in out
    assert (err, fakes.requests, fakes.calls) == ("", [], [])


def asked(fakes: Fakes, argv: list[str]) -> Workers:
    assert main(words(argv)) == 0
    return fakes.requests[-1].workers


def test_flags_become_workers(fakes: Fakes) -> None:
    assert asked(fakes, ["run"]) == Workers()
    assert asked(fakes, ["run", "--workers", "8"]) == Workers(8)
    assert asked(fakes, ["run", "--scheduler", "tls://a.b:1"]) == Workers(scheduler="tls://a.b:1")
    flags = "run --workers 3 --cluster slurm --cluster-option queue=a=b --cluster-option cores=2"
    expected = Workers(3, cluster="slurm", cluster_options=(("queue", "a=b"), ("cores", "2")))
    assert asked(fakes, flags.split()) == expected
    main(["figure", "generators", "--workers", "2"])  # it has nothing to draw
    assert fakes.requests[-1].workers == Workers(2)


def test_a_configuration_says_the_same_and_flags_win(fakes: Fakes) -> None:
    Path("board.yaml").write_text("workers: 3\ncluster: slurm\ncluster-option: [queue=gpu, cores=2]\ndry-run: false\n")
    config = ["run", "--config", "board.yaml"]
    expected = Workers(3, cluster="slurm", cluster_options=(("queue", "gpu"), ("cores", "2")))
    assert asked(fakes, config) == expected
    assert asked(fakes, [*config, "--workers", "5"]).count == 5
    Path("board.yaml").write_text("scheduler: tcp://a:1\n")
    assert asked(fakes, config) == Workers(scheduler="tcp://a:1")


def test_a_part_of_a_configuration_has_no_workers_of_its_own(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("board.yaml").write_text("parts: [{workers: 2}]")
    assert main(words(["run", "--config", "board.yaml"])) == 2
    assert "unknown word 'workers'" in capsys.readouterr().err


def test_controls_run_on_the_workers(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list[Workers]()

    def run(
        attacks: list[Choice], registry: object, store: Store, where: object, progress: object, workers: Workers
    ) -> list[object]:
        found.append(workers)
        return []

    monkeypatch.setattr("bench.runner.control_job.run", run)
    assert main(["controls", "--workers", "2"]) == 0
    assert found == [Workers(2)]


RUN = """
import sys
from bench.cli.main import main
code = main(sys.argv[1:])
print(code, *[name for name in ("dask", "distributed", "dask_jobqueue", "tensorflow") if name in sys.modules])
"""


def imports(*argv: str) -> str:
    """The exit code of the program, and which heavy libraries it imported."""
    done = subprocess.run([sys.executable, "-c", RUN, *argv], capture_output=True, text=True, timeout=120)
    return (done.stdout or done.stderr).splitlines()[-1]


def test_what_measures_nothing_imports_no_dask(tmp_path: Path) -> None:
    from quick_components import PLUGIN

    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    stored = f"--results={tmp_path / 'results'}", f"--plugin={plugin}"
    run = ("run", "--defense=says", "--attack=honest", "--data=made", "--seeds=0-1", *stored)
    assert imports(*run, "--workers=1").split()[0] == "0"
    assert imports(*run, "--workers=2") == "0"
    assert imports(*run, "--cluster=slurm") == "0"
    assert imports("plan", *run[1:], "--workers=2") == "0"
    assert imports("table", *stored) == "0"
    assert imports("--help") == "0"
