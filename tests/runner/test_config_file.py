"""Files of `--config`: every error in one is reported in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.runner import config_file

WORDS = {"seeds": str, "attack": list, "accept": bool}


def read(path: Path, content: bytes) -> tuple[config_file.Settings, list[config_file.Settings]]:
    path.write_bytes(content)
    return config_file.read(path, WORDS, {"seeds", "attack"})


def test_values_have_the_form_that_the_flags_take(tmp_path: Path) -> None:
    content = b"seeds: 0-4\nattack: [lira, 3]\naccept: true\nparts:\n  - seeds: 1\n  - attack: rmia\n"
    shared, parts = read(tmp_path / "board.yaml", content)
    assert shared == {"seeds": "0-4", "attack": ["lira", "3"], "accept": True}
    assert parts == [{"seeds": "1"}, {"attack": ["rmia"]}]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 200_000, "nested too deeply"), (b"a: " + b"[" * 200_000, "nested too deeply"),
        (b"{" * 200_000, "nested too deeply"), (b"- " * 20_000 + b"x", "nested too deeply"),
        (b"seeds: " + b"1" * (2 << 20), "cannot be read .it has 2097159 bytes"), (b"\xff\xfe", "is not UTF-8 text"),
        (b"", "is empty"), (b"# seeds: 0-4\n", "is empty"), (b"---\n...\n", "is empty"), (b"null", "is empty"),
        (b"seeds: 1\nseeds: 2", "stands there again"), (b"seeds: {a: 1}", "must be a text"), (b"3", "lines"),
        (b"sedes: 1", "did you mean 'seeds'"), (b"accept: 3", "must be true or false"), (b"a\0b", "not valid YAML"),
        (b"parts: []", "must be a list of parts"), (b"parts: [{accept: true}]", "unknown word 'accept'"),
        (b"seeds: !!python/object:os.system {}", "not valid YAML"),
    ],
    ids=range(19),
)  # fmt: skip
def test_each_error_in_it_is_one_sentence(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(UserError, match=why) as refused:
        read(tmp_path / "board.yaml", content)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "board.yaml")
    for name, why in (("board.yaml", "no regular file"), (".", "a folder"), ("missing.yaml", "No such file")):
        with pytest.raises(UserError, match=why):
            config_file.read(tmp_path / name, WORDS, {"seeds"})
