"""Command lines that start scripts: where the script stands in one, what only starts it, and which settings it is given."""

import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprotui.environment import is_captured_variable

PYTHON = re.compile(r"python(\d+(\.\d+)?)?(\.exe)?")
_WITH_VALUE = ("-W", "-X")
"""Options of Python itself that take a word of their own."""
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_SHELLS = ("sh", "bash", "dash", "zsh", "ksh")
_SHELL_SIGNS = re.compile(r"[;&|<>$`(){}*?\n]")
"""What makes a shell do more than start one command."""
_STARTERS = {
    "taskset": ("-p", "--pid"), "numactl": ("-C", "-N", "-m", "-i", "-p", "-w"), "nice": ("-n", "--adjustment"),
    "ionice": ("-c", "-n", "-p"), "chrt": ("-p",), "env": ("-u", "--unset", "-C", "--chdir"), "nohup": (), "setsid": (),
    "stdbuf": ("-i", "-o", "-e"), "time": ("-f", "-o"),
}  # fmt: skip
"""Commands that start another one, and their options that take a word of their own."""
_OPERAND = {"taskset", "chrt"}
"""Of these, those with a word of their own before the command: `taskset 0x3 python`, `chrt 10 python`."""
_OBSERVE = "reprotui.observe"
_OBSERVE_OPTIONS = ("--step-function", "--loss", "--name")


def target(words: Sequence[str]) -> int | None:
    """Return where the script, or `-m`, stands in a Python command; None for every other command."""
    if not words or not PYTHON.fullmatch(Path(words[0]).name):
        return None
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] != "-m":
        if words[at].startswith("-c") or words[at] == "-":
            return None
        at += 2 if words[at] in _WITH_VALUE else 1
    return at if at < len(words) - (list(words[at : at + 1]) == ["-m"]) else None


def unwrapped(words: Sequence[str]) -> list[str]:
    """Return the command that programs such as `taskset`, `nice` or a shell start; the words themselves where they start none.

    What these change (cores, priority) is recorded of the process, not of its command.
    """
    return _unwrapped(words)[0]


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """Return the settings that a command gives its script; of another command than Python's, the whole of it."""
    words, variables = _unwrapped(words)
    if target(words) is None:
        return {"command": shlex.join(words)}
    named = {name: value for name, value in variables.items() if not is_captured_variable(name)}
    return {**arguments_as_config(script_of(words)[1]), **named}


def script_of(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the script or module that a command runs, and its arguments; the first word where it is no Python command."""
    words = unwrapped(words)
    at = target(words)
    if at is None:
        return words[0], words[1:]
    at += words[at] == "-m"
    return words[at], words[at + 1 :]


def unobserved(words: Sequence[str]) -> list[str]:
    """Return a command without the observer that was put before its script."""
    words, at = list(words), target(words)
    if at is None or words[at : at + 2] != ["-m", _OBSERVE]:
        return words
    rest = words[at + 2 :]
    while len(rest) > 1 and rest[0] in _OBSERVE_OPTIONS:
        rest = rest[2:]
    return [*words[:at], *rest]


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


def _unwrapped(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command that others start, and the variables that they set; the words themselves where they start none."""
    rest, variables = list(words), {}
    while rest:
        name = Path(rest[0]).name
        if name in _STARTERS:
            rest = _started(name, rest[1:])
        elif name in _SHELLS and len(rest) == 3 and rest[1] in ("-c", "-lc", "-ec") and not _SHELL_SIGNS.search(rest[2]):
            try:
                rest = shlex.split(rest[2])
            except ValueError:
                break
        elif rest[0] == "exec":
            rest = rest[1:]
        elif match := _ASSIGNMENT.fullmatch(rest[0]):
            variables[match[1]] = match[2]
            rest = rest[1:]
        else:
            break
    return (rest, variables) if rest else (list(words), {})


def _started(name: str, rest: list[str]) -> list[str]:
    """Return what stands behind a starter's own options."""
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option == "--":
            break
        if option in _STARTERS[name] and rest:
            rest.pop(0)
    return rest[1:] if name in _OPERAND else rest


def _value(word: str) -> int | float | str:
    """Return a number where a word is one that JSON can hold, so that 1e-2 and 0.01 are one setting."""
    for kind in (int, float):
        try:
            value = kind(word)
        except ValueError:
            continue
        return value if math.isfinite(value) else word
    return word
