"""A note if the user edits files of a checkout other than the installed one."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_fakes import Fakes, is_one_sentence

import bench
from bench.cli.main import main
from bench.runner import editable_install


def test_an_edit_that_has_no_effect_is_noted(fakes: Fakes, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    installed = Path(bench.__file__).parent
    registry = Path("bench", "runner", "registry.py")
    (tmp_path / "bench" / "runner").mkdir(parents=True)
    (tmp_path / "defenses").mkdir()
    (tmp_path / registry).write_bytes((installed.parent / registry).read_bytes())
    assert editable_install.unused_edit(tmp_path) is None  # no setup.cfg: not a checkout of this project
    (tmp_path / "setup.cfg").touch()
    assert editable_install.unused_edit(tmp_path) is None
    (tmp_path / "bench" / "core").mkdir()
    (tmp_path / "bench" / "core" / "dataset.py").write_text("edited")
    (tmp_path / "defenses" / "new.py").touch()
    assert main(["list", "games"]) == 0
    err = capsys.readouterr().err
    is_one_sentence(err)
    assert "defenses/new.py (and 1 more)" in err
    assert "pip install -e ." in err
    assert "--plugin" in err
    (tmp_path / "defenses" / "new.py").unlink()
    assert "bench/core/dataset.py here is not" in str(editable_install.unused_edit(tmp_path))
    assert editable_install.unused_edit(installed.parent) is None
