"""Races of anybody's scripts: command lines in the place of experiments, observed or with a Recorder of their own."""

import hashlib
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import reprotui
from reprotui.environment import is_captured_variable
from reprotui.errors import BadInputError
from reprotui.race.launch import Recording
from reprotui.race.prepare import RACE_VERSION
from reprotui.race.versions import Version
from reprotui.run_directory import MANIFEST_VERSION, RunDirectory, create_directory, write_json

_ASSIGNMENT = re.compile(r"([A-Z_][A-Z0-9_]*)=(.*)", re.DOTALL)
_PYTHON = re.compile(r"python(\d+(\.\d+)?)?(\.exe)?")
_WITH_VALUE = ("-W", "-X")
"""Options of Python itself that take a word of their own."""
SITE = Path(__file__).resolve().parent.parent / "observe" / "site"
"""A folder whose sitecustomize.py begins to observe in whatever Python process finds it."""


@dataclass(frozen=True)
class Command:
    """A command line: its words, and variables set before them (`NPROC=1 python train.py`)."""

    words: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in self.variables.items()), shlex.join(self.words)])

    @property
    def script(self) -> tuple[str, list[str]]:
        """Return the script or module that is run, and its arguments; the first word where it is no Python command."""
        words = list(self.words)
        at = _target(words)
        if at is None:
            return words[0], words[1:]
        at += words[at] == "-m"
        return words[at], words[at + 1 :]

    @property
    def config(self) -> dict[str, Any]:
        """Return the settings that the command gives its script; of another command than Python's, the whole of it."""
        if _target(list(self.words)) is None:
            return {"command": shlex.join(self.words)}
        return arguments_as_config(self.script[1])


@dataclass(frozen=True)
class ScriptMember:
    """One run of a race of scripts: its label, what is run, and where."""

    label: str
    command: Command
    version: Version | None = None


def parse_command(text: str | Sequence[str]) -> Command:
    """Return the command that one word with spaces in it, or a list of words, stands for.

    Raises:
        BadInputError: quotes that do not end, or nothing to run.
    """
    try:
        words = shlex.split(text) if isinstance(text, str) else list(text)
    except ValueError as error:
        raise BadInputError(f"{text!r} cannot be read as a command: {error}") from None
    variables: dict[str, str] = {}
    while words and (match := _ASSIGNMENT.fullmatch(words[0])):
        variables[match[1]] = match[2]
        words = words[1:]
    if not words:
        raise BadInputError(f"{text!r} names nothing to run: expected a command such as `python train.py --seed 0`")
    return Command(tuple(words), variables)


def is_command(tokens: Sequence[str]) -> bool:
    """Say whether what stands behind `--a` is a command: one word with a space in it that is not key=value."""
    if len(tokens) != 1 or " " not in tokens[0]:
        return False
    first = tokens[0].split(maxsplit=1)[0]
    return "=" not in first or _ASSIGNMENT.match(first) is not None


def arguments_as_config(arguments: Sequence[str]) -> dict[str, Any]:
    """Return a script's arguments as a config: `--lr 0.1` and `--lr=0.1` by name, the others by number."""
    config: dict[str, Any] = {}
    words = list(arguments)
    position = 0
    while words:
        word = words.pop(0)
        if not word.startswith("-") or isinstance(_value(word), int | float):
            position += 1
            config[f"argument_{position}"] = _value(word)
            continue
        name, assigned, value = word.lstrip("-").partition("=")
        if not assigned and words and (not words[0].startswith("-") or isinstance(_value(words[0]), int | float)):
            config[name] = _value(words.pop(0))
        else:
            config[name] = _value(value) if assigned else True
    return config


def prepare_scripts(
    runs: Path, name: str | None, members: Sequence[ScriptMember], recording: Recording, options: Mapping[str, Any],
    command: list[str],
) -> tuple[Path, list[RunDirectory]]:  # fmt: skip
    """Create the directory of a race of scripts, with one run directory a member.

    Args:
        runs: the runs directory.
        name: the race's name, or None for one made from the script's name and the time.
        members: two or more; the first is the reference.
        recording: what is recorded of each.
        options: what the observers are asked to do, see `reprotui.observe.options.Options`.
        command: the command line that repeats the race.

    Raises:
        BadInputError: a script, an interpreter or the place cannot be used; nothing is left behind.
    """
    for member in members:
        _check(member)
    stem = Path(members[0].command.script[0]).stem
    path = create_directory(runs, name, re.sub(r"[^A-Za-z0-9._+-]", "-", stem).lstrip("._+-") or "script")
    try:
        directories = []
        for member in members:
            directory = RunDirectory(path / member.label)
            directory.path.mkdir()
            write_json(directory.manifest_path, _manifest(member, path, recording, options, command))
            directories.append(directory)
        race = {
            "race_version": RACE_VERSION, "name": path.name, "experiment": _experiment(members[0]), "command": command,
            "created_ns": time.time_ns(), "members": [member.label for member in members], "verdicts": None,
        }  # fmt: skip
        write_json(path / "race.json", race)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from None
    return path, directories


def start_script(run: RunDirectory, launch: Mapping[str, Any], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the command of a prepared run, in a session of its own, with all output in its log.

    Its environment is the one that is inherited: what makes the script irreproducible must be there to be found.
    """
    words, variables = observed(launch["words"])
    variables |= {
        **launch["variables"], "REPROTUI_RUN": str(run.path.absolute()), "REPROTUI_OBSERVE": launch["options"],
    }  # fmt: skip
    if "PYTHONPATH" in variables and environment.get("PYTHONPATH"):
        variables["PYTHONPATH"] += os.pathsep + environment["PYTHONPATH"]
    with run.log_path.open("ab") as log:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=launch["directory"],
            env={**environment, **variables},
        )  # fmt: skip


def observed(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return a command made to observe, and the variables that it needs.

    `python script.py` and `python -m module` begin with the observers in place. Any other command finds them by a
    sitecustomize on its search path: the first Python process that takes a step is the one that is recorded.
    """
    at = _target(list(words))
    if at is None:
        return list(words), {"PYTHONPATH": str(SITE)}
    return [interpreter(words[0]), *words[1:at], "-m", "reprotui.observe", *words[at:]], {}


def interpreter(word: str) -> str:
    """Return the Python that a word means; this one where there is no other by that name."""
    return shutil.which(word) or sys.executable


def _target(words: list[str]) -> int | None:
    """Return where the script, or `-m`, stands in a Python command; None for every other command."""
    if not _PYTHON.fullmatch(Path(words[0]).name):
        return None
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] != "-m":
        if words[at].startswith("-c") or words[at] == "-":
            return None
        at += 2 if words[at] in _WITH_VALUE else 1
    return at if at < len(words) - (words[at : at + 1] == ["-m"]) else None


def _check(member: ScriptMember) -> None:
    words = list(member.command.words)
    directory = member.version.directory if member.version else Path.cwd()
    at = _target(words)
    if at is None:
        if shutil.which(words[0], path=os.environ.get("PATH")) is None and not (directory / words[0]).is_file():
            raise BadInputError(f"{member.command}: there is no command {words[0]}")
        return
    if words[at] != "-m" and not (directory / words[at]).is_file():
        raise BadInputError(f"{member.command}: {directory / words[at]} does not exist")
    python = interpreter(words[0])
    if Path(python).absolute() != Path(sys.executable).absolute():
        done = subprocess.run([python, "-c", "import reprotui"], capture_output=True, stdin=subprocess.DEVNULL, cwd=directory)
        if done.returncode:
            raise BadInputError(f"{member.command}: {python} has no reprotui: install it there, beside what the script needs")


def _manifest(
    member: ScriptMember, path: Path, recording: Recording, options: Mapping[str, Any], command: list[str]
) -> dict[str, Any]:
    directory = member.version.directory if member.version else Path.cwd()
    named = {name: value for name, value in member.command.variables.items() if not is_captured_variable(name)}
    return {
        "manifest_version": MANIFEST_VERSION,
        "reprotui": reprotui.__version__,
        "name": f"{path.name}/{member.label}",
        "race": {"name": path.name, "label": member.label},
        "created_ns": time.time_ns(),
        "command": command,
        "working_directory": str(directory),
        "experiment": _experiment(member),
        "config": {**member.command.config, **named},
        "config_phases": {},
        "recording": recording.to_json(),
        "version": member.version.to_json() if member.version else None,
        "launch": {
            "words": list(member.command.words), "variables": dict(member.command.variables), "directory": str(directory),
            "options": json.dumps(dict(options)),
        },
    }  # fmt: skip


def _experiment(member: ScriptMember) -> dict[str, Any]:
    name = member.command.script[0]
    path = (member.version.directory if member.version else Path.cwd()) / name
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    return {"name": Path(name).stem, "path": str(path) if path.is_file() else None, "source_digest": digest}


def _value(word: str) -> int | float | str:
    """Return a number where a word is one that JSON can hold, so that 1e-2 and 0.01 are one setting."""
    for kind in (int, float):
        try:
            value = kind(word)
        except ValueError:
            continue
        return value if math.isfinite(value) else word
    return word
