"""A real SLURM on this one machine: two virtual nodes, three partitions' worth of traps, no mocks.

It has its own munge, its own ports, and all its state in one folder, so it meets neither a SLURM that
is installed here nor another test run. Nodes say that they have more than the machine has, so that
the files in slurm/ run as they are.
"""

import contextlib
import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PREFIX = "vol3d-slurm-"
DAEMONS = ("munged", "slurmctld", "slurmd")
SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}
CONF = """\
ClusterName=vol3d
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=3600
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=DEFAULT CPUs=32 Boards=1 SocketsPerBoard=1 \
CoresPerSocket=32 ThreadsPerCore=1 RealMemory=1000000 Gres=gpu:4
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=main Nodes=n[1-2] Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace}
PartitionName=urgent Nodes=n[1-2] PriorityTier=10 PreemptMode=OFF
"""


class Cluster:
    """Two nodes, n1 and n2, of 32 CPUs and 4 GPUs by name each; partitions `main` and `urgent`.

    Jobs run the vol3d of this checkout. A job of `urgent` takes nodes from those of `main`, which get
    SIGTERM, 10 seconds, SIGKILL, and go back to the queue.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.folder.chmod(0o755)
        self.conf = self.folder / "slurm.conf"
        self.env = {
            **{
                k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SRUN"))
            },
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{SBIN}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "SLURM_CONF": str(self.conf),
            "VOL3D_ENV": "/dev/null",  # the PATH says it all
        }

    # -- jobs ---------------------------------------------------------------------------------------

    def submit(self, script: Path | str, *words: str, cwd: Path, options: tuple = (), **env) -> str:
        """Submit a batch file as a user does; the number of its job.

        Args:
            script: the file; a relative one is of this checkout: slurm/array.sbatch.
            words: what comes after the file.
            cwd: where sbatch is called, and the job works and writes its log.
            options: what comes before the file: ("--array=1-4", "--time=1").
            env: variables that sbatch and the job see beside the cluster's own.
        """
        given = ["sbatch", "--parsable", "--export=ALL", *options, str(ROOT / script)]
        return self.call(*given, *map(str, words), cwd=cwd, env={**self.env, **env}).strip()

    def call(self, *command: str, **options) -> str:
        """Run a SLURM command (scontrol, squeue, ...); what it prints."""
        done = subprocess.run(
            command,
            **{"env": self.env, **options},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
        return done.stdout

    def show(self, job: str) -> list[dict[str, str]]:
        """What SLURM knows of a job, or of each task of an array: JobState, Restarts, Reason, ..."""
        lines = self.call("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if line.strip()]

    def states(self, job: str) -> set[str]:
        """The states that a job, or the tasks of an array, are in."""
        return {task["JobState"] for task in self.show(job)}

    def log(self, job: str) -> str:
        """All that a job, or the tasks of an array, have printed."""
        files = sorted({task["StdOut"] for task in self.show(job) if "StdOut" in task})
        return "".join(Path(f).read_text() for f in files if Path(f).is_file())

    def wait(self, job: str, *states: str, timeout: float = 180) -> None:
        """Wait until a job, or every task of an array, is in one of the states (COMPLETED if none).

        Raises:
            AssertionError: with the log, where it ends in another state or takes too long.
        """
        wanted, end = set(states or ("COMPLETED",)), time.monotonic() + timeout
        while not (now := self.states(job)) <= wanted:
            over = time.monotonic() > end or (now - wanted) & ENDED
            assert not over, f"job {job} is {', '.join(sorted(now))}:\n{self.story(job)}"
            time.sleep(0.2)

    def wait_for(self, job: str, text: str, timeout: float = 120) -> None:
        """Wait until a job has printed something."""
        end = time.monotonic() + timeout
        while text not in self.log(job):
            over = time.monotonic() > end or self.states(job) <= ENDED
            assert not over, f"job {job} never said {text!r}:\n{self.story(job)}"
            time.sleep(0.2)

    def story(self, job: str) -> str:
        """The end of a job's log, and what the controller noted about it: for error messages."""
        noted = (self.folder / "slurmctld.log").read_text().splitlines()
        number = job.split("_")[0]
        return "\n".join([self.log(job)[-4000:], *[x for x in noted if f"JobId={number}" in x]])

    def signal(self, job: str, name: str) -> None:
        """Send a signal, such as USR1, to the steps of a job; not to its batch file."""
        self.call("scancel", f"--signal={name}", job)

    def cancel(self, job: str) -> None:
        """Take a job out of the queue, whatever its state."""
        self.call("scancel", job)

    def start_now(self, job: str) -> None:
        """Let a job that was requeued start; SLURM would let it wait for two minutes.

        Not at once: in the second in which it was killed a node would refuse it (its credential is
        revoked), and it would be FAILED.
        """
        self.wait(job, "PENDING", timeout=60)
        self.call("scontrol", "update", f"jobid={job}", "StartTime=now+2")

    @contextlib.contextmanager
    def preempting(self) -> Iterator[str]:
        """Both nodes are wanted by an urgent job, as long as the context lasts."""
        urgent = ["--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null"]
        job = self.call(
            "sbatch", "--parsable", *urgent, "--wrap=sleep 600", cwd=self.folder
        ).strip()
        try:
            yield job
        finally:
            self.cancel(job)

    # -- daemons ------------------------------------------------------------------------------------

    def start(self, grace_seconds: int = 10) -> None:
        """Start munge, the controller and both nodes, and wait until the nodes are idle.

        Raises:
            RuntimeError: they do not come up; with the ends of their logs.
        """
        sweep()
        (self.folder / "owner").write_text(str(os.getpid()))
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        names = {"host": socket.gethostname(), "user": getpass.getuser(), "folder": self.folder}
        self.conf.write_text(CONF.format(ports=free_ports(3), grace=grace_seconds, **names))
        for i in range(4):
            (self.folder / f"gpu{i}").touch()
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-3]\n")
        own = ("key", "socket", "pid", "log", "seed")
        files = [f"--{n}{'' if n == 'socket' else '-file'}={self.folder}/munge.{n}" for n in own]
        try:
            self.call("munged", "--force", *files)
            self.call("slurmctld", "-c", "-f", str(self.conf))
            for node in ("n1", "n2"):
                self.call("slurmd", "-f", str(self.conf), "-N", node)
            self.wait_until_idle()
        except Exception as error:
            logs = {f.name: f.read_text()[-1500:] for f in sorted(self.folder.glob("*.log"))}
            self.stop()
            told = "\n".join(f"-- {name}\n{text}" for name, text in logs.items())
            raise RuntimeError(f"the test cluster does not start: {error}\n{told}") from error

    def wait_until_idle(self, timeout: float = 60) -> None:
        """Wait until no job is on either node."""
        end = time.monotonic() + timeout
        while (said := self.nodes()) != ["idle", "idle"]:
            assert time.monotonic() < end, f"the nodes are {' and '.join(said) or 'not there'}"
            time.sleep(0.2)

    def nodes(self) -> list[str]:
        """The states of the nodes; none while the controller does not answer."""
        command = ["sinfo", "--noheader", "--partition=main", "--Node", "--format=%T"]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        return done.stdout.split()

    def stop(self) -> None:
        """End all jobs and daemons, and remove the folder."""
        remove(self.folder)


def missing() -> list[str]:
    """The programs of SLURM that are not installed here."""
    wanted = (*DAEMONS, "sbatch", "srun", "scontrol")
    return [name for name in wanted if not shutil.which(name, path=SBIN)]


def free_ports(n: int) -> list[int]:
    """Ports that nothing listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def sweep() -> None:
    """Remove what test runs that were killed have left: their daemons, jobs and folders."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder / "owner"
        if owner.is_file() and not Path("/proc", owner.read_text()).exists():
            remove(folder)


def remove(folder: Path) -> None:
    """End every process of a cluster, known by its folder, and remove the folder."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_of(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        end = time.monotonic() + 5
        while processes_of(folder) and time.monotonic() < end:
            time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: Path) -> list[int]:
    """Daemons of a cluster, the keepers of its jobs, and the jobs: all have its SLURM_CONF."""
    mark, found = f"SLURM_CONF={folder}/slurm.conf".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            alive = not (process / "stat").read_text().rpartition(")")[2].startswith(" Z")
            if alive and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found
