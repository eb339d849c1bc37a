"""The GitHub workflows are valid YAML, call existing commands, and only steps that need it may write."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.project.commands import in_shell, read, request

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SHOWN = 'if [ -f difference.md ]; then cat difference.md >> "$GITHUB_STEP_SUMMARY"; fi'


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


def steps(flow: Any) -> list[dict[str, Any]]:
    return [step for job in flow["jobs"].values() for step in job["steps"]]


def commands(flow: Any) -> list[list[str]]:
    """Every use of `bench` in a workflow, at any position of a line."""
    return in_shell(line for step in steps(flow) for line in step.get("run", "").splitlines())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_is_one_and_its_commands_are_accepted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = yaml.safe_load(path.read_text())
    assert flow["name"] == path.stem
    assert flow[True], "YAML reads the key `on` as true"
    assert flow["permissions"] == {"contents": "read"}
    monkeypatch.chdir(ROOT)
    for argv in commands(flow):
        assert request(read(argv)).grids
    for step in steps(flow):
        if "run" in step:
            checked = subprocess.run(["bash", "-n"], input=step["run"], text=True, capture_output=True)
            assert checked.returncode == 0, checked.stderr


def test_one_gate_checks_the_small_leaderboard_on_every_change() -> None:
    every = {path.stem: commands(yaml.safe_load(path.read_text())) for path in FILES}
    gate = ["reproduce", "--config", "results/boards/small.yaml", "--write", "difference.md"]
    assert every["check"] == [gate]
    assert every["test"] == []
    assert load("check")[True] == {"push": {"branches": ["main"]}, "pull_request": None}
    assert not [argv for found in every.values() for argv in found if argv[0] == "run"]


def test_the_large_leaderboard_is_checked_monthly_and_on_demand() -> None:
    flow = load("monthly")
    assert re.fullmatch(r"\d+ \d+ \d+ \* \*", flow[True]["schedule"][0]["cron"])
    assert "workflow_dispatch" in flow[True]
    [argv] = commands(flow)
    assert argv[:5] == ["reproduce", "--config", "results/board.yaml", "--budget", "5h"]
    assert "--sample" in argv
    assert flow["jobs"]["check"]["timeout-minutes"] > 300


@pytest.mark.parametrize("name", ["check", "monthly"])
def test_the_difference_is_shown_whatever_the_exit_code(name: str) -> None:
    job = load(name)["jobs"]["check"]
    assert "continue-on-error" not in str(job), "drift must be red"
    [shown] = [step for step in job["steps"] if "GITHUB_STEP_SUMMARY" in step.get("run", "")]
    assert shown["if"] == "always()"
    assert shown["run"] == SHOWN


def test_only_the_comment_may_write_and_it_runs_no_code_of_the_change() -> None:
    jobs = load("check")["jobs"]
    assert "permissions" not in jobs["check"]
    comment = jobs["comment"]
    assert comment["permissions"] == {"pull-requests": "write"}
    assert comment["needs"] == "check"
    assert "github.event.pull_request.head.repo.full_name == github.repository" in comment["if"]
    assert comment["if"].startswith("always()")
    assert [step.get("uses", "").split("@")[0] for step in comment["steps"]] == ["actions/download-artifact", ""]


def gh(folder: Path, comments: str) -> str:
    """The arguments with which the step calls `gh`, where comments with these ids exist."""
    [step] = [step for step in load("check")["jobs"]["comment"]["steps"] if "run" in step]
    answer = f'case "$*" in *--paginate*) printf "{comments}";; esac'
    (folder / "gh").write_text(f'#!/bin/bash\necho "$@" >> asked\n{answer}\n')
    (folder / "gh").chmod(0o755)
    (folder / "difference.md").write_text("# Difference\n" + "x" * 100_000)
    ours = {"COMMENTS": "repos/a/b/issues/7/comments", "ONE": "repos/a/b/issues/comments"}
    env = {"PATH": f"{folder}:/usr/bin:/bin", **ours}
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", step["run"]], cwd=folder, env=env, check=True)
    body = (folder / "comment.md").read_text()
    assert body.startswith("<!-- bench reproduce -->\n# Difference")
    assert len(body) < 65_536
    return (folder / "asked").read_text().splitlines()[-1]


def test_the_comment_is_made_once_and_then_updated(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    body = "--field body=@comment.md"
    assert gh(tmp_path / "new", "") == f"api --method POST repos/a/b/issues/7/comments {body}"
    assert gh(tmp_path / "old", "12\\n34\\n") == f"api --method PATCH repos/a/b/issues/comments/12 {body}"
