"""The run directory: manifest (`run.json`), commands (`commands.jsonl`), log, and what its process is doing.

The directory is the only thing that a worker, a supervisor and a reader share; see ARCHITECTURE.md for its layout.
"""

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from reprotui.disk import full_disk
from reprotui.errors import BadInputError, CannotTellError
from reprotui.manifest import Process, RunManifest, RunState, to_json
from reprotui.names import entry_of
from reprotui.regular import open_regular, read_regular

REQUEUE = "REPROTUI_REQUEUE"
"""Set for a worker whose job goes back into the queue when it is told to make room."""
RUNS_VARIABLE = "REPROTUI_RUNS"
PASSWORD_VARIABLE = "REPROTUI_KEY_PASSWORD"
"""Holds the password of an encrypted key: on a command line everybody could read it."""
COMMANDS = ("pause", "resume", "advance", "save", "stop")
LEAD = "lead"
"""The command of whoever leads several runs: go on to a step and wait there, without a word, for the next one."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def default_runs_directory() -> Path:
    """Return the runs directory: `$REPROTUI_RUNS`, else `./runs`."""
    return Path(os.environ.get(RUNS_VARIABLE) or "runs")


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically and durably.

    Raises:
        ValueError, TypeError: a value has no form in JSON (NaN, an infinity, an object), or none in UTF-8.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically and durably: temporary file, fsync, rename, fsync of the directory."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BadInputError: the file is missing, unreadable, not JSON, or not an object.
    """
    try:
        value = json.loads(read_regular(path).decode())
    except FileNotFoundError:
        raise BadInputError(f"{path} does not exist") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, or a number of thousands of digits
        raise BadInputError(f"{path} is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise BadInputError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def check_name(name: str) -> str:
    """Return a run's or race's name if it can be a directory of the runs directory; raise BadInputError otherwise."""
    if not _NAME.fullmatch(name):
        raise BadInputError(f"{name!r} cannot be a name: use letters, digits and . _ + - only, at most 100, no leading dot")
    return name


def create_directory(runs: Path, name: str | None, stem: str) -> Path:
    """Create and return a new directory in `runs`.

    Args:
        runs: the runs directory, made if it does not exist.
        name: the name asked for, or None for `stem` with the date and time.

    Raises:
        BadInputError: `name` is taken or unfit, or the directory cannot be written.
    """
    candidates: Iterator[str]
    if name is not None:
        candidates = iter([check_name(name)])
    else:
        base = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        candidates = iter([base, *(f"{base}-{n}" for n in range(2, 1000))])
    try:
        runs.mkdir(parents=True, exist_ok=True)
        for candidate in candidates:
            try:
                (runs / candidate).mkdir()
            except FileExistsError:
                continue
            return runs / candidate
    except OSError as error:
        raise BadInputError(f"{runs} cannot be written: {error.strerror}; choose another with --runs-dir") from None
    raise BadInputError(f"{runs / str(name)} exists already: choose another --name, or delete it first")


def members_of(path: Path) -> list[tuple[str, Path]]:
    """Return (label, run directory) of a race's members.

    Raises:
        BadInputError: the directory is not a race, or names what does not lie in it.
    """
    return members_in(path, read_json(path / "race.json"))


def members_in(path: Path, race: Mapping[str, Any]) -> list[tuple[str, Path]]:
    """Return the same of a race whose `race.json` was read."""
    labels = race.get("members")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise BadInputError(f"{path / 'race.json'} is not a race: it names no members")
    return [(label, entry_of(path, label, str(path / "race.json"))) for label in labels]


def expand_races(paths: Iterable[Path]) -> list[Path]:
    """Return the paths with every race replaced by the run directories of its members."""
    expanded: list[Path] = []
    for path in paths:
        is_race = path.is_dir() and (path / "race.json").exists()
        expanded += [member for _, member in members_of(path)] if is_race else [path]
    return expanded


@dataclass(frozen=True)
class RunDirectory:
    """Paths and small files of one run."""

    path: Path

    @property
    def manifest_path(self) -> Path:
        return self.path / "run.json"

    @property
    def trace_path(self) -> Path:
        return self.path / "trace.db"

    @property
    def commands_path(self) -> Path:
        return self.path / "commands.jsonl"

    @property
    def log_path(self) -> Path:
        return self.path / "worker.log"

    def manifest(self) -> RunManifest:
        """Read `run.json`; raise BadInputError where it is missing or damaged, CannotTellError where it is newer."""
        path = self.manifest_path
        try:
            return RunManifest.parse(read_json(path), path)
        except BadInputError:
            if not self.path.exists():
                raise BadInputError(f"{self.path} does not exist") from None
            if not path.exists():
                raise BadInputError(f"{self.path} is not a run directory: it has no run.json") from None
            raise

    def update_manifest(self, **changes: Any) -> RunManifest:
        """Merge top-level entries, as values or as JSON, into `run.json`, atomically; return the whole.

        What another version wrote beside the fields of a value stays.
        """
        document = dict(self.manifest().document)
        for name, value in changes.items():
            before = document.get(name)
            kept = before if is_dataclass(value) and isinstance(before, Mapping) else {}
            document[name] = {**kept, **to_json(value)} if kept else to_json(value)
        return self.write_manifest(document)

    def write_manifest(self, document: Mapping[str, Any]) -> RunManifest:
        """Write a whole `run.json`, atomically; return it as it is read."""
        write_json(self.manifest_path, document)
        return RunManifest.parse(document, self.manifest_path)

    def note_end(self, how: str = "") -> None:
        """Note in `run.json` that the run's process is gone without a seal; to be called by whoever started it and saw it end.

        Args:
            how: how it ended, where that is certain wherever the process was; without it a process on this host is looked for.
        """
        with contextlib.suppress(BadInputError, CannotTellError, OSError):  # the directory may be gone; it is a note only
            manifest = self.manifest()
            process, state = manifest.process or Process(), self.state(manifest)
            over = manifest.result is None if how else state is RunState.KILLED
            if over and process.ended_ns is None:
                self.update_manifest(process=replace(process, ended_ns=time.time_ns(), ended=how or None))

    def send(self, command: str, to: int | None = None) -> None:
        """Append a command for the worker; the one channel by which anybody asks anything of it.

        Args:
            command: one of `COMMANDS`, or `LEAD`.
            to: the step that `advance` and `LEAD` go on to.
        """
        if command not in (*COMMANDS, LEAD):
            raise BadInputError(f"unknown command {command!r}: expected one of {', '.join(COMMANDS)}")
        where = {} if to is None else {"to": to}
        line = json.dumps({"time_ns": time.time_ns(), "command": command, **where}) + "\n"
        with self.commands_path.open("a", encoding="utf-8") as file:
            file.write(line)

    def log_tail(self, lines: int = 20) -> list[str]:
        """Return the last lines of the worker's log, without reading more than the end of it."""
        try:
            with open_regular(self.log_path) as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
                return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        except (OSError, BadInputError):
            return []

    def state(self, manifest: RunManifest | None = None) -> RunState:
        """Say what the run is doing, from its manifest and its process.

        Returns:
            Finished, stopped or failed (sealed, with that result); created (no worker yet), running; killed (its process is
            gone and left no seal); elsewhere (unsealed, its process is or was on another host, and nobody noted its end).
        """
        manifest = self.manifest() if manifest is None else manifest
        if manifest.result is not None:
            return manifest.result.state
        if manifest.process is None:
            return RunState.CREATED
        if manifest.process.ended_ns is not None:
            return RunState.KILLED
        if manifest.process.host != socket.gethostname():
            return RunState.ELSEWHERE
        return RunState.RUNNING if process_alive(manifest.process) else RunState.KILLED

    def why(self, state: RunState, manifest: RunManifest) -> str:
        """Say in one line why a run ended badly: what it said itself, or the disk that is full now; empty where nobody knows."""
        if state is RunState.FAILED:
            lines = manifest.result.error.strip().splitlines() if manifest.result else []
            return lines[0] if lines else ""
        if state is not RunState.KILLED:
            return ""
        process = manifest.process or Process()
        parts = [process.ended or full_disk(self.path) or ""]
        if manifest.local_trace and (seconds := manifest.recording.local_seconds):
            parts.append(
                f"its trace ends with the last copy, and one is made every {seconds:g} s; later records may still be in "
                f"{manifest.local_trace} on {process.host}"
            )
        return "; ".join(filter(None, parts))


def this_process() -> Process:
    """Identify this process so that a reused process id is not taken for it."""
    pid = os.getpid()
    return Process(pid, socket.gethostname(), _start_time(pid))


def process_alive(process: Process) -> bool:
    """Say whether the process that `this_process` described still runs on this host."""
    if process.pid is None:
        return False
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _start_time(process.pid) == process.started


def _start_time(pid: int) -> str | None:
    """Return the kernel's start time of a process, None where the platform has no /proc or the process is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else fields[19]
