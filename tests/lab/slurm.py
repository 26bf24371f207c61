"""A real Slurm on the hosts of the lab: munged, a controller outside, one slurmd a host. Started and ended by process id."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.lab.hosts import OUTSIDE, Lab, environment, run, wait_until
from tests.lab.memory import shared_memory

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")

CONFIGURATION = """
ClusterName=lab
SlurmctldHost={machine}({outside})
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={munge}/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
SlurmdTimeout=20
KillWait=30
MailProg=/bin/true
SchedulerParameters=batch_sched_delay=0,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
{nodes}
PartitionName=lab Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1 GraceTime=120
PartitionName=hasty Nodes=ALL MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1 GraceTime=0
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=2 PreemptMode=OFF
"""


def why_not() -> str | None:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    return f"no Slurm here ({', '.join(missing)}; Debian: apt-get install slurm-wlm munge)" if missing else None


class Slurm:
    """Jobs run as root in `folder`; the environment of a job is that of a user with distmed in the path."""

    def __init__(self, lab: Lab, folder: Path, hosts: int) -> None:
        self.lab = lab
        self.hosts = lab.hosts[:hosts]
        self.folder = folder
        # The folders of pytest are closed to the user munge.
        self.munge = Path(tempfile.mkdtemp(prefix="lab-munge-"))
        self.daemons: list[subprocess.Popen[bytes]] = []
        # What a lab that was killed left in /tmp is not for this one's jobs to answer for.
        self.found = set(Path("/tmp").glob("distmed-*-*"))
        self.memory = shared_memory()
        self.environment = {
            **environment(),
            "SLURM_CONF": str(folder / "slurm.conf"),
            "DISTMED_OBJECT_STORE_BYTES": str(128 * 2**20),
        }

    def start(self) -> None:
        for name in ("state", "cgroup"):
            (self.folder / name).mkdir()
        lines = "\n".join(
            f"NodeName={host.name} NodeAddr={host.address} CPUs=4 RealMemory=10000 Gres=gpu:2 State=UNKNOWN"
            for host in self.hosts
        )
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                machine=os.uname().nodename, outside=OUTSIDE, folder=self.folder, munge=self.munge, nodes=lines
            )
        )
        # Files stand for the devices: Slurm hands out two a node, and nobody opens them.
        for number in (0, 1):
            (self.folder / f"gpu{number}").touch()
        (self.folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={self.folder}/gpu[0-1]\n")
        (self.folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={self.folder}/cgroup\n")
        self._start_munge(self.munge)
        self._daemon("slurmctld", "-D")
        for host in self.hosts:
            self._daemon(*host.enter, "slurmd", "-D", "-N", host.name)
        wait_until("idle nodes", 60, lambda: self.states() == ["idle"] * len(self.hosts))

    def _start_munge(self, folder: Path) -> None:
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        shutil.chown(folder, "munge", "munge")
        shutil.chown(key, "munge", "munge")
        folder.chmod(0o755)
        files = [f"--{name}-file={folder}/{name}" for name in ("key", "log", "pid", "seed")]
        command = ["munged", "--foreground", f"--socket={folder}/socket", *files]
        self._daemon("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", *command)
        wait_until("munge's socket", 20, lambda: (folder / "socket").exists())

    def _daemon(self, *command: str) -> None:
        log = (self.folder / "daemons.log").open("ab")
        self.daemons.append(
            subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        )

    def stop(self) -> None:
        self.command("scancel", "--user=root", check=False)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
        for host in self.hosts:
            host.kill()
        shutil.rmtree(self.munge, ignore_errors=True)

    def states(self) -> list[str]:
        return self.command(
            "sinfo", "--noheader", "--Node", "--partition=lab", "--format=%T", check=False
        ).stdout.split()

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(*words, check=check, env=self.environment)

    def submit(self, folder: Path, *arguments: str, **variables: str) -> Job:
        """`sbatch` with these arguments, from `folder`."""
        done = run("sbatch", "--parsable", *arguments, env={**self.environment, **variables}, cwd=folder)
        number = int(done.stdout.strip())
        return Job(self, number, folder)


class Job:
    """One batch job: its state, its output."""

    def __init__(self, slurm: Slurm, number: int, folder: Path) -> None:
        self.slurm = slurm
        self.number = number
        self.folder = folder

    def _shown(self, field: str) -> str:
        shown = self.slurm.command("scontrol", "show", "job", str(self.number), check=False).stdout
        found = re.search(rf"\b{field}=(\S+)", shown)
        return found[1] if found else ""

    @property
    def state(self) -> str:
        return self._shown("JobState")

    @property
    def exit_status(self) -> int:
        return int(self._shown("ExitCode").partition(":")[0])

    @property
    def restarts(self) -> int:
        return int(self._shown("Restarts"))

    @property
    def log(self) -> str:
        path = Path(self._shown("StdOut"))
        return path.read_text() if path.is_file() else ""

    @property
    def ray_log(self) -> str:
        path = Path(self._shown("StdOut") + ".ray")
        return path.read_text() if path.is_file() else ""

    def signal(self, name: str) -> None:
        """To the batch script alone, as `--signal=B:…` does."""
        self.slurm.command("scancel", f"--signal={name}", "--batch", str(self.number))

    def wait_for(self, text: str, seconds: float) -> None:
        def seen() -> bool:
            if self.state in ("FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL") and text not in self.log:
                raise AssertionError(f"{self.state} without {text!r}: {self.log}")
            return text in self.log

        try:
            wait_until(f"{text!r} in the job's log", seconds, seen, every=0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.state}\n{self.log}\n{self.ray_log[-3000:]}") from None

    def wait_for_end(self, seconds: float) -> str:
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        try:
            return wait_until("the job's end", seconds, lambda: self.state if self.state in ends else "", every=0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.state}\n{self.log}\n{self.ray_log[-3000:]}") from None


@contextlib.contextmanager
def slurm_on(lab: Lab, folder: Path, hosts: int = 2) -> Iterator[Slurm]:
    slurm = Slurm(lab, folder, hosts)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
