"""All runs of a race as steps of one job of Slurm: one after the other on the same hosts, or with hosts exchanged.

A job whose steps are asked for one by one cannot be watched with Slurm's commands alone: a step that is over is forgotten at
once. So the job's script says in a file of the race what it begins and how that ended.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from reprotui.compare.swap import IN_TURN, MEANT, SWAP
from reprotui.errors import BadInputError
from reprotui.race.launch import Start, start_of
from reprotui.race.notes import write_note
from reprotui.race.slurm import Job, Queue, ask, checked, cpus, submit, wait_for
from reprotui.run_directory import RunDirectory, read_json, write_json

STEPS = "steps.txt"
"""What the job's script says: `began a`, `ended a 0`, `left b` for a run that was not to begin any more."""
LOG = "job.log"
NOT_TO_BEGIN = "not-to-begin"
"""A file in the directory of a run that is taken out before its turn."""

_SCRIPT = """\
#!/bin/sh
steps={steps}
over=
trap 'over=1' TERM
one() {{
    label=$1 run=$2
    shift 2
    if [ -n "$over" ] || [ -e "$run/{skip}" ]; then
        echo "left $label" >> "$steps"
        return
    fi
    echo "began $label" >> "$steps"
    "$@" >> "$run/worker.log" 2>&1
    echo "ended $label $?" >> "$steps"
}}
"""
_WHERE = "HOSTS-OF-THE-RUN"
_HALVES = """\
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=$(echo "$hosts" | head -n {nodes} | paste -s -d , -)
second=$(echo "$hosts" | tail -n {nodes} | paste -s -d , -)
"""


class Allocation:
    """One job and what its script has said of the runs in it.

    Args:
        queue: what asks Slurm.
        number: of the job.
        runs: by their labels in the file of steps, in the order of their turns.
        rounds: which of them train at once; each round waits for the one before.
    """

    def __init__(self, queue: Queue, number: str, runs: Mapping[str, RunDirectory], rounds: Sequence[Sequence[str]]) -> None:
        self._queue, self.number, self._runs, self._rounds = queue, number, runs, rounds
        self._off: set[str] = set()
        self._file = next(iter(runs.values())).path.parent / STEPS
        queue.add(number)

    @property
    def job(self) -> Job:
        """Return the job as Slurm knows it."""
        return self._queue.of(self.number)

    @property
    def silent(self) -> str:
        """Return why Slurm did not answer; empty where it did."""
        return self._queue.silent

    def told(self) -> dict[str, str]:
        """Return the last word about each run that the script said one about: `began`, `left`, or how it ended."""
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return {}
        words = [line.split() for line in lines]
        return {label: rest[0] if rest else word for word, label, *rest in (line for line in words if len(line) > 1)}

    def before(self, label: str) -> list[str]:
        """Return the runs for which a run waits."""
        at = next(number for number, labels in enumerate(self._rounds) if label in labels)
        told = self.told()
        return [other for other in (self._rounds[at - 1] if at else ()) if told.get(other, "began") == "began"]

    def take_out(self, label: str, kill: bool) -> None:
        """End a run, or leave it out where its turn has not come; the job too, once there is nothing left to do for it.

        Args:
            label: which.
            kill: at once; otherwise it finishes its step and seals.
        """
        self._off.add(label)
        told = self.told()
        begun = [name for name, word in told.items() if word == "began"]
        left = [name for name in self._runs if name not in self._off and told.get(name, "began") == "began"]
        if label not in begun:
            with suppress(OSError):
                (self._runs[label].path / NOT_TO_BEGIN).touch()
        if not left and (kill or not begun):
            ask(["scancel", self.number], missing_ok=True)
        elif label in begun and (step := self._step(label)):
            ask(["scancel", *([] if kill else ["--signal=TERM"]), step], missing_ok=True)

    def _step(self, label: str) -> str:
        """Return the number of the step in which a run trains; empty where there is none now."""
        answer = ask(["squeue", "--noheader", "--steps", f"--jobs={self.number}", "--format=%i|%j"], missing_ok=True)
        found = (line.strip().partition("|") for line in answer.splitlines())
        return next((number for number, _, name in found if name == label), "")


class StepOfJob:
    """A run that trains as a step of a job; what `race.start` asks of a process."""

    def __init__(self, allocation: Allocation, label: str) -> None:
        self._of, self._label = allocation, label
        self.number = allocation.number
        self.returncode: int | None = None

    @property
    def said(self) -> str:
        """Return what is worth knowing of it: what it waits for, why it ended badly, or that Slurm does not answer."""
        job, told = self._of.job, self._of.told().get(self._label)
        if told == "left":
            return f"job {self.number}: it was taken out before its turn"
        if job.over:
            return job.said(self.number) if told in (None, "began") else ""
        if told is None:
            before = [label.upper() for label in self._of.before(self._label)] if not job.waits else []
            return f"waits for {' and '.join(before)}" if before else job.said(self.number)
        return f"job {self.number}: {self._of.silent}" if self._of.silent else ""

    @property
    def waits(self) -> bool:
        """Say whether it has no host yet."""
        return self.poll() is None and (self._of.job.waits or self._label not in self._of.told())

    @property
    def gone(self) -> str:
        """Return how it ended, for the run that left no seal; empty while it has not."""
        return "" if (code := self.poll()) is None else self.said or f"its step of job {self.number} ended with exit code {code}"

    def poll(self) -> int | None:
        """Return the exit code of the step, 1 where the job ended without a word of it, None while it waits or runs."""
        if self.returncode is None:
            over = self._of.job.over  # before its words are read: a job that is over says no more
            told = self._of.told().get(self._label, "")
            if told.isdigit():
                self.returncode = int(told)
            elif told == "left" or over:
                self.returncode = 1
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; raise subprocess.TimeoutExpired where it does not come in time."""
        return wait_for(self.poll, f"{self._label} in job {self.number}", timeout)

    def terminate(self) -> None:
        """Ask the run to finish its step and seal; one whose turn has not come never begins."""
        if self.poll() is None:
            self._of.take_out(self._label, kill=False)

    def kill(self) -> None:
        """End it at once."""
        if self.poll() is None:
            self._of.take_out(self._label, kill=True)


class AllocationLauncher:
    """Starts all runs of a race as steps of one job, which has the hosts for itself until the last of them ended.

    Args:
        options: those of sbatch, for one run, see `SlurmLauncher`.
        swap: four runs, on two halves of twice as many hosts: A and B at once, then C on the hosts of B and D on those of A.
            Otherwise one after the other on all hosts, because a device must have one user.

    Raises:
        BadInputError: an option cannot be.
    """

    def __init__(self, options: Mapping[str, str], swap: bool = False) -> None:
        self._options, self._swap, self._queue = checked(options), swap, Queue()
        self._nodes = _count(options, "nodes")
        if swap and (tasks := options.get("ntasks")) is not None:
            self._options["ntasks"] = str(2 * _count({"ntasks": tasks}, "ntasks"))
        if swap:
            self._options["nodes"] = str(2 * self._nodes)

    def __call__(self, run: RunDirectory, environment: Mapping[str, str] | None = None) -> StepOfJob:
        """Submit a run alone."""
        return next(iter(self.together([("", run)], environment).values()))

    def together(
        self, runs: Sequence[tuple[str, RunDirectory]], environment: Mapping[str, str] | None = None
    ) -> dict[str, StepOfJob]:
        """Submit all runs of a race; return what they are by their labels.

        Raises:
            BadInputError: there is no Slurm here, or it refuses the job: the message is Slurm's own.
        """
        inherited = dict(os.environ if environment is None else environment)
        by_label = {run.path.name: run for _, run in runs}
        race = next(iter(by_label.values())).path.parent.absolute()
        starts = {label: start_of(run, environment) for label, run in by_label.items()}
        rounds = [["a", "b"], ["c", "d"]] if self._swap else [[label] for label in by_label]
        script = _SCRIPT.format(steps=shlex.quote(str(race / STEPS)), skip=NOT_TO_BEGIN)
        if self._swap:
            script += _HALVES.format(nodes=self._nodes)

        def line(label: str, where: str = "") -> str:
            run, words = shlex.quote(str(race / label)), shlex.join(self._words(label, starts[label], inherited))
            return f"one {label} {run} {words.replace(_WHERE, where)}"

        if self._swap:
            for (a, b), halves in zip(rounds, (("$first", "$second"), ("$second", "$first")), strict=True):
                here = [line(label, f'"{half}"') for label, half in zip((b, a), reversed(halves), strict=True)]
                # A signal breaks a `wait` off.
                script += f"{here[1]} &\na=$!\n{here[0]} &\nb=$!\n"
                script += 'while kill -0 "$a" 2>/dev/null || kill -0 "$b" 2>/dev/null; do wait; done\n'
        else:
            script += "".join(f"{line(label)}\n" for label in by_label)
        self._remember(race)
        number = submit(
            script, {**self._options, "job-name": f"reprotui-{race.name}", "chdir": next(iter(starts.values())).directory},
            race / LOG, inherited,
        )  # fmt: skip
        allocation = Allocation(self._queue, number, by_label, rounds)
        return {label: StepOfJob(allocation, run.path.name) for label, run in runs}

    def _remember(self, race: Path) -> None:
        """Let the race know how its runs share hosts, so that whoever opens it later knows."""
        told = {SWAP: MEANT} if self._swap else {IN_TURN: True}
        write_json(race / "race.json", {**read_json(race / "race.json"), **told})
        if self._swap:
            write_note(race / "c", "A's program on the hosts of B")
            write_note(race / "d", "B's program on the hosts of A")

    def _words(self, label: str, start: Start, inherited: Mapping[str, str]) -> list[str]:
        """Return the command of a step, with what its run has of its own around it: the job's variables are those of here."""
        changed = [f"{name}={value}" for name, value in start.variables.items() if inherited.get(name) != value]
        missing = [f"--unset={name}" for name in inherited if name not in start.variables]
        step = ["srun", f"--job-name={label}", f"--chdir={start.directory}", "--kill-on-bad-exit=1", *self._size()]
        return [*(["env", *missing, *changed] if missing or changed else []), *step, *start.words]

    def _size(self) -> list[str]:
        if not self._swap:
            return cpus(self._options)
        tasks = _count(self._options, "ntasks-per-node") * self._nodes
        if "ntasks" in self._options:
            tasks = int(self._options["ntasks"]) // 2
        return [*cpus(self._options), f"--nodes={self._nodes}", f"--ntasks={tasks}", f"--nodelist={_WHERE}"]


def _count(options: Mapping[str, str], name: str) -> int:
    text = options.get(name, "1")
    if not text.isdigit() or not int(text):
        raise BadInputError(f"{name} {text}: expected a whole number of at least 1, because each run gets as many")
    return int(text)
