"""One worker for each GPU, found without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import pytest
from worker_fixtures import where_am_i

from bench.core.errors import UserError
from bench.runner import gpus
from bench.runner.clusters import check, connected
from bench.runner.request import Workers

pytestmark = pytest.mark.usefixtures("cores")

START = 60.0  # seconds that a start may take on a busy machine
LISTING = """\
GPU 0: NVIDIA H200 (UUID: GPU-5f1b2c3d-0000-1111-2222-333344445555)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaaaaaa-0000-1111-2222-333344445555)
  MIG 3g.20gb     Device  0: (UUID: MIG-11111111-0000-1111-2222-333344445555)
  MIG 3g.20gb     Device  1: (UUID: MIG-22222222-0000-1111-2222-333344445555)
"""


def test_devices_are_listed_with_the_parts_of_a_divided_one() -> None:
    assert gpus.listed(LISTING) == (
        "GPU-5f1b2c3d-0000-1111-2222-333344445555",
        "MIG-11111111-0000-1111-2222-333344445555",
        "MIG-22222222-0000-1111-2222-333344445555",
    )
    assert gpus.listed("No devices found.\n") == ()


@pytest.mark.parametrize(
    ("stated", "devices"),
    [("", ()), ("-1", ()), ("0", ("0",)), ("2, 0", ("2", "0")), ("0,-1,1", ("0",)), ("0,1,1", ("0", "1")),
     ("GPU-5f1b,MIG-11/1/0", ("GPU-5f1b", "MIG-11/1/0")), ("NoDevFiles", ())],
)  # fmt: skip
def test_the_variable_of_cuda_decides(monkeypatch: pytest.MonkeyPatch, stated: str, devices: tuple[str, ...]) -> None:
    monkeypatch.setattr(gpus, "LISTING", ("echo", LISTING))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", stated)
    assert gpus.available() == devices


def test_without_the_variable_the_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(gpus, "LISTING", ("echo", LISTING))
    assert len(gpus.available()) == 3
    for command in (("false",), ("/no/such/program",)):
        monkeypatch.setattr(gpus, "LISTING", command)
        assert gpus.available() == ()


def test_each_gpu_has_one_worker_and_each_worker_one_gpu(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    with connected(Workers(), 99, preload=None) as client:
        assert sorted(device or "" for _, device, _ in client.run(where_am_i).values()) == ["1", "3"]
        assert [one["resources"] for one in client.scheduler_info()["workers"].values()] == [{"GPU": 1}] * 2
        assert client.submit(sum, (1, 2), resources={"GPU": 1}).result(START) == 3
    with pytest.raises(UserError, match="one GPU, and 2 are visible"):
        check(Workers(3))
    check(Workers(2))
    check(Workers(3, cluster="slurm"))
