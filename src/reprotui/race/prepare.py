"""Make the directories of runs and races, with manifests from which a worker can start and anybody can repeat."""

import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError
from reprotui.experiments.discovery import ExperimentReference, ResolvedConfig, resolve_configs
from reprotui.manifest import MARK, Kind, Membership, Restore, RunManifest, to_json
from reprotui.run_directory import RunDirectory, create_directory, write_json
from reprotui.schedule import Checkpointing, Recording
from reprotui.trust import mark_of

RACE_VERSION = 1


@dataclass(frozen=True)
class Request:
    """What is asked of a run or a race, whatever it trains.

    Attributes:
        runs: the runs directory.
        name: its name there; None for one made from what is trained and the time.
        command: the command line that repeats it.
        recording, checkpointing: what every run records and saves; None for the defaults, or for those of the run that it goes
            on from.
    """

    runs: Path
    name: str | None
    command: Sequence[str]
    recording: Recording | None = None
    checkpointing: Checkpointing | None = None


@dataclass(frozen=True)
class Member:
    """One run of a race before it starts: its label and its overrides."""

    label: str
    overrides: dict[str, Any]


def prepare_race(request: Request, reference: ExperimentReference, members: Sequence[Member]) -> tuple[Path, list[RunDirectory]]:
    """Validate all configs, then create the race's directory with one run directory a member.

    Args:
        request: where, and what is recorded and saved.
        reference: the experiment.
        members: two or more; the first is the reference, A.

    Raises:
        BadInputError: a config, the name or the place is unfit; nothing is left behind.
    """
    configs = resolve_configs(reference, [member.overrides for member in members])
    for config in configs:
        (request.checkpointing or Checkpointing()).check(config.values["steps"], 0)
    path = create_directory(request.runs, request.name, reference.name)
    with whole_or_nothing(path):
        manifests = {
            member.label: experiment_manifest(
                request, reference, config, f"{path.name}/{member.label}", race=Membership(path.name, member.label)
            )
            for member, config in zip(members, configs, strict=True)
        }
        return path, write_race(path, manifests)


def write_race(path: Path, manifests: Mapping[str, RunManifest]) -> list[RunDirectory]:
    """Write the run directories of a race by their labels, the reference first, and what holds them together."""
    reference = next(iter(manifests.values()))
    directories = []
    for label, manifest in manifests.items():
        directory = RunDirectory(path / label)
        directory.path.mkdir()
        directory.write_manifest(manifest.document)
        directories.append(directory)
    race = {
        "race_version": RACE_VERSION, "name": path.name, "experiment": to_json(reference.experiment),
        "command": list(reference.command), "created_ns": time.time_ns(), "members": list(manifests), "verdicts": None,
    }  # fmt: skip
    write_json(path / "race.json", race)
    return directories


def prepare_run(request: Request, reference: ExperimentReference, overrides: dict[str, Any]) -> RunDirectory:
    """Create the directory of a single run; see `prepare_race`."""
    config = resolve_configs(reference, [overrides])[0]
    (request.checkpointing or Checkpointing()).check(config.values["steps"], 0)
    return write_run(request, reference, config, reference.name)


def write_run(
    request: Request, reference: ExperimentReference, config: ResolvedConfig, stem: str, restore: Restore | None = None,
    working_directory: str | None = None,
) -> RunDirectory:  # fmt: skip
    """Create the directory of a single run whose config is validated.

    Args:
        stem: what its name is made of where the request has none.
        restore: the checkpoint that it goes on from, see `reprotui.race.resume`.
        working_directory: the folder to which paths in its config are relative; None for this one.
    """
    directory = RunDirectory(create_directory(request.runs, request.name, stem))
    with whole_or_nothing(directory.path):
        manifest = experiment_manifest(
            request, reference, config, directory.path.name, restore=restore, working_directory=working_directory
        )
        directory.write_manifest(manifest.document)
    return directory


def experiment_manifest(
    request: Request, reference: ExperimentReference, config: ResolvedConfig, name: str, **entries: Any
) -> RunManifest:
    """Return the manifest of a run that trains an experiment, with the mark of who makes it."""
    told = {
        "working_directory": str(Path.cwd()), "experiment": reference.recorded, "config": config.values,
        "config_phases": config.phases, "checkpointing": request.checkpointing or Checkpointing(),
    }  # fmt: skip
    given = {key: value for key, value in entries.items() if value is not None}
    return marked(RunManifest.new(Kind.EXPERIMENT, name, request.command, request.recording or Recording(), **{**told, **given}))


def marked(manifest: RunManifest) -> RunManifest:
    """Return the manifest of a run that is made here and now with the mark of who makes it."""
    return RunManifest.parse({**manifest.document, MARK: mark_of(manifest)}, str(manifest.name))


@contextmanager
def whole_or_nothing(path: Path) -> Generator[None]:
    """Remove a directory that was just made where it cannot be written."""
    try:
        yield
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from None
