"""Races of anybody's scripts: command lines in the place of experiments, observed or with a Recorder of their own."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reprotui.commands import script_of, settings_of, target
from reprotui.environment import is_captured_variable
from reprotui.errors import BadInputError
from reprotui.manifest import Experiment, Kind, Launch, Membership, RunManifest
from reprotui.observation import OPTIONS_VARIABLE, RUN_VARIABLE, SITE, Options
from reprotui.race.prepare import Request, marked, whole_or_nothing, write_race
from reprotui.race.versions import Version
from reprotui.run_directory import RunDirectory, create_directory
from reprotui.schedule import Recording

_ASSIGNMENT = re.compile(r"([A-Z_][A-Z0-9_]*)=(.*)", re.DOTALL)


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
        return script_of(self.words)


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


def prepare_scripts(
    request: Request, members: Sequence[ScriptMember], options: Options, stem: str | None = None
) -> tuple[Path, list[RunDirectory]]:
    """Create the directory of a race of scripts, with one run directory a member.

    Args:
        request: where, and what is recorded of each.
        members: the first is the reference.
        options: what the observers are asked to do.
        stem: what the race's name begins with where the request has none; None for the script's name.

    Raises:
        BadInputError: a script, an interpreter or the place cannot be used; nothing is left behind.
    """
    for member in members:
        check_member(member)
    path = create_directory(request.runs, request.name, _stem(members[0].command, stem))
    with whole_or_nothing(path):
        return path, write_race(
            path,
            {member.label: _manifest(request, member, path.name, options, f"{path.name}/{member.label}") for member in members},
        )


def prepare_script(request: Request, command: Command, options: Options) -> RunDirectory:
    """Create the directory of a single run of a script.

    Args:
        request: where, and what is recorded.
        command: what is run.
        options: what the observers are asked to do.

    Raises:
        BadInputError: the script, the interpreter or the place cannot be used; nothing is left behind.
    """
    member = ScriptMember("", command)
    check_member(member)
    directory = RunDirectory(create_directory(request.runs, request.name, _stem(command)))
    with whole_or_nothing(directory.path):
        directory.write_manifest(_manifest(request, member, None, options, directory.path.name).document)
    return directory


def start_of_script(
    run: RunDirectory, manifest: RunManifest, environment: Mapping[str, str]
) -> tuple[list[str], str, dict[str, str]]:
    """Return the command of a prepared run, its folder, and its variables.

    Its environment is the one that is inherited: what makes the script irreproducible must be there to be found.

    Raises:
        BadInputError: the run was started by hand.
    """
    launch = manifest.launch
    if launch is None:
        raise BadInputError(f"{run.path} was started by hand: its manifest does not say how to start it")
    words, variables = observed(launch.words)
    variables |= {**launch.variables, RUN_VARIABLE: str(run.path.absolute()), OPTIONS_VARIABLE: launch.options}
    if "PYTHONPATH" in variables and environment.get("PYTHONPATH"):
        variables["PYTHONPATH"] += os.pathsep + environment["PYTHONPATH"]
    return words, launch.directory, {**environment, **variables}


def observed(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return a command made to observe, and the variables that it needs.

    `python script.py` and `python -m module` begin with the observers in place. Any other command finds them by a
    sitecustomize on its search path: the first Python process that takes a step is the one that is recorded.
    """
    at = target(words)
    if at is None:
        return list(words), {"PYTHONPATH": str(SITE)}
    return [interpreter(words[0]), *words[1:at], "-m", "reprotui.observe", *words[at:]], {}


def interpreter(word: str) -> str:
    """Return the Python that a word means; this one where there is no other by that name."""
    return shutil.which(word) or sys.executable


def check_member(member: ScriptMember) -> None:
    """Raise BadInputError where a run's command cannot be started: no such command, script or interpreter with reprotui."""
    words = list(member.command.words)
    directory = member.version.directory if member.version else Path.cwd()
    at = target(words)
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


def _stem(command: Command, stem: str | None = None) -> str:
    """Return what a name begins with: of the script, where no other is given, with the letters that a directory may have."""
    return re.sub(r"[^A-Za-z0-9._+-]", "-", Path(command.script[0]).stem if stem is None else stem).lstrip("._+-") or "script"


def _manifest(request: Request, member: ScriptMember, race: str | None, options: Options, name: str) -> RunManifest:
    command, directory = member.command, member.version.directory if member.version else Path.cwd()
    named = {name: value for name, value in command.variables.items() if not is_captured_variable(name)}
    return marked(RunManifest.new(
        Kind.SCRIPT, name, request.command, request.recording or Recording(),
        race=None if race is None else Membership(race, member.label),
        working_directory=str(directory), experiment=_script(command, directory),
        config={**settings_of(command.words), **named}, version=member.version.to_json() if member.version else None,
        launch=Launch(command.words, command.variables, str(directory), options.to_text()),
    ))  # fmt: skip


def _script(command: Command, directory: Path) -> Experiment:
    name = command.script[0]
    path = directory / name
    if not path.is_file():
        return Experiment(Path(name).stem)
    return Experiment(Path(name).stem, str(path), hashlib.sha256(path.read_bytes()).hexdigest())
