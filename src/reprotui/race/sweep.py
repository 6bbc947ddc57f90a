"""Test the hosts of a partition: each trains the same small load, and must give the bits of a reference host.

The directory of a sweep is a runs directory: the run of the reference host, and a race for each host, whose A is a copy of it.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprotui.compare.runs import open_run
from reprotui.errors import BadInputError, CannotTellError, ReprotuiError
from reprotui.experiments.discovery import find_experiment, resolve_configs
from reprotui.manifest import Membership
from reprotui.race.launch import Worker
from reprotui.race.prepare import Request, experiment_manifest, prepare_run, write_race
from reprotui.race.slurm import Queue, SlurmLauncher, ask
from reprotui.race.start import start, stop
from reprotui.race.tolerance import compare_within
from reprotui.run_directory import RunDirectory, create_directory, read_json, write_json

REFERENCE = "reference"
_USABLE = ("idle", "mixed", "allocated", "completing")
CALIBRATION_STEPS = 60
LEAST_STEPS = 20


@dataclass(frozen=True)
class Hosts:
    """The hosts that can be tested, in the order of their names, and those that cannot, with the state that Slurm gives them."""

    usable: tuple[str, ...]
    left_out: Mapping[str, str]


def hosts_of(partition: str | None) -> Hosts:
    """Return the hosts of a partition, of the default one where it is None.

    Raises:
        BadInputError: there is no Slurm here, or no such partition.
    """
    answer = ask(["sinfo", "--noheader", "--Node", "--format=%P|%N|%T", *([f"--partition={partition}"] if partition else [])])
    rows = [line.split("|") for line in answer.splitlines() if line.count("|") == 2]
    named = [row for row in rows if partition or row[0].endswith("*")]
    if not named:
        raise BadInputError(f"Slurm has no partition {partition!r}" if partition else "Slurm has no default partition: name one")
    states = {host: state.rstrip("*~#!%$@^-+") for _, host, state in named}
    usable = tuple(host for host, state in states.items() if state in _USABLE)
    return Hosts(usable, {host: state for host, state in states.items() if host not in usable})


def chosen(found: Hosts, names: Sequence[str], reference: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the reference host and all that are held against it, the reference too: it must agree with itself.

    Raises:
        BadInputError: a host is not there, or cannot be used.
    """
    for name in (*names, *([reference] if reference else [])):
        if name not in found.usable:
            state = found.left_out.get(name)
            raise BadInputError(f"{name} is {state}: it cannot be tested" if state else f"the partition has no host {name}")
    hosts = tuple(dict.fromkeys(names)) or found.usable
    if not hosts:
        raise BadInputError(
            f"no host of the partition can be used: {', '.join(f'{a} is {b}' for a, b in found.left_out.items())}"
        )
    first = reference or hosts[0]
    return first, hosts


class Sweep:
    """A sweep that runs.

    Args:
        request: the runs directory, the sweep's name, what is recorded.
        experiment: the name of the load, one of the built-in experiments or a file; its overrides.
        options: of sbatch, for each job.
        reference, hosts: see `chosen`.

    Attributes:
        path: the directory of the sweep.
        jobs: what was started, by host; the run of the reference under `REFERENCE`.
    """

    def __init__(
        self, request: Request, experiment: tuple[str | None, Mapping[str, Any]], options: Mapping[str, str], reference: str,
        hosts: Sequence[str],
    ) -> None:  # fmt: skip
        self._reference, (name, self._overrides) = find_experiment(experiment[0]), experiment
        self._options, self._on, self.hosts = options, reference, tuple(hosts)
        resolve_configs(self._reference, [dict(self._overrides)])  # what cannot be is said before anything is made
        self.path = create_directory(request.runs, request.name, f"sweep-{name or self._reference.name}")
        self._request = request
        self.jobs: dict[str, Worker] = {}
        self._left: set[str] = set(hosts)
        self._queue = Queue()

    def calibrate(self, seconds: float) -> Worker:
        """Start a short run on the reference host, by whose pace `steps_for` tells how many steps take so many seconds."""
        run = self._prepared("calibration", {"steps": CALIBRATION_STEPS})
        self._seconds, self._calibration = seconds, run
        return self._start(run, self._on)

    def steps_for(self) -> int:
        """Return how many steps take the time that was asked for, once the calibration has ended; it is removed.

        Raises:
            CannotTellError: it did not train to its end.
        """
        from reprotui.race.listing import Listing

        entry = Listing(self.path).entry(self._calibration.path)
        rate = entry.members[0].rate if entry and entry.members else None
        if rate is None or entry is None or entry.members[0].step != CALIBRATION_STEPS:
            log = " / ".join(self._calibration.log_tail(3)) or "it ended without a word"
            raise CannotTellError(f"the reference host {self._on} did not train: {log} (in {self._calibration.path})")
        shutil.rmtree(self._calibration.path)
        return max(LEAST_STEPS, round(rate * self._seconds))

    def begin(self, steps: int | None) -> None:
        """Submit the run of the reference host and one for each host.

        Raises:
            BadInputError: Slurm refuses one; those before it are ended.
        """
        overrides = {**self._overrides, **({"steps": steps} if steps else {})}
        try:
            self.jobs[REFERENCE] = self._start(self._prepared(REFERENCE, overrides), self._on)
            for host in self.hosts:
                self.jobs[host] = self._start(self._raced(host, overrides), host)
        except ReprotuiError:
            stop(self.jobs, seconds=0)
            if not self.jobs:
                shutil.rmtree(self.path)
            raise

    def look(self) -> bool:
        """Judge what has ended since the last look; say whether all has."""
        if self.jobs[REFERENCE].poll() is None:
            return False
        for host in sorted(self._left):
            if self.jobs[host].poll() is not None:
                self._judge(host)
                self._left.discard(host)
        return not self._left

    def _prepared(self, name: str, overrides: Mapping[str, Any]) -> RunDirectory:
        request = Request(self.path, name, self._request.command, self._request.recording)
        return prepare_run(request, self._reference, dict(overrides))

    def _raced(self, host: str, overrides: Mapping[str, Any]) -> RunDirectory:
        """Make the race of a host: A stands for the reference until that has ended."""
        path = self.path / host
        path.mkdir()
        config = resolve_configs(self._reference, [dict(overrides)])[0]
        manifests = {
            label: experiment_manifest(
                self._request, self._reference, config, f"{host}/{label}", race=Membership(host, label)
            )
            for label in "ab"
        }  # fmt: skip
        return write_race(path, manifests)[1]

    def _start(self, run: RunDirectory, host: str) -> Worker:
        launcher = SlurmLauncher({**self._options, "nodes": "1", "ntasks": "1", "nodelist": host}, queue=self._queue)
        return next(iter(start([(host, run)], launch=launcher).values()))

    def _judge(self, host: str) -> None:
        """Put the reference's run into a host's race, and keep the verdict."""
        path, source = self.path / host, self.path / REFERENCE
        temporary = path / ".a"
        shutil.copytree(source, temporary)
        shutil.rmtree(path / "a")
        temporary.rename(path / "a")
        try:
            verdict = compare_within(open_run(path / "a", "A"), open_run(path / "b", "B"), None)
        except ReprotuiError:
            return  # the list says why it cannot be read
        race = read_json(path / "race.json")
        write_json(path / "race.json", {**race, "verdicts": [verdict.to_json()]})
