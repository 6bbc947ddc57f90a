"""The manifest of a run (`run.json`): what the run is, how it was started, and what came of it.

It may come from anybody and from other versions. So it is held against its form once, where it is read, and travels as a value.
What this version does not know stays in `document`, and is there again after every change.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from reprotui.document import UnfitError, entries
from reprotui.errors import BadInputError, CannotTellError
from reprotui.schedule import Checkpointing, Recording
from reprotui.version import __version__

MANIFEST_VERSION = 1
MARK = "mark"
"""The entry that says who made the manifest, see `reprotui.trust`."""


class Kind(StrEnum):
    """What a run trains: an experiment, by reprotui's own loop, or a script of somebody's own, which is only watched."""

    EXPERIMENT = "experiment"
    SCRIPT = "script"


class RunState(StrEnum):
    """What a run is doing, or how it ended."""

    CREATED = "created"
    """Its directory is there, and no process has written its name into it."""
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    KILLED = "killed"
    """Its process is gone and left no seal."""
    ELSEWHERE = "elsewhere"
    """It has no seal, and its process is on another host, where nobody here can ask for it."""
    GONE = "gone"
    """Its directory was there before."""
    UNREADABLE = "unreadable"

    @property
    def alive(self) -> bool:
        """Say whether the run goes on, as far as can be told from here."""
        return self in (RunState.CREATED, RunState.STARTING, RunState.RUNNING, RunState.PAUSED)

    @property
    def obeys(self) -> bool:
        """Say whether a command may reach the run: one on another host reads the directory that it shares with this one."""
        return self.alive or self is RunState.ELSEWHERE


@dataclass(frozen=True)
class Membership:
    """The race that a run is part of, and its label there."""

    name: str
    label: str


@dataclass(frozen=True)
class Experiment:
    """What is trained. `path` is the file of a user's experiment or script; `sources` has the digest of each file of a script."""

    name: str | None = None
    path: str | None = None
    source_digest: str | None = None
    sources: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Launch:
    """How a script is started: `options` is what its observers are asked to do, see `reprotui.observation`."""

    words: tuple[str, ...]
    variables: Mapping[str, Any]
    directory: str
    options: str


@dataclass(frozen=True)
class Process:
    """A process on a host; `started` tells it from a later one with its number.

    `ended_ns`: when whoever started it saw that it is gone without a seal, so that another host knows too; None otherwise.
    `ended` says how, where an engine told.
    """

    pid: int | None = None
    host: str | None = None
    started: str | None = None
    ended_ns: int | None = None
    ended: str | None = None


COMPONENTS = {
    "params": "parameters", "opt_state": "optimizer state", "extra": "extra state", "rng": "position of the random keys",
    "step": "step counter", "data": "position in the data",
}  # fmt: skip
"""What a checkpoint holds; `resume-check` leaves one out at a time."""


@dataclass(frozen=True)
class Restore:
    """The checkpoint that a run goes on from, and the run that saved it.

    Attributes:
        checkpoint: its path.
        step: the last update in it.
        content: its content digest.
        name, run, run_id: of the run that saved it: name, directory where that was to be found, and identity.
        history: the trace whose records come before this run's, up to `step`.
        changed: config fields that are other than that run's.
        omit: of `COMPONENTS` those that are deliberately left as they are at the beginning of a run.
        source_changed: the experiment's file is another than that run's.
    """

    checkpoint: str
    step: int
    content: str | None = None
    name: str | None = None
    run: str | None = None
    run_id: str | None = None
    history: str | None = None
    changed: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    source_changed: bool = False

    @property
    def begins_after(self) -> int:
        """Return the step that training begins after: without its step counter a run counts from 1 again."""
        return 0 if "step" in self.omit else self.step


@dataclass(frozen=True)
class Part:
    """A run whose records are part of those of another one, which was interrupted and went on; the first one begins after 0.

    Attributes:
        run: its directory.
        begins_after: the step of the run before whose state it was restored to.
        offset: what is added to its own numbers of steps.
        other, missing: paths of its first state that are not as they were after that step, or not there.
        rest: where it went on within a step, whose record would not tell all: how much of it was left (`1 of 2`).
    """

    run: str
    begins_after: int = 0
    offset: int = 0
    other: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    rest: str = ""


@dataclass(frozen=True)
class Result:
    """What came of a run; `error` says why it failed, `bad_input` that it was asked for something that cannot be.

    `final` are the last numbers: an object, where it is a worker's or a Recorder's. `torn`
    says of values that were not right when and where: their copies on several devices were not equal, or they were corrupt.
    `watched` counts what was recomputed, see `reprotui.compare.watched`.
    """

    state: RunState = RunState.UNREADABLE
    last_step: int | None = None
    error: str = ""
    bad_input: bool = False
    final: Any = None
    digests: Mapping[str, Any] = field(default_factory=dict)
    coverage: Mapping[str, Any] = field(default_factory=dict)
    torn: tuple[str, ...] = ()
    watched: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunManifest:
    """A run's manifest. What nobody wrote has its default: an empty object, or None.

    Attributes:
        config, config_phases: the settings, and for each the phases that it can change, as far as they are known.
        observation: how a script that was started by hand is observed, by name; of others `launch` says it.
        environment, devices, program: what the run found around it, see `reprotui.environment` and `reprotui.worker.program`.
        parts: the runs whose records this one is put together from, in order; empty for a run of its own.
        interrupted: it was meant to end before the run that it is compared with.
        rank, world_size, host, job: which process of a training that is spread over several this run is.
        local_trace: the folder on its host in which the trace grows, where it is copied from there.
        document: the whole of it, as it stands in the file.
    """

    kind: Kind
    document: Mapping[str, Any]
    name: str | None = None
    created_ns: int | None = None
    race: Membership | None = None
    command: tuple[str, ...] = ()
    working_directory: str | None = None
    experiment: Experiment = field(default_factory=Experiment)
    config: Mapping[str, Any] = field(default_factory=dict)
    config_phases: Mapping[str, Any] = field(default_factory=dict)
    recording: Recording = field(default_factory=Recording)
    checkpointing: Checkpointing = field(default_factory=Checkpointing)
    launch: Launch | None = None
    observation: Mapping[str, Any] = field(default_factory=dict)
    restore: Restore | None = None
    parts: tuple[Part, ...] = ()
    interrupted: bool = False
    process: Process | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    devices: Mapping[str, Any] = field(default_factory=dict)
    program: Mapping[str, Any] = field(default_factory=dict)
    data_digest: str | None = None
    result: Result | None = None
    seal: Mapping[str, Any] | None = None
    mark: str | None = None
    rank: int | None = None
    world_size: int | None = None
    host: str | None = None
    job: str | None = None
    local_trace: str | None = None

    @classmethod
    def new(cls, kind: Kind, name: str, command: Sequence[str], recording: Recording, **entries: Any) -> Self:
        """Return the manifest of a run that is about to begin; `entries` are the others, values or JSON, None is left out."""
        told = {key: value for key, value in entries.items() if value is not None}
        document = {
            "manifest_version": MANIFEST_VERSION, "reprotui": __version__, "kind": kind, "name": name,
            "created_ns": time.time_ns(), "command": command, "recording": recording, "config_phases": {}, **told,
        }  # fmt: skip
        return cls.parse(to_json(document), name)

    @classmethod
    def parse(cls, document: Mapping[str, Any], source: Path | str) -> Self:
        """Hold a JSON object against the form of a manifest.

        Args:
            document: what was read.
            source: where, for errors.

        Raises:
            BadInputError: it is no manifest, or an entry of it is not what is expected.
            CannotTellError: a newer reprotui wrote it.
        """
        version = document.get("manifest_version")
        if not isinstance(version, int):
            raise BadInputError(f"{source} is not a run's manifest: it has no manifest_version")
        if version > MANIFEST_VERSION:
            raise CannotTellError(
                f"{source} has manifest version {version}, this reprotui reads up to {MANIFEST_VERSION}: upgrade reprotui"
            )
        # Those of before do not say it: of an experiment is always known which phases its settings change, of a script never.
        kind = Kind.EXPERIMENT if document.get("config_phases") else Kind.SCRIPT
        try:
            return entries(
                cls,
                {
                    **document,
                    "kind": document.get("kind") or kind,
                    "result": document.get("result") or None,
                    "document": document,
                },
                "",
            )
        except UnfitError as error:
            raise BadInputError(f"{source} is damaged: {error}, it was edited or half written") from None

    @property
    def planned_steps(self) -> int | None:
        """Return how many steps the run is going to take; a script of somebody's own may not say, or mean something else."""
        steps = self.config.get("steps")
        return steps if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0 else None


def to_json(value: Any) -> Any:
    """Return a value of a manifest as JSON can hold it."""
    match value:
        case Mapping():
            return {key: to_json(entry) for key, entry in value.items()}
        case list() | tuple():
            return [to_json(entry) for entry in value]
    if dataclasses.is_dataclass(value):
        return {item.name: to_json(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return value


def assignment(name: str, value: Any) -> str:
    """Return a setting as the command line takes it: `lr=0.1`, `perturb=none`, `deterministic=true`."""
    return f"{name}={'none' if value is None else str(value).lower() if isinstance(value, bool) else value}"
