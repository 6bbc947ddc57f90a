"""A Slurm of several nodes on this machine, for tests: loopback only, with a key, a socket and ports of its own.

Where namespaces can be made, each node has a host name and process ids of its own, as on a cluster.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conftest import Cli, eventually

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun", "scontrol")
START_SECONDS = 60.0
_CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={base}/munge/socket
CredType=cred/munge
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool-%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd-%n.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd-%n.log
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
SlurmdTimeout=10
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=batch Nodes=ALL Default=YES MaxTime=1:00:00 State=UP PriorityTier=1 GraceTime=10
PartitionName=urgent Nodes=ALL MaxTime=1:00:00 State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Return why no Slurm can be started here; empty where one can."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: slurmctld slurmd slurm-client munge)"
    return "" if os.getuid() == 0 else "the daemons of a Slurm with nodes of their own need root"


class SlurmCluster:
    """A Slurm that runs until `stop`.

    Args:
        base: a folder of its own, with a short path.
        nodes: how many hosts it has, `n1` to `nN`, of two processors each.
    """

    def __init__(self, base: Path, nodes: int) -> None:
        self.base = base
        self.variables = {"SLURM_CONF": str(base / "slurm.conf")}
        self._started: list[subprocess.Popen[bytes]] = []
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        port = _free_ports(nodes + 1)
        (base / "munge").mkdir(parents=True, mode=0o755)
        key = base / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        text = _CONFIG.format(
            host=socket.gethostname(), user="root", base=base, nodes=nodes, port=port, first=port + 1, last=port + nodes
        )
        (base / "slurm.conf").write_text(text)
        (base / "state").mkdir()
        names = "".join(f"127.0.0.1 n{number}\n" for number in range(1, nodes + 1))
        (base / "hosts").write_text(Path("/etc/hosts").read_text() + names)
        munge = [f"--{name}={base / 'munge' / file}" for name, file in (
            ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"),
        )]  # fmt: skip
        self._start("munged", "--foreground", "--force", *munge)
        self._until(lambda: (base / "munge" / "socket").exists())
        self._start("slurmctld", "-D", "-c")
        for number in range(1, nodes + 1):
            self.begin_node(f"n{number}")
        self._until(
            lambda: len(self.ask("sinfo", "--noheader", "--Node", "--partition=batch", "--states=idle").split("\n")) > nodes
        )

    def begin_node(self, name: str) -> None:
        """Let a node begin, or begin again."""
        (self.base / f"spool-{name}").mkdir(exist_ok=True)
        inside = f"hostname {name}; mount --bind {self.base}/hosts /etc/hosts; exec slurmd -D -N {name}"
        apart = ("unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        self._nodes[name] = self._start(*apart, "sh", "-c", inside)

    def kill_node(self, name: str) -> None:
        """Let a node lose its power: all of its processes are gone at once."""
        process = self._nodes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def ask(self, *words: str) -> str:
        """Return what a command of Slurm's prints."""
        done = subprocess.run(
            words, env={**os.environ, **self.variables}, capture_output=True, text=True, timeout=START_SECONDS, check=False
        )
        return done.stdout

    def stop(self) -> None:
        """End all of it."""
        self.ask("scancel", "--me")
        for process in reversed(self._started):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.base / f"{words[0]}.out").open("ab") as out:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                env={**os.environ, **self.variables},
            )  # fmt: skip
        self._started.append(process)
        return process

    def _until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > deadline or any(process.poll() is not None for process in self._started):
                said = "\n".join(path.read_text(errors="replace")[-500:] for path in self.base.glob("*.out"))
                self.stop()
                raise RuntimeError(f"Slurm did not start:\n{said}")
            time.sleep(0.1)


def _free_ports(count: int) -> int:
    """Return the first of some ports in a row that are free."""
    for first in range(20000 + 32 * os.getpid() % 10000, 32000, count):
        with suppress(OSError):
            sockets = []
            try:
                for port in range(first, first + count):
                    sockets.append(socket.create_server(("127.0.0.1", port)))
            finally:
                for one in sockets:
                    one.close()
            return first
    raise RuntimeError("no ports are free")


@contextmanager
def running(hosts: int) -> Iterator[SlurmCluster]:
    """Start a Slurm of so many hosts, and stop it at the end."""
    base = Path(tempfile.mkdtemp(prefix="sl-"))  # sockets have short names
    base.chmod(0o755)
    found = SlurmCluster(base, hosts)
    try:
        yield found
    finally:
        found.stop()
        shutil.rmtree(base)


@contextmanager
def login_node(cluster: SlurmCluster, place: Path, environment: dict[str, str], *states: str) -> Iterator[Cli]:
    """Make the command line on a login node; at the end no job may be left behind, or none in these states."""
    cli = Cli(place, {**environment, **cluster.variables})
    yield cli
    left = cluster.ask("squeue", "--noheader", *([f"--states={','.join(states)}"] if states else []))
    cluster.ask("scancel", "--me")
    for process in cli.started:
        process.kill()
        process.communicate()
    eventually("an empty queue", lambda: not cluster.ask("squeue", "--noheader"))
    assert not left, "jobs were left behind"
