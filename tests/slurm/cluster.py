"""A real Slurm of one node on this machine: munged, slurmctld and slurmd, on 127.0.0.1 only.

Everything lies in one folder: configuration, key, sockets, state, logs. Nothing outside of it is
changed. There are neither cgroups nor accounting, so a process whose parents died outlives its job.
"""

import grp
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
# sacct must fail, as on a cluster without accounting, and not look for a configuration elsewhere.
ASKED = (*COMMANDS, "sacct", "sacctmgr", "sshare")
PLUGINS = ("snakemake_executor_plugin_slurm", "snakemake_executor_plugin_slurm_jobstep")
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing() -> str:
    """Return the reason why no Slurm can be started here; nothing if it can."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "a Slurm for tests needs Linux and root: slurmd starts jobs as their users"
    absent = [name for name in (*DAEMONS, *COMMANDS) if shutil.which(name, path=SYSTEM) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurm-wlm munge"
    plugins = [name for name in PLUGINS if importlib.util.find_spec(name) is None]
    return f"no {', '.join(plugins)}: pip install 'rift[slurm]'" if plugins else ""


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for a condition, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} seconds in vain for {what}"
        time.sleep(0.1)
    return value


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """A Slurm whose only node claims to have some CPUs, memory and GPUs.

    It looks at the memory of jobs every second, and cancels those that use more than theirs.

    Attributes:
        folder: folder of everything that belongs to it, which is removed at the end.
        environment: environment of programs that use it.
    """

    def __init__(
        self,
        *,
        cpus: int = 2,
        memory_mb: int = 32000,
        gpus: int = 1,
        grace_seconds: int = 10,
    ) -> None:
        # pytest's own folders are closed to the user munge, and too long for the path of a socket.
        folder = self.folder = Path(tempfile.mkdtemp(prefix="rift-slurm-"))
        self.configuration = folder / "slurm.conf"
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(self.configuration),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        }
        self._node = socket.gethostname().partition(".")[0]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._claims = {"CPUs": cpus, "RealMemory": memory_mb}
        self._gpus = gpus
        self._grace = grace_seconds

    def __enter__(self) -> "Cluster":
        for name in ("log", "run", "state", "spool", "munge", "bin", "gpu"):
            (self.folder / name).mkdir()
        # munged refuses a key that others may read, but all must reach its socket.
        self.folder.chmod(0o755)
        self._configure()
        self._wrap_commands()
        try:
            self._start_munged()
            self._start("slurmctld", "-D", "-f", str(self.configuration))
            until(lambda: self.says("scontrol", "ping").count("is UP"), 30, "slurmctld")
            self._start("slurmd", "-D", "-f", str(self.configuration))
            until(self.takes_jobs, 60, "the node")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def says(self, *command: str) -> str:
        """Return the output of a command of Slurm; nothing if it fails."""
        answer = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return answer.stdout if answer.returncode == 0 else ""

    def takes_jobs(self) -> bool:
        """Return whether the node is up."""
        state = self.says("sinfo", "--noheader", "--Node", "--format", "%T").strip()
        return state in ("idle", "mixed", "allocated", "completing")

    def jobs(self, *states: str) -> dict[str, str]:
        """Return the numbers and comments of the jobs in some states.

        Args:
            *states: states of Slurm; none for all jobs that have not ended.
        """
        chosen = ["--states", ",".join(states)] if states else []
        lines = self.says("squeue", "--noheader", "--format", "%i %k", *chosen).splitlines()
        pairs = (line.strip().partition(" ") for line in lines)
        return {number: comment for number, _, comment in pairs}

    def breaks(self) -> None:
        """Break the node for a moment: its jobs are killed, and start again.

        Slurm would wait for two minutes until it starts them again. Until the node has noticed the
        end of the killed ones, it takes them for duplicates, and is drained. It looks for their end
        every ten seconds.
        """
        killed = set(self.jobs("RUNNING"))
        self.says("scontrol", "update", f"NodeName={self._node}", "State=DOWN", "Reason=test")
        until(self.takes_jobs, 60, "the node")
        until(lambda: not self._steps(), 60, "the end of its jobs")

        def started_again() -> bool:
            time.sleep(2)
            if not self.takes_jobs():
                self.says("scontrol", "update", f"NodeName={self._node}", "State=RESUME")
            for job in killed & set(self.jobs("PENDING")):
                self.says("scontrol", "release", job)
                self.says("scontrol", "update", f"JobId={job}", "StartTime=now")
            return killed <= self._steps()

        until(started_again, 300, "the next start of its jobs")

    def _steps(self) -> set[str]:
        """Return the numbers of the jobs that have programs of Slurm on the node."""
        paths = (self.folder / "spool").glob(f"{self._node}_[0-9]*.*")
        return {path.name.removeprefix(f"{self._node}_").partition(".")[0] for path in paths}

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        return "\n".join(path.read_text()[-2000:] for path in self.folder.glob("log/*.log"))

    def stop(self) -> None:
        """Cancel all jobs, and end the daemons and all processes that jobs left behind."""
        if "slurmd" in self._processes:
            self.says("scancel", "--user", "root")
            end = time.monotonic() + self._grace + 15
            while self.jobs() and time.monotonic() < end:
                time.sleep(0.2)
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        for number in self._left_over():
            os.kill(number, signal.SIGKILL)

    def processes(self, word: str) -> list[int]:
        """Return the processes of jobs whose command line contains a word."""
        return [
            number
            for number in self._left_over()
            if word.encode() in _read(Path(f"/proc/{number}/cmdline"))
        ]

    def _left_over(self) -> list[int]:
        """Return the processes of jobs: they know this cluster, and most know their job."""
        own = f"SLURM_CONF={self.configuration}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            variables = _read(folder / "environ").split(b"\0")
            if own not in variables or int(folder.name) == os.getpid():
                continue
            in_job = any(each.startswith(b"SLURM_JOB_ID=") for each in variables)
            if in_job or _read(folder / "comm").strip() == b"slurmstepd":
                found.append(int(folder.name))
        return found

    def _start(self, name: str, *words: str) -> None:
        program = shutil.which(name, path=SYSTEM)
        assert program is not None
        with (self.folder / "log" / f"{name}.out.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [*self._prefix(name), program, *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _prefix(self, name: str) -> list[str]:
        if name != "munged":
            return []
        return ["setpriv", "--reuid", "munge", "--regid", "munge", "--clear-groups"]

    def _start_munged(self) -> None:
        munge = self.folder / "munge"
        key = munge / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        owner = pwd.getpwnam("munge").pw_uid, grp.getgrnam("munge").gr_gid
        for path in (munge, key):
            os.chown(path, *owner)
        files = {"socket": "socket", "key-file": "key", "seed-file": "seed", "pid-file": "pid"}
        words = [f"--{flag}={munge / name}" for flag, name in files.items()]
        self._start("munged", "--foreground", *words)
        until((munge / "socket").exists, 20, "munged")

    def _wrap_commands(self) -> None:
        """Write commands that know this cluster.

        Snakemake's plugin takes ``SLURM_CONF`` out of the environment of the srun within a job.
        """
        for name in ASKED:
            program = shutil.which(name, path=SYSTEM)
            if program is not None:
                script = self.folder / "bin" / name
                script.write_text(
                    f'#!/bin/sh\nSLURM_CONF={self.configuration} exec {program} "$@"\n'
                )
                script.chmod(0o755)

    def _configure(self) -> None:
        controller, node = free_ports(2)
        folder, name = self.folder, self._node
        claims = " ".join(f"{key}={value}" for key, value in self._claims.items())
        gres = f" Gres=gpu:{self._gpus}" if self._gpus else ""
        self.configuration.write_text(f"""ClusterName=test
SlurmctldHost={name}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/none
MinJobAge=86400
MpiDefault=none
DefMemPerCPU=1000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
KillWait={self._grace}
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={name} NodeAddr=127.0.0.1 {claims}{gres} State=UNKNOWN
PartitionName=main Nodes={name} Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
""")
        # A pretended GPU is another /dev/null: Slurm sets CUDA_VISIBLE_DEVICES as on any cluster.
        lines = []
        for number in range(self._gpus):
            device = folder / "gpu" / f"gpu{number}"
            os.mknod(device, 0o020666, os.makedev(1, 3))
            lines.append(f"NodeName={name} Name=gpu File={device}\n")
        (folder / "gres.conf").write_text("".join(lines))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
