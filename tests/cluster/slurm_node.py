"""A real SLURM of one node on this machine, for tests: munged, slurmctld, slurmd on loopback.

Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge (22.05 or later). Ports
are free ones, files live in one directory, there is no accounting (``sacct`` fails, as on many
small clusters). By hand::

    python tests/cluster/slurm_node.py /tmp/node        # prints the setting to export; Ctrl-C ends

Partitions: ``main`` (default, no limit), ``short`` (MaxTime 3 minutes), ``closed`` (down) and
``one`` (requeue by preemption, limit 1 hour).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MinJobAge={min_age}
MaxArraySize={array}
KillWait=2
InactiveLimit=0
EnforcePartLimits={enforce}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=500 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes={host} MaxTime=3 State=UP
PartitionName=hour Nodes={host} MaxTime=90 DefaultTime=60 State=UP
PartitionName=closed Nodes={host} MaxTime=INFINITE State=DOWN
"""


def missing() -> str:
    """Why a node cannot be started here; an empty string if it can."""
    if sys.platform != "linux":
        return "SLURM runs on Linux"
    if os.getuid() != 0:
        return "starting slurmctld, slurmd and munged needs root"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if lacking:
        return (
            f"{', '.join(lacking)} not installed "
            "(apt-get install slurmctld slurmd slurm-client munge)"
        )
    return ""


class SlurmNode:
    """The three daemons; ``environment`` is what clients of this cluster need."""

    def __init__(
        self, folder: Path, cpus: int = 2, min_age: int = 300, enforce: str = "NO", array: int = 6
    ) -> None:
        self.folder, self.host = folder, socket.gethostname().partition(".")[0]
        self.options = {"cpus": cpus, "min_age": min_age, "enforce": enforce, "array": array}
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the daemons and wait until the node is idle; RuntimeError with the logs if not."""
        folder = self.folder
        for part in ("state", "spool"):
            (folder / part).mkdir(parents=True)
        folder.chmod(0o755)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        ctld, slurmd = _free_port(), _free_port()
        text = _CONF.format(folder=folder, host=self.host, ctld=ctld, slurmd=slurmd, **self.options)
        (folder / "slurm.conf").write_text(text)
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}",
            f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed",
        )  # fmt: skip
        self._until((folder / "munge.socket").exists, "munged opens its socket")
        conf = folder / "slurm.conf"
        self._daemon("slurmctld", "-D", "-c", "-f", str(conf))
        self._daemon("slurmd", "-D", "-f", str(conf))
        self._until(lambda: self.node_state() == "idle", "the node is idle")

    def stop(self) -> None:
        """Cancel all jobs and end the daemons."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self.run("scancel", "--user=root", check=False)
            self._until(lambda: not self.jobs(), "no job is left", seconds=10)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()

    def run(self, *command: str, check: bool = True) -> str:
        """What a SLURM command prints."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment, "PATH": _PATH},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def node_state(self) -> str:
        """``idle``, ``mixed``, ``drained``, ...; an empty string if there is no answer."""
        return self.run("sinfo", "-h", "-p", "main", "-o", "%T", check=False).strip().strip("*")

    def jobs(self, state: str = "all") -> list[str]:
        """Ids of the jobs in a state (``PENDING``, ``RUNNING``) that are not finished: ``12_3``."""
        only = [] if state == "all" else ["-t", state]
        rows = self.run("squeue", "-h", "-r", *only, "-o", "%F_%K").split()
        return [row.removesuffix("_N/A") for row in rows]

    def drain(self, reason: str = "test") -> None:
        """Start no more jobs on the node."""
        node = f"NodeName={self.host}"
        self.run("scontrol", "update", node, "State=DRAIN", f"Reason={reason}")

    def resume(self) -> None:
        """Undo :meth:`drain`."""
        self.run("scontrol", "update", f"NodeName={self.host}", "State=RESUME")

    def fail(self) -> None:
        """End slurmd and all that runs on the node at once, as when its power is cut."""
        slurmd = self._daemons.pop()
        doomed = [slurmd.pid, *_descendants(self._steps())]
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        slurmd.wait()
        self.run("scontrol", "update", f"NodeName={self.host}", "State=DOWN", "Reason=failed")

    def repair(self) -> None:
        """Undo :meth:`fail`; the node has forgotten its jobs."""
        self._daemon("slurmd", "-D", "-c", "-f", str(self.folder / "slurm.conf"))
        self._until(lambda: self.node_state() == "idle", "the node is idle")

    def _steps(self) -> list[int]:
        """Process ids of this node's slurmstepd: they keep its settings in their environment."""
        mark = str(self.folder).encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                if line.startswith(b"slurmstepd:") and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def _daemon(self, *command: str) -> None:
        log = (self.folder / f"{command[0]}.out").open("wb")
        with log:
            self._daemons.append(
                subprocess.Popen(
                    [shutil.which(command[0], path=_PATH) or command[0], *command[1:]],
                    stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                    env={**os.environ, **self.environment, "PATH": _PATH}, start_new_session=True,
                )
            )  # fmt: skip

    def _until(self, condition: object, what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():  # type: ignore[operator]
            dead = [d.args for d in self._daemons if d.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(
                    f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}"
                    for path in sorted([*self.folder.glob("*.out"), *self.folder.glob("*.log")])
                )
                raise RuntimeError(f"SLURM: not so: {what}; ended: {dead}\n{logs}")
            time.sleep(0.2)


def _descendants(roots: list[int]) -> list[int]:
    """The processes and all that they have started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = list(roots)
    for pid in found:
        found += children.get(pid, [])
    return found


@contextlib.contextmanager
def slurm_node(folder: Path, **options: int | str) -> Iterator[SlurmNode]:
    """A running :class:`SlurmNode`, stopped at the end."""
    node = SlurmNode(folder, **options)  # type: ignore[arg-type]
    try:
        node.start()
        yield node
    finally:
        node.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    if missing():
        sys.exit(missing())
    with (
        slurm_node(Path(sys.argv[1]).absolute()) as running,
        contextlib.suppress(KeyboardInterrupt),
    ):
        print(*(f"export {k}={v}" for k, v in running.environment.items()), sep="\n", flush=True)
        while True:
            time.sleep(3600)
