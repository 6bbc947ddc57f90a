"""Start a race: its directory, its workers, and the command line that does the same."""

import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.checkpoints.policy import Checkpointing
from reprotui.errors import WorkerFailedError
from reprotui.experiments.discovery import ExperimentReference
from reprotui.race.launch import Recording, start_worker
from reprotui.race.prepare import Member, prepare_race
from reprotui.run_directory import RunDirectory, default_runs_directory


@dataclass(frozen=True)
class Started:
    """A race whose workers run: its directory, and their processes by label (`A`, `B` …)."""

    path: Path
    processes: Mapping[str, subprocess.Popen[bytes]]


def start_race(
    runs: Path,
    name: str | None,
    reference: ExperimentReference,
    members: list[Member],
    recording: Recording,
    command: list[str],
    checkpointing: Checkpointing | None = None,
) -> Started:
    """Prepare a race (see `prepare_race`) and start a worker for each member; the runs outlive this process.

    Raises:
        BadInputError: a config, the name or the place is unfit; nothing is left behind.
        WorkerFailedError: the system refuses another process; those that were started are stopped.
    """
    return start_prepared(*prepare_race(runs, name, reference, members, recording, command, checkpointing))


def start_prepared(path: Path, directories: Sequence[RunDirectory]) -> Started:
    """Start the runs of a race whose directory is there; see `start_race`."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    for directory in directories:
        try:
            process = processes[directory.path.name.upper()] = start_worker(directory)
            # Somebody must wait for it to the end, whichever screen is closed: what nobody waits for stays a zombie.
            threading.Thread(target=process.wait, name=f"reprotui-{process.pid}", daemon=True).start()
        except OSError as error:
            for process in processes.values():
                process.terminate()
            raise WorkerFailedError(f"the worker of {directory.path} cannot be started: {error.strerror or error}") from None
    return Started(path, processes)


def race_command(
    experiment: str, overrides: Sequence[Mapping[str, Any]], name: str | None = None, runs: Path | None = None,
    recording: Mapping[str, str] | None = None,
) -> list[str]:  # fmt: skip
    """Return the shortest command line that starts a race.

    Args:
        experiment: a built-in experiment, or the path of a file.
        overrides: what each run has other than the experiment's defaults.
        name: the race's name where it was chosen.
        runs: the runs directory; named where it is not the default one.
        recording: options such as `every` that are not the default.
    """
    shared = {key: value for key, value in overrides[0].items() if all(key in item and item[key] == value for item in overrides)}
    own = [[_pair(key, value) for key, value in item.items() if key not in shared] for item in overrides]
    command = ["reprotui", "race", experiment, *(_pair(key, value) for key, value in shared.items())]
    if any(own):
        # One run that deviates is held against the experiment without it; more than two must all be named.
        for label, tokens in zip("abcdefgh", own, strict=False):
            if tokens or len(own) > 2:
                command += [f"--{label}", *tokens]
    elif len(own) > 2:
        command += ["--repeat", str(len(own))]
    if name:
        command += ["--name", name]
    for option, value in (recording or {}).items():
        command += [f"--{option}", value]
    if runs is not None and runs.absolute() != default_runs_directory().absolute():
        command += ["--runs-dir", str(runs)]
    return command


def _pair(key: str, value: Any) -> str:
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"{key}={text}"
