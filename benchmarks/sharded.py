"""Campaign: trainings on two devices and in two processes, raced and certified. Does any hang or abort, is every bit the same?"""

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import Progress
from reprotui.race.start import ended

RACES = 200
ONE_IN = 10
"""For so many races of the training on two devices there is one in two processes, and of each as many certified runs."""
SCRIPTS = Path(__file__).parent / "scripts"
LIMIT_SECONDS = 600
"""How long a race may take: one that hangs waits for ever."""


def run(count: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Race the scripts against themselves, and certify them.

    Args:
        count: races of the training on two devices.
        seed: not used: nothing is drawn.

    Returns:
        A row a training and command: how many were run, how many hung, how many ended otherwise than they must, and how many
        said IDENTICAL, or that the end is the same with and without observation. What went wrong is a note.
    """
    races = count or RACES
    fewer = max(1, races // ONE_IN)
    rows, notes = [], []
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        place = Path(folder)
        for label, command in (("two devices", _devices), ("two processes", lambda: _processes(place))):
            for what, times in (("race", races if label == "two devices" else fewer), ("certify", fewer)):
                row, said = _campaign(label, what, times, command, place)
                rows.append(row)
                notes += said
    return {"rows": rows, "notes": notes}


def _campaign(label: str, what: str, times: int, command: Callable[[], str], place: Path) -> tuple[dict[str, Any], list[str]]:
    hung = wrong = well = 0
    notes = []
    progress = Progress(f"{label}, {what}", times)
    for number in range(times):
        reprotui = [sys.executable, "-m", "reprotui", what, "--json"]
        if what == "race":
            reprotui += [
                "--runs-dir",
                str(place),
                "--name",
                f"{label}-{number}".replace(" ", "-"),
                "--a",
                command(),
                "--b",
                command(),
            ]
        else:
            reprotui += ["--times", "2", "--", *command().split()]
        code, text = _answer(reprotui, place)
        hung += code is None
        wrong += code not in (0, None)
        well += code == 0 and _is_well(what, json.loads(text))
        if code != 0:
            notes.append(f"{label}, {what} {number}: {'hung' if code is None else f'exit code {code}'}: {text[-300:]}")
        progress.advance()
    return {"training": label, "command": what, "times": times, "hung": hung, "failed": wrong, "same bits": well}, notes


def _answer(command: list[str], place: Path) -> tuple[int | None, str]:
    """Return exit code and output; no code where the command took longer than it may, and was ended."""
    with ended(subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)) as process:
        try:
            text, _ = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            return None, ""
        return process.returncode, text.decode()


def _is_well(what: str, found: dict[str, Any]) -> bool:
    if what == "race":
        return all(verdict["headline"].startswith("IDENTICAL") for verdict in found["verdicts"])
    return found["kind"] == "unchanged"


def _devices() -> str:
    return f"{sys.executable} {SCRIPTS / 'sharded.py'}"


def _processes(place: Path) -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    ranks = [f"{sys.executable} {SCRIPTS / 'two_processes.py'} {port} {rank}" for rank in "01"]
    script = place / f"both-{port}.sh"
    script.write_text(f"{ranks[0]} &\nfirst=$!\n{ranks[1]} &\nsecond=$!\nwait $first && wait $second\n", encoding="utf-8")
    return f"sh {script}"
