"""Settings of the dashboard: a TOML file that a person writes, and what the dashboard remembers by itself."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError
from reprotui.regular import read_regular

SETTINGS_VARIABLE = "REPROTUI_SETTINGS"
"""Another settings file than the platform's."""
TABLES = ("keys", "slurm")
"""Settings that are tables."""
CHOICES = {"theme": ("dark", "light", "contrast"), "symbols": ("auto", "unicode", "ascii")}


@dataclass(frozen=True)
class Settings:
    """What a person can set.

    `keys` maps ids of actions to keys, such as `"race.pause" = "p"`; `slurm` has options of sbatch by their long names, for runs
    that are started on a cluster: `partition = "batch"`.
    """

    theme: str = "dark"
    symbols: str = "auto"
    log_scale: bool = True
    stop_at_divergence: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)
    slurm: Mapping[str, str] = field(default_factory=dict)


def settings_path() -> Path:
    """Return the settings file: `$REPROTUI_SETTINGS`, else the platform's place."""
    import platformdirs

    named = os.environ.get(SETTINGS_VARIABLE)
    return Path(named).expanduser() if named else platformdirs.user_config_path("reprotui") / "settings.toml"


def state_directory() -> Path:
    """Return where the dashboard keeps what it remembers; beside the settings where `$REPROTUI_SETTINGS` names them."""
    import platformdirs

    named = os.environ.get(SETTINGS_VARIABLE)
    return Path(named).expanduser().parent if named else platformdirs.user_state_path("reprotui")


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings; a missing file means the defaults.

    Raises:
        BadInputError: the file is unreadable, not TOML, or has unknown keys or wrong values; all of them are named.
    """
    path = settings_path() if path is None else path
    values = read_settings(path)
    if problems := check(values):
        raise BadInputError(f"{path}: {'; '.join(problems)}")
    if "slurm" in values:
        values["slurm"] = {name: "" if value is True else str(value) for name, value in values["slurm"].items()}
    return Settings(**values)


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a settings file says, unchecked; nothing where it does not exist.

    Raises:
        BadInputError: the file is unreadable or not TOML.
    """
    try:
        values = tomllib.loads(read_regular(path).decode())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInputError(f"{path} is not valid TOML: {error}") from None
    if isinstance(values.get("keys"), dict):
        # `race.pause = "p"` without quotes is a table in TOML, and means the same.
        values["keys"] = _flat(values["keys"])
    return values


def _flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in table.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


@dataclass(frozen=True)
class Effective:
    """A setting as it holds, and where it comes from: `default`, `settings` or `remembered`."""

    name: str
    value: Any
    source: str


def effective_settings(path: Path) -> list[Effective]:
    """Return every setting as the dashboard takes it; what it remembers goes before the file, as there.

    Raises:
        BadInputError: as `load_settings`.
    """
    named, settings, kept = read_settings(path), load_settings(path), remembered()
    found = []
    for item in fields(Settings):
        if item.name in TABLES:
            continue
        value, source = getattr(settings, item.name), "settings" if item.name in named else "default"
        if item.name in kept and not check({item.name: kept[item.name]}):
            value, source = kept[item.name], "remembered"
        found.append(Effective(item.name, value, source))
    tables = [(name, entry, value) for name in TABLES for entry, value in getattr(settings, name).items()]
    return [*found, *(Effective(f"{name}.{entry}", value, "settings") for name, entry, value in tables)]


def example_settings() -> str:
    """Return a settings file that says everything that can be set, with the defaults; every line of it is a comment."""
    from reprotui.tui.actions import ACTIONS

    lines = ["# Settings of reprotui. Take away the # before a line to set it.", ""]
    for item in fields(Settings):
        if item.name not in TABLES:
            value = json.dumps(item.default)  # a string, true and false are written alike in TOML
            told = "  # " + ", ".join(CHOICES[item.name]) if item.name in CHOICES else ""
            lines.append(f"# {item.name} = {value}{told}")
    lines += ["", "# [slurm]", '# partition = "batch"  # options of sbatch by their long names, for --on slurm', "", "# [keys]"]
    keys = [f'"{action.id}" = "{action.keys}"' for action in ACTIONS]
    width = max(map(len, keys))
    lines += [f"# {key:<{width}}  # {action.help}" for key, action in zip(keys, ACTIONS, strict=True)]
    return "\n".join(lines) + "\n"


def check(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with settings, a sentence each."""
    import difflib

    known = {item.name: item for item in fields(Settings)}
    problems = []
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            problems.append(
                f"unknown setting {name!r}: " + (f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}")
            )
        elif name in CHOICES and value not in CHOICES[name]:
            problems.append(f"{name} = {value!r}: expected one of {', '.join(CHOICES[name])}")
        elif name in ("log_scale", "stop_at_divergence") and not isinstance(value, bool):
            problems.append(f"{name} = {value!r}: expected true or false")
        elif name == "keys":
            problems += _check_keys(value)
        elif name == "slurm":
            problems += _check_slurm(value)
    return problems


def _check_slurm(options: Any) -> list[str]:
    if not isinstance(options, dict):
        return [f"slurm = {options!r}: expected a table of options of sbatch"]
    return [
        f"slurm: {name} = {value!r}: expected a text, a whole number, or true for an option without a value"
        for name, value in options.items()
        if value is False or not isinstance(value, str | int)
    ]


def _check_keys(keys: Any) -> list[str]:
    import difflib

    from reprotui.tui.actions import BY_ID

    if not isinstance(keys, dict):
        return [f"keys = {keys!r}: expected a table of action = key"]
    problems = []
    for action, key in keys.items():
        if action not in BY_ID:
            close = difflib.get_close_matches(action, BY_ID, n=1)
            problems.append(f"keys: there is no action {action!r}" + (f": did you mean {close[0]}?" if close else ""))
        elif not isinstance(key, str) or not all(part.strip() for part in key.split(",")):
            problems.append(f'keys: {action} = {key!r}: expected a key such as "p" or "ctrl+p,f5"')
    return problems or _check_twice(keys)


def _check_twice(keys: Mapping[str, str]) -> list[str]:
    """Return which keys would mean two things on one screen, those that keep their default included."""
    from reprotui.tui.actions import ACTIONS, EVERYWHERE

    problems = []
    for action in (item for item in ACTIONS if item.id in keys):
        mine = {part.strip() for part in keys[action.id].split(",")}
        for other in ACTIONS:
            if other.id == action.id or not (other.screen == action.screen or EVERYWHERE in (other.screen, action.screen)):
                continue
            both = mine & {part.strip() for part in keys.get(other.id, other.keys).split(",")}
            if both and not (other.id in keys and other.id < action.id):  # two that were set are named once
                problems.append(f"keys: {action.id} and {other.id} have the same key {min(both)!r}: set both")
    return problems


def remembered() -> dict[str, Any]:
    """Return what the dashboard remembers (theme, layout); nothing where that cannot be read."""
    try:
        value = json.loads((state_directory() / "layout.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def remember(name: str, value: Any) -> None:
    """Keep one thing for the next start; where nothing can be written, the next start has the defaults."""
    path = state_directory() / "layout.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps({**remembered(), name: value}, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return
