"""The shortest command line that starts a race: what a form or a ready-made race does, for a shell."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reprotui.manifest import assignment
from reprotui.race.script_race import Source
from reprotui.run_directory import default_runs_directory

LABELS = "abcdefgh"


def race_command(
    experiment: str, overrides: Sequence[Mapping[str, Any]], runs: Path | None = None, repeat: int = 1,
    options: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Return the command line that races an experiment.

    Args:
        experiment: a built-in experiment, or the path of a file.
        overrides: what each run has other than the experiment's defaults.
        runs: the runs directory; named where it is not the default one.
        repeat: how often each of them is started.
        options: words such as `--every`, `4`.
    """
    shared = {key: value for key, value in overrides[0].items() if all(key in item and item[key] == value for item in overrides)}
    own = [[assignment(key, value) for key, value in item.items() if key not in shared] for item in overrides]
    command = ["reprotui", "race", experiment, *(assignment(key, value) for key, value in shared.items())]
    if any(own):
        # One run that deviates is held against the experiment without it; more than two, or repeated ones, must all be named.
        for label, tokens in zip(LABELS, own, strict=False):
            if tokens or len(own) > 2 or repeat > 1:
                command += [f"--{label}", *tokens]
        command += ["--repeat", str(repeat)] if repeat > 1 else []
    elif len(own) * repeat > 2:
        command += ["--repeat", str(len(own) * repeat)]
    return [*command, *options, *_place(runs)]


def scripts_command(
    commands: Sequence[str], sources: Mapping[str, Source], runs: Path | None = None, repeat: int = 1, options: Sequence[str] = ()
) -> list[str]:
    """Return the command line that races scripts.

    Args:
        commands: what each run is, as it is typed in a shell.
        sources: folders and revisions of runs, by their labels.
        runs, repeat, options: see `race_command`.
    """
    words = ["reprotui", "race"]
    behind = len(set(commands)) == 1 and (not sources or len(commands) == 2)
    if not behind:
        for label, text in zip(LABELS, commands, strict=False):
            words += [f"--{label}", text if " " in text else f"{text} "]  # a word with a space in it is a command
    for label, source in sources.items():
        words += [f"--{label}-dir", os.fspath(source.directory)] if source.directory else []
        words += [f"--{label}-rev", source.revision] if source.revision else []
    if behind and not sources:
        words += ["--repeat", str(len(commands) * repeat)] if len(commands) * repeat > 2 else []
    elif repeat > 1:
        words += ["--repeat", str(repeat)]
    return [*words, *options, *_place(runs), *(["--", *_words(commands[0])] if behind else [])]


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is still to be closed
        return [text]


def _place(runs: Path | None) -> list[str]:
    if runs is None or runs.absolute() == default_runs_directory().absolute():
        return []
    return ["--runs-dir", str(runs)]
