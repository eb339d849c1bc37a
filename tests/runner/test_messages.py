"""Messages of jobs come back from the wire as they were sent."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from cells import cell

from bench.core.arrays import BadArrays
from bench.core.errors import UserError
from bench.runner.messages import Failed, Finished, Message, Trained, done, failed, pack, unpack

NAME = ("digits", "none,epsilon=inf", "lira", 7)
ARRAYS = {"correct": np.array([True, False]), "größe": np.arange(6.0, dtype=np.float32).reshape(2, 3)}


@pytest.mark.parametrize(
    "message",
    [
        Trained(NAME, "digest", {}, {"fit": 1.5}),
        Trained(NAME, "digest", {"class 0": np.zeros((2, 8, 8, 1), np.uint8)}, {}),
        Finished(NAME, cell()),
        Finished(NAME, cell(), ARRAYS, {"private": np.ones((1, 8, 8, 3), np.uint8)}, {"fit": 0.25}),
        Failed((NAME, ("a", "b", "c", 0)), "it failed", mistake=True),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_comes_back(message: Message) -> None:
    text, files = pack(message)
    json.loads(text)
    assert all(isinstance(data, bytes) for data in files.values())
    again = unpack((text, files))
    assert type(again) is type(message)
    for name, value in vars(message).items():
        found = getattr(again, name)
        if name in ("answers", "sheet"):
            assert found.keys() == value.keys()
            for key, array in value.items():
                assert found[key].dtype == array.dtype
                np.testing.assert_array_equal(found[key], array)
        else:
            assert found == value, name


def test_what_a_message_finishes() -> None:
    assert done(Trained(NAME, "digest", {}, {})) == ()
    assert done(Finished(NAME, cell())) == (NAME,)
    assert done(Failed((NAME, NAME), "it failed")) == (NAME, NAME)


def test_nothing_is_unpickled() -> None:
    text, files = pack(Finished(NAME, cell()))
    with pytest.raises(BadArrays):
        unpack((text, {**files, "answers": b"\x80\x04N."}))


def test_a_record_that_was_changed_on_the_way_is_refused() -> None:
    text, files = pack(Finished(NAME, cell(machine="mine")))
    assert "mine" in text
    with pytest.raises(ValueError, match="seal"):
        unpack((text.replace("mine", "ours"), files))


def test_a_failure_says_what_was_being_done_and_a_mistake_only_what_to_do() -> None:
    assert asdict(failed([NAME], "training failed", ValueError("two\nlines"))) == {
        "names": (NAME,), "reason": "training failed, ValueError: two lines", "mistake": False,
    }  # fmt: skip
    mistake = failed([NAME], "training failed", UserError("steps are too few: give more."))
    assert (mistake.reason, mistake.mistake) == ("steps are too few: give more.", True)
