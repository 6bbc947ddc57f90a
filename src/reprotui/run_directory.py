"""The run directory: manifest (`run.json`), commands (`commands.jsonl`), log, and whether its process is alive.

The directory is the only thing that a worker, a supervisor and a reader share; see ARCHITECTURE.md for its layout.
"""

import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.disk import full_disk
from reprotui.errors import BadInputError, CannotTellError
from reprotui.names import entry_of
from reprotui.regular import open_regular, read_regular

MANIFEST_VERSION = 1
RUNS_VARIABLE = "REPROTUI_RUNS"
PASSWORD_VARIABLE = "REPROTUI_KEY_PASSWORD"
"""Holds the password of an encrypted key: on a command line everybody could read it."""
COMMANDS = ("pause", "resume", "advance", "save", "stop")

_OBJECTS = (
    "checkpointing", "config", "config_phases", "devices", "environment", "experiment", "process", "program", "race",
    "recording", "restore", "result", "seal",
)  # fmt: skip
"""Entries of a manifest that are JSON objects, or absent."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def default_runs_directory() -> Path:
    """Return the runs directory: `$REPROTUI_RUNS`, else `./runs`."""
    return Path(os.environ.get(RUNS_VARIABLE) or "runs")


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically and durably: temporary file, fsync, rename, fsync of the directory.

    Raises:
        ValueError, TypeError: a value has no form in JSON (NaN, an infinity, an object), or none in UTF-8.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
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
    race = read_json(path / "race.json")
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

    def manifest(self) -> dict[str, Any]:
        """Read `run.json`; raise BadInputError where it is missing or damaged, CannotTellError where it is newer."""
        if not self.path.exists():
            raise BadInputError(f"{self.path} does not exist")
        if not self.manifest_path.exists():
            raise BadInputError(f"{self.path} is not a run directory: it has no run.json")
        manifest = read_json(self.manifest_path)
        version = manifest.get("manifest_version")
        if not isinstance(version, int):
            raise BadInputError(f"{self.manifest_path} is not a run's manifest: it has no manifest_version")
        if version > MANIFEST_VERSION:
            raise CannotTellError(
                f"{self.manifest_path} has manifest version {version}, this reprotui reads up to {MANIFEST_VERSION}: "
                "upgrade reprotui"
            )
        for name in _OBJECTS:
            if not isinstance(manifest.get(name), dict | None):
                raise BadInputError(f"{self.manifest_path} is damaged: {name!r} is no object, it was edited or half written")
        return manifest

    def update_manifest(self, **changes: Any) -> dict[str, Any]:
        """Merge top-level entries into `run.json`, atomically; return the whole."""
        manifest = {**self.manifest(), **changes}
        write_json(self.manifest_path, manifest)
        return manifest

    def send(self, command: str) -> None:
        """Append a command for the worker; the one channel by which anybody asks anything of it."""
        if command not in COMMANDS:
            raise BadInputError(f"unknown command {command!r}: expected one of {', '.join(COMMANDS)}")
        line = json.dumps({"time_ns": time.time_ns(), "command": command}) + "\n"
        with self.commands_path.open("a", encoding="utf-8") as file:
            file.write(line)

    def saves(self) -> bool:
        """Say whether the run obeys `save`: a script that records itself saves in its own way."""
        return bool(self.manifest().get("config_phases"))

    def log_tail(self, lines: int = 20) -> list[str]:
        """Return the last lines of the worker's log, without reading more than the end of it."""
        try:
            with open_regular(self.log_path) as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
                return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        except (OSError, BadInputError):
            return []

    def state(self, manifest: dict[str, Any] | None = None) -> str:
        """Say what the run is doing, from its manifest and its process.

        Returns:
            `finished`, `stopped` or `failed` (sealed, with that result); `created` (no worker yet), `running`;
            `killed` (its process is gone and left no seal); `elsewhere` (unsealed, its process is on another host).
        """
        manifest = self.manifest() if manifest is None else manifest
        result = manifest.get("result")
        if result:
            return str(result.get("state"))
        process = manifest.get("process")
        if not process:
            return "created"
        if process.get("host") != socket.gethostname():
            return "elsewhere"
        return "running" if process_alive(process) else "killed"

    def why(self, state: str, manifest: dict[str, Any]) -> str:
        """Say in one line why a run ended badly: what it said itself, or the disk that is full now; empty where nobody knows."""
        if state == "failed":
            lines = str((manifest.get("result") or {}).get("error") or "").strip().splitlines()
            return lines[0] if lines else ""
        return (full_disk(self.path) or "") if state == "killed" else ""


def planned_steps(manifest: dict[str, Any]) -> int | None:
    """Return how many steps a run is going to take; a script of somebody's own may not say, or mean something else."""
    steps = (manifest.get("config") or {}).get("steps")
    return steps if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0 else None


def this_process() -> dict[str, Any]:
    """Identify this process so that a reused process id is not taken for it."""
    pid = os.getpid()
    return {"pid": pid, "host": socket.gethostname(), "started": _start_time(pid)}


def process_alive(process: dict[str, Any]) -> bool:
    """Say whether the process that `this_process` described still runs on this host."""
    pid = process.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _start_time(pid) == process.get("started")


def _start_time(pid: int) -> str | None:
    """Return the kernel's start time of a process, None where the platform has no /proc or the process is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else fields[19]


class CommandFeed:
    """Read the commands appended since the last look; cheap enough to ask at every step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def poll(self) -> list[str]:
        """Return new commands in order; an unfinished last line waits for its end, an unreadable one is skipped."""
        try:
            if self._path.stat().st_size <= self._offset:
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        commands = []
        for line in complete.splitlines():
            try:
                command = json.loads(line)["command"]
            except (ValueError, KeyError, TypeError):
                continue
            if command in COMMANDS:
                commands.append(command)
        return commands
