"""A SLURM of its own: one controller, one node, everything in one folder; for tests of `--cluster slurm`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sinfo", "sbatch", "scancel", "squeue", "setpriv")
PLUGINS = ("auth_none", "cred_none", "proctrack_linuxproc", "task_none", "select_cons_tres", "jobacct_gather_none")
CONFIGURATION = """\
ClusterName=private
SlurmctldHost=localhost
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# A job that is cancelled ends soon; a node that was lost is taken back.
KillWait=2
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=1
# Four cores, whatever this machine has.
SlurmdParameters=config_overrides
NodeName=localhost CPUs=4 RealMemory=64000 State=UNKNOWN
PartitionName=batch Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""
START = 60.0  # seconds


def missing() -> str:
    """What a private SLURM needs and this machine lacks, in words; empty where there is nothing."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    folders = [
        *Path("/usr/lib").glob("*/slurm*"),
        *Path("/usr").glob("lib*/slurm*"),
        *Path("/usr/local/lib").glob("slurm*"),
    ]
    lacking += [f"plugin {name}" for name in PLUGINS if not any((folder / f"{name}.so").exists() for folder in folders)]
    if os.geteuid() != 0:
        lacking.append("the rights of root")
    return ", ".join(lacking)


@contextmanager
def private_slurm(folder: Path) -> Iterator[Path]:
    """The configuration of a SLURM that runs within: the value of $SLURM_CONF. Its jobs and daemons end with the block.

    They end with this process, too, should it be killed. Raises RuntimeError where the node does not come up.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    controller, node = _free_ports()
    path = folder / "slurm.conf"
    path.write_text(CONFIGURATION.format(folder=folder, controller=controller, node=node))
    environment = {**os.environ, "SLURM_CONF": str(path)}
    daemons = []
    try:
        for command in (["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", "localhost"]):
            with (folder / f"{command[0]}.out").open("w") as log:
                daemons.append(
                    subprocess.Popen(
                        ["setpriv", "--pdeathsig", "KILL", *command, "-f", str(path)],
                        env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                    )
                )  # fmt: skip
        _wait(environment, ["sinfo", "--noheader", "--format=%T"], "idle")
        yield path
    finally:
        with suppress(OSError, subprocess.SubprocessError, RuntimeError):
            subprocess.run(["scancel", "--user=root"], env=environment, timeout=10, check=False)
            _wait(environment, ["squeue", "--noheader"], "")
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _free_ports() -> list[int]:
    """Two ports that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, other)]


def _wait(environment: dict[str, str], command: list[str], expected: str) -> None:
    """Repeat a command until it prints what is expected. Raises RuntimeError after a minute."""
    end = time.monotonic() + START
    found = None
    while time.monotonic() < end:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
        found = done.stdout.strip() if done.returncode == 0 else done.stderr
        if found == expected:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{' '.join(command)} printed {found!r}, not {expected!r}")
