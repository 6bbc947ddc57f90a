"""Make the directories of runs and races, with manifests from which a worker can start and anybody can repeat."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import reprotui
from reprotui.checkpoints.policy import Checkpointing
from reprotui.errors import BadInputError
from reprotui.experiments.discovery import ExperimentReference, ResolvedConfig, resolve_configs
from reprotui.race.launch import Recording
from reprotui.run_directory import MANIFEST_VERSION, RunDirectory, create_directory, write_json
from reprotui.trust import MARK, mark_of

RACE_VERSION = 1


@dataclass(frozen=True)
class Member:
    """One run of a race before it starts: its label and its overrides."""

    label: str
    overrides: dict[str, Any]


def prepare_race(
    runs: Path,
    name: str | None,
    reference: ExperimentReference,
    members: list[Member],
    recording: Recording,
    command: list[str],
    checkpointing: Checkpointing | None = None,
) -> tuple[Path, list[RunDirectory]]:
    """Validate all configs, then create the race's directory with one run directory a member.

    Args:
        runs: the runs directory.
        name: the race's name, or None for one made from experiment and time.
        reference: the experiment.
        members: two or more; the first is the reference, A.
        recording: what workers record.
        command: the command line that repeats the race.
        checkpointing: what every member saves; None saves on command alone.

    Raises:
        BadInputError: a config, the name or the place is unfit; nothing is left behind.
    """
    checkpointing = checkpointing or Checkpointing()
    configs = resolve_configs(reference, [member.overrides for member in members])
    for config in configs:
        checkpointing.check(config.values["steps"], 0)
    path = create_directory(runs, name, reference.name)
    try:
        directories = []
        for member, config in zip(members, configs, strict=True):
            directory = RunDirectory(path / member.label)
            directory.path.mkdir()
            of_race = {"name": path.name, "label": member.label}
            _write_manifest(directory, reference, config, recording, command, of_race, checkpointing, None)
            directories.append(directory)
        race = {
            "race_version": RACE_VERSION, "name": path.name, "experiment": reference.to_json(), "command": command,
            "created_ns": time.time_ns(), "members": [member.label for member in members], "verdicts": None,
        }  # fmt: skip
        write_json(path / "race.json", race)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from None
    return path, directories


def prepare_run(
    runs: Path,
    name: str | None,
    reference: ExperimentReference,
    overrides: dict[str, Any],
    recording: Recording,
    command: list[str],
    checkpointing: Checkpointing | None = None,
) -> RunDirectory:
    """Create the directory of a single run; see `prepare_race`."""
    checkpointing = checkpointing or Checkpointing()
    config = resolve_configs(reference, [overrides])[0]
    checkpointing.check(config.values["steps"], 0)
    return prepare_resolved(runs, name, reference.name, reference, config, recording, command, checkpointing, None)


def prepare_resolved(
    runs: Path, name: str | None, stem: str, reference: ExperimentReference, config: ResolvedConfig, recording: Recording,
    command: list[str], checkpointing: Checkpointing, restore: dict[str, Any] | None, working: str | None = None,
) -> RunDirectory:  # fmt: skip
    """Create the directory of a single run whose config is validated.

    Args:
        stem: what its name is made of where `name` is None.
        restore: the manifest's entry of a run that goes on from a checkpoint, see `reprotui.race.resume`.
        working: the folder to which paths in its config are relative; None for this one.
    """
    directory = RunDirectory(create_directory(runs, name, stem))
    try:
        _write_manifest(directory, reference, config, recording, command, None, checkpointing, restore, working)
    except OSError as error:
        shutil.rmtree(directory.path, ignore_errors=True)
        raise BadInputError(f"{directory.path} cannot be written: {error.strerror}") from None
    return directory


def _write_manifest(
    directory: RunDirectory, reference: ExperimentReference, config: ResolvedConfig, recording: Recording, command: list[str],
    race: dict[str, str] | None, checkpointing: Checkpointing, restore: dict[str, Any] | None,
    working: str | None = None,
) -> None:  # fmt: skip
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "reprotui": reprotui.__version__,
        "name": directory.path.name if race is None else f"{race['name']}/{race['label']}",
        "race": race,
        "created_ns": time.time_ns(),
        "command": command,
        "working_directory": working or str(Path.cwd()),
        "experiment": reference.to_json(),
        "config": config.values,
        "config_phases": config.phases,
        "recording": recording.to_json(),
        "checkpointing": checkpointing.to_json(),
    }
    if restore is not None:
        manifest["restore"] = restore
    write_json(directory.manifest_path, {**manifest, MARK: mark_of(manifest)})
