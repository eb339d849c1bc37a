"""Several processes write one results folder: no record is lost, and the lock lets in one at a time."""

from __future__ import annotations

import warnings

import pytest
from processes import child, output, temporaries

from bench.store import audit_findings, store
from bench.store.store import Store


def test_two_processes_lose_nothing(tmp_path):
    script = """
        for seed in range(40):
            Store(Path(sys.argv[1])).save(cell(seed, attack=sys.argv[2]))
            Store(Path(sys.argv[1])).save(cell(seed, attack="both", machine=sys.argv[2]))
    """
    for process in [child(script, tmp_path, name) for name in ("first", "second")]:
        output(process)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Store(tmp_path).results()
    names = ("both", "first", "second")
    assert [(r.attack, r.seed) for r in found] == [(name, seed) for name in names for seed in range(40)]
    assert {r.machine for r in found if r.attack == "both"} <= {"first", "second"}
    assert not temporaries(tmp_path)


COUNT = """
    import contextlib
    counter = Path(sys.argv[1]) / "counter"
    Path(sys.argv[1], f"{os.getpid()}.ready").touch()
    while len(list(Path(sys.argv[1]).glob("*.ready"))) < 2:
        time.sleep(0.001)
    for _ in range(60):
        with Store(Path(sys.argv[1])).lock() if sys.argv[2] == "bench" else contextlib.nullcontext():
            before = int(counter.read_text() or 0)
            time.sleep(0.002)
            write(counter, str(before + 1).encode())
"""


@pytest.mark.parametrize("who", ["bench", "mutant"])
def test_the_lock_admits_one_process_at_a_time(tmp_path, who):
    (tmp_path / "counter").write_text("0")
    for process in [child(COUNT, tmp_path, who) for _ in range(2)]:
        output(process)
    count = int((tmp_path / "counter").read_text())
    assert count == 120 if who == "bench" else count < 120


def test_the_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(KeyError), Store(tmp_path).lock():
        raise KeyError
    with Store(tmp_path).lock():
        pass


MACHINE = """
    def slow(size, token_hex=store.secrets.token_hex):  # so that all processes draw a name at the same time
        time.sleep(0.02)
        return token_hex(size)
    store.secrets.token_hex = slow
    if sys.argv[2] == "mutant":
        store.fcntl.flock = lambda *_: None
    for attempt in range(10):
        root = Path(sys.argv[1]) / str(attempt)
        local = root / ".local"
        local.mkdir(parents=True)
        if attempt % 2:
            (local / "machine").write_text("half an i")  # as left by a process that was killed while writing
        start, go = os.pipe()
        pids = []
        for _ in range(4):
            pids.append(os.fork())
            if not pids[-1]:
                os.close(go)
                os.read(start, 1)
                os.write(1, f"{attempt} {Store(root).machine}\\n".encode())
                os._exit(0)
        os.close(go)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
        os.close(start)
"""


@pytest.mark.parametrize("who", ["bench", "mutant"])
def test_all_processes_get_one_machine_identifier(tmp_path, who):
    lines = output(child(MACHINE, tmp_path, who)).splitlines()
    identifiers = {(Store(tmp_path / line.split()[0]).machine, line.split()[1]) for line in lines}
    assert len(lines) == 40
    if who == "bench":
        assert len(identifiers) == 10
        assert all(stored == returned for stored, returned in identifiers)
    else:
        assert len(identifiers) > 10


def test_a_known_machine_identifier_is_read_without_a_lock(tmp_path, monkeypatch):
    known = Store(tmp_path).machine
    monkeypatch.setattr(store.fcntl, "flock", lambda *_: pytest.fail("locked to read"))
    assert Store(tmp_path).machine == known


AUDITS = """
    one, kind = Path(sys.argv[1]), sys.argv[2]
    sys.path.insert(0, "tests/store")
    from msgspec.structs import replace
    from samples import WHOLE
    if sys.argv[3] == "mutant":
        import contextlib
        Store.lock = lambda self: contextlib.nullcontext()
    original = read_write.read
    def slow(*where):  # as slow as for a large file, so that the processes overlap
        try:
            return original(*where)
        finally:
            time.sleep(0.01)
    read_write.read = slow
    for repeat in range(int(sys.argv[4])):
        here = Store(one / str(repeat))
        here.root.joinpath(".local").mkdir(parents=True, exist_ok=True)
        here.root.joinpath(".local", kind).touch()
        while len(list(here.root.joinpath(".local").glob("*_*"))) + here.root.joinpath(".local", "whole").exists() < 3:
            time.sleep(0.0005)
        audit_findings.save(here, "dp_sgd", "digits", replace(WHOLE, kind=kind))
"""


@pytest.mark.parametrize("who", ["bench", "mutant"])
def test_three_audits_of_one_row_at_once_keep_all_findings(tmp_path, who):
    """Three processes read, add a finding and write; without the lock some findings are lost."""
    repeats = 10
    for process in [child(AUDITS, tmp_path, kind, who, repeats) for kind in ("one_step", "whole", "black_box")]:
        output(process)
    rows = [audit_findings.load(Store(tmp_path / str(repeat)), "digits", "dp_sgd") for repeat in range(repeats)]
    counts = [len(row.findings) for row in rows if row]
    assert counts == [3] * repeats if who == "bench" else min(counts) < 3
