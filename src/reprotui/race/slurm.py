"""Runs as jobs of Slurm: each is one job, and its log is the run's; the file system that all hosts share connects it with us.

Slurm's own commands are asked (sbatch, squeue, scancel): so a signal reaches the worker itself and not a process around it, and
nothing needs to be installed on the nodes besides what trains.
"""

import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprotui.errors import BadInputError, ReprotuiError, WorkerFailedError
from reprotui.race.launch import start_of
from reprotui.run_directory import REQUEUE, RunDirectory

LOOK_SECONDS = 1.0
"""How often the queue is asked, for all jobs together."""
ANSWER_SECONDS = 60.0
"""How long a command of Slurm's may take: a busy controller answers late."""
_OVER = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "REVOKED",
)  # fmt: skip
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
GONE = "GONE"
"""The state of a job that Slurm does not know any more."""
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
_OURS = ("output", "error", "open-mode", "chdir", "export", "job-name", "parsable", "wrap", "array", "requeue")
"""Options of sbatch that say how a run and its job belong together."""


@dataclass(frozen=True)
class Job:
    """What Slurm says of a job: its state, why it waits, and the nodes that it has."""

    state: str = "PENDING"
    reason: str = ""
    nodes: str = ""

    @property
    def over(self) -> bool:
        """Say whether none of its processes can be there any more."""
        return self.state in (*_OVER, GONE)

    @property
    def waits(self) -> bool:
        """Say whether it has no host, not yet or not any more."""
        return self.state in WAITING

    def said(self, number: str) -> str:
        """Return what is worth knowing of it: that it waits, or why it ended badly; empty otherwise."""
        if self.waits:
            return f"job {number} waits{f': {self.reason}' if self.reason else ''}"
        if not self.over or self.state == "COMPLETED":
            return ""
        where = f" on {self.nodes}" if self.nodes else ""
        return f"job {number}: {'Slurm does not know it any more' if self.state == GONE else f'{self.state}{where}'}"


class Queue:
    """The jobs of this process, asked for together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._looked = 0.0
        self.silent = ""
        """Why Slurm did not answer the last time; empty where it did."""

    def add(self, number: str) -> None:
        """Ask for one more job from now on."""
        with self._lock:
            self._jobs[number] = Job()

    def of(self, number: str) -> Job:
        """Return a job as it was at most `LOOK_SECONDS` ago, or when Slurm answered last."""
        with self._lock:
            waiting = [name for name, job in self._jobs.items() if not job.over]
            if waiting and time.monotonic() - self._looked >= LOOK_SECONDS:
                self._look(waiting)
                self._looked = time.monotonic()
            return self._jobs[number]

    def _look(self, numbers: Sequence[str]) -> None:
        words = ["squeue", "--noheader", "--states=all", "--format=%i|%T|%r|%N", f"--jobs={','.join(numbers)}"]
        try:
            answer = ask(words)
        except ReprotuiError as error:
            if "Invalid job id" not in str(error):
                self.silent = str(error)
            elif len(numbers) > 1:  # one that is forgotten hides the others
                for number in numbers:
                    self._look([number])
            else:
                self._jobs[numbers[0]] = Job(GONE)
            return
        self.silent = ""
        found = dict.fromkeys(numbers, Job(GONE))
        for line in answer.splitlines():
            number, state, reason, nodes = (*line.strip().split("|"), "", "", "")[:4]
            if number in found:
                found[number] = Job(state, "" if reason == "None" else reason, nodes)
        self._jobs |= found


def wait_for(poll: Callable[[], int | None], what: str, timeout: float | None) -> int:
    """Ask until there is an exit code, and return it; raise subprocess.TimeoutExpired where there is none in time."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while (code := poll()) is None:
        left = LOOK_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise subprocess.TimeoutExpired(what, timeout or 0.0)
        time.sleep(min(left, LOOK_SECONDS / 4))
    return code


class SlurmJob:
    """A run that Slurm starts, watches and ends; what `race.start` asks of a process.

    Args:
        queue: what asks Slurm.
        number: of the job.
        again: its run, where the job goes back into the queue when it is told to make room: a signal then means that.
    """

    def __init__(self, queue: Queue, number: str, again: RunDirectory | None = None) -> None:
        self._queue, self.number, self._again = queue, number, again
        self.returncode: int | None = None
        queue.add(number)

    @property
    def said(self) -> str:
        """Return what is worth knowing of the job: that it waits, why it ended badly, or that Slurm does not answer."""
        if said := self._queue.of(self.number).said(self.number):
            return said
        return f"job {self.number}: {self._queue.silent}" if self._queue.silent and self.returncode is None else ""

    @property
    def waits(self) -> bool:
        """Say whether the job has no host, not yet or not any more."""
        return self._queue.of(self.number).waits

    @property
    def gone(self) -> str:
        """Return how the job ended, for the run that left no seal; empty while it has not."""
        return (self.said or f"job {self.number} ended") if self.poll() is not None else ""

    def poll(self) -> int | None:
        """Return 0 where the job ended well, 1 where it did not, None while it waits or runs."""
        job = self._queue.of(self.number)
        if self.returncode is None and job.over:
            self.returncode = 0 if job.state == "COMPLETED" else 1
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; raise subprocess.TimeoutExpired where it does not come in time."""
        return wait_for(self.poll, f"job {self.number}", timeout)

    def terminate(self) -> None:
        """Ask the run to finish its step and seal; a job that waits is taken out of the queue."""
        if self.waits:
            self.kill()
        elif self._again is not None and self.poll() is None:
            self._again.send("stop")
        elif self.poll() is None:
            ask(["scancel", "--signal=TERM", self.number], missing_ok=True)  # its steps alone: srun would kill them

    def kill(self) -> None:
        """End the job at once."""
        if self.poll() is None:
            ask(["scancel", self.number], missing_ok=True)


class SlurmLauncher:
    """Starts runs as jobs.

    Args:
        options: those of sbatch, by their long names, such as `{"partition": "batch", "nodes": "2"}`; an empty value for an
            option that takes none.
        again: a job that is told to make room saves, goes back into the queue, and goes on in the same run; experiments only.
        queue: what asks Slurm for the jobs of several launchers together; None for one of its own.

    Raises:
        BadInputError: an option has no such form, or is one that reprotui sets itself.
    """

    def __init__(self, options: Mapping[str, str], again: bool = False, queue: Queue | None = None) -> None:
        self._requeues, self._options = again, checked(options)
        self._queue = queue or Queue()

    def __call__(self, run: RunDirectory, environment: Mapping[str, str] | None = None) -> SlurmJob:
        """Submit a prepared run.

        Raises:
            BadInputError: there is no Slurm here, or it refuses the job: the message is Slurm's own.
        """
        start = start_of(run, environment)
        variables = {**start.variables, **({REQUEUE: "1"} if self._requeues else {})}
        # A step, also of one process: it hears of a preemption at once, and not when the grace for it is over.
        words = ["srun", "--kill-on-bad-exit=1", *cpus(self._options), *start.words]
        own = {"job-name": f"reprotui-{run.path.parent.name}-{run.path.name}", "chdir": start.directory}
        script = f"#!/bin/sh\nexec {shlex.join(words)}\n"
        number = submit(script, {**self._options, **own}, run.log_path.absolute(), variables, self._requeues)
        return SlurmJob(self._queue, number, run if self._requeues else None)


def checked(options: Mapping[str, str]) -> dict[str, str]:
    """Return options of sbatch by their long names.

    Raises:
        BadInputError: one has no such form, or reprotui sets it itself.
    """
    for name in options:
        if not _OPTION.fullmatch(name):
            raise BadInputError(f"--slurm {name}: expected a long option of sbatch without its dashes, such as qos=high")
        if name in _OURS:
            raise BadInputError(f"--slurm {name}: reprotui sets this one itself")
    return dict(options)


def cpus(options: Mapping[str, str]) -> list[str]:
    """Return what srun must be told of processors: from 22.05 on it does not take them over from the job."""
    return [f"--cpus-per-task={options['cpus-per-task']}"] if "cpus-per-task" in options else []


def submit(script: str, options: Mapping[str, str], log: Path, variables: Mapping[str, str], again: bool = False) -> str:
    """Submit a job; return its number.

    Args:
        script: what it runs.
        options: of sbatch, by their long names.
        log: the file to which its output is appended.
        variables: the environment of the script.
        again: it may go back into the queue.

    Raises:
        BadInputError: there is no Slurm here, or it refuses the job: the message is Slurm's own.
    """
    chosen = [f"--{name}={value}" if value else f"--{name}" for name, value in options.items()]
    command = [
        "sbatch", "--parsable", "--export=ALL", "--requeue" if again else "--no-requeue", "--open-mode=append",
        f"--output={_literal(str(log))}", *chosen,
    ]  # fmt: skip
    try:
        answer = ask(command, script, variables)
    except WorkerFailedError as error:
        raise BadInputError(f"Slurm refuses the job: {error}") from None
    number = answer.strip().partition(";")[0]
    if not number.isdigit():
        raise BadInputError(f"sbatch did not answer with the number of a job: {answer.strip()[:200]!r}")
    return number


def _literal(path: str) -> str:
    """Return a path in which sbatch replaces nothing."""
    return path.replace("\\", "\\\\").replace("%", "%%")


def ask(words: Sequence[str], text: str = "", variables: Mapping[str, str] | None = None, missing_ok: bool = False) -> str:
    """Return what a command of Slurm's prints.

    Args:
        words: the command.
        text: what it reads.
        variables: its environment; None for this one.
        missing_ok: a job that is not there any more is no error.

    Raises:
        BadInputError: there is no such command here.
        WorkerFailedError: it fails, or does not answer; the message says how.
    """
    try:
        done = subprocess.run(
            words,
            input=text,
            env=variables,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise BadInputError(f"there is no {words[0]} here: Slurm's commands must be on PATH, as on a login node") from None
    except subprocess.TimeoutExpired:
        raise WorkerFailedError(f"{words[0]} did not answer within {ANSWER_SECONDS:.0f} s") from None
    except OSError as error:
        raise WorkerFailedError(f"{words[0]} cannot be started: {error.strerror or error}") from None
    if done.returncode and not missing_ok:
        lines = [line.removeprefix(f"{words[0]}: ").removeprefix("error: ") for line in done.stderr.splitlines() if line.strip()]
        raise WorkerFailedError("; ".join(lines[-2:]) or f"{words[0]} ended with exit code {done.returncode}")
    return done.stdout
