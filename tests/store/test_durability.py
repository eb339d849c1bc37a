"""Finished cells survive kills, signals, full disks and read-only mounts, and errors are sentences.

By default a tenth of each experiment runs; `pytest -m slow tests/store/test_durability.py` runs all.
"""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

import pytest
from processes import child, output, shares

from bench.store.store import Store

KILLS = """
    root, kills, mutant = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "mutant"
    signals = [getattr(signal, name) for name in sys.argv[4:]]
    def in_place(path, data):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            time.sleep(0.02)
            file.write(data[len(data) // 2 :])
    def slow_fsync(number, fsync=os.fsync):  # the same slow disk for program and mutant, so that kills hit writes
        time.sleep(0.02)
        fsync(number)
    os.fsync = slow_fsync
    if mutant:
        read_write.write = in_place
    for kill in range(kills):
        folder = root / str(kill)
        folder.mkdir()
        done = os.open(folder / "done", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        process = os.fork()
        if not process:
            for number in signals:  # a background process may have inherited ignored signals
                if number != signal.SIGKILL:
                    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                    signal.signal(number, default)
            sys.stderr = open(os.devnull, "w")  # an interrupted Python prints a traceback
            for count in range(1_000_000):
                Store(folder / "results").save(cell(count % 3, caveats=[str(count), "x" * 300_000]))
                os.write(done, b"%d\\n" % count)
        while not os.fstat(done).st_size:  # wait for the first cell
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.06))
        os.kill(process, signals[kill % len(signals)])
        assert os.waitpid(process, 0)[1], "it ended by itself"
        os.close(done)
"""


def torn(root: Path) -> int:
    """The number of unreadable cell files; the readable ones must be no older than the last reported save."""
    count = 0
    for folder in root.iterdir():
        saved = [int(line) for line in (folder / "done").read_text().split()]
        newest = {number % 3: number for number in saved}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = Store(folder / "results").results()
        count += len(caught)
        if not caught:
            assert (
                set(newest) <= {result.seed for result in found} <= {number % 3 for number in [*saved, saved[-1] + 1]}
            )
            for result in found:
                assert newest.get(result.seed, -1) <= int(result.caveats[0]) <= saved[-1] + 1
                assert result.caveats[1] == "x" * 300_000
    return count


@shares
def test_300_kills_leave_every_file_complete(tmp_path: Path, share: float) -> None:
    output(child(KILLS, tmp_path, round(300 * share), "bench", "SIGKILL"), 600)
    assert torn(tmp_path) == 0


@shares
def test_48_signals_leave_every_file_complete(tmp_path: Path, share: float) -> None:
    signals = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGXCPU")
    output(child(KILLS, tmp_path, max(len(signals), round(48 * share)), "bench", *signals), 600)
    assert torn(tmp_path) == 0


def test_a_mutant_that_rewrites_in_place_leaves_torn_files(tmp_path: Path) -> None:
    output(child(KILLS, tmp_path, 25, "mutant", "SIGKILL"))
    assert torn(tmp_path) > 0


FULL = """
    root, saves = Path(sys.argv[1]), int(sys.argv[2])
    refusals, kept = set(), {}
    for count in range(saves):
        try:
            Store(root).save(cell(count % 40, machine=str(count), caveats=["x" * random.randrange(8000)]))
            kept[count % 40] = str(count)
        except UserError as error:
            refusals.add(str(error))
    found = {one.seed: one.machine for one in Store(root).results()}
    assert found == kept, "a cell that was saved is not what is there"
    assert found and refusals
    assert not list(root.rglob("*.tmp"))
    print(*refusals, sep="\\n")
"""


def mounted(tmp_path: Path, options: str, script: str, *args: object) -> str:
    """The output of a script that runs in a new mount namespace with a small disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o {options} none {disk}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("this system does not allow mounting")
    within = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    return output(child(script, disk / "results", *args, within=within), 600)


@shares
def test_a_full_disk_costs_no_cell(tmp_path: Path, share: float) -> None:
    refusals = mounted(tmp_path, "size=160k", FULL, round(2000 * share))
    assert "No space left on device" in refusals
    assert "free space there" in refusals


@shares
def test_a_disk_without_inodes_costs_no_cell(tmp_path: Path, share: float) -> None:
    assert "No space left on device" in mounted(tmp_path, "size=4m,nr_inodes=20", FULL, round(2000 * share))


READ_ONLY = """
    import subprocess
    root = Path(sys.argv[1])
    Store(root).save(cell())
    subprocess.run(["mount", "-o", "remount,ro", str(root.parent)], check=True)
    for act in (lambda: Store(root).save(cell(1)), Store(root).check_writable, Store(root).lock().__enter__):
        try:
            act()
        except UserError as error:
            print(error)
        else:
            raise AssertionError("written where nothing can be")
    assert Store(root).results() == [cell()]
    assert Store(root).known_machine == ""
"""


def test_a_read_only_mount_is_read_and_its_refusals_are_sentences(tmp_path: Path) -> None:
    assert mounted(tmp_path, "size=4m", READ_ONLY).count("Read-only file system") == 3
