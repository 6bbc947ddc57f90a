"""Run a command several times in fresh processes, and require identical results."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError, WorkerFailedError

CHUNK_BYTES = 1 << 20
"""Read at a time while two files are compared: a result may be larger than memory."""

TICK_SECONDS = 0.02
"""Waited before a run that writes named files: a kernel's clock for files ticks every 1 to 10 ms, and a rewritten file must be
told from one that was left alone."""

SHOWN_CHARACTERS = 100
"""How much of a differing line is shown."""

_STDOUT = "stdout"


@dataclass(frozen=True)
class GateDifference:
    """What differed between the first run and another: in which output, where in it, and both values as text."""

    output: str
    run: int
    where: str
    first: str
    other: str

    def __str__(self) -> str:
        lines = [f"{self.output}: run {self.run} differs from run 1 at {self.where}"]
        return "\n".join([*lines, f"  run 1: {self.first}", f"  run {self.run}: {self.other}"])


@dataclass(frozen=True)
class GateResult:
    """What running a command several times showed; true in a condition only where all of it was identical.

    `compared` names the outputs that were required to be identical.
    """

    command: tuple[str, ...]
    runs: int
    compared: tuple[str, ...]
    differences: tuple[GateDifference, ...]
    seconds: tuple[float, ...]

    @property
    def identical(self) -> bool:
        """Whether no output differed in any run."""
        return not self.differences

    def __bool__(self) -> bool:
        return self.identical

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {"identical": self.identical, **asdict(self)}


def run_gate(
    command: Sequence[str], runs: int = 3, files: Sequence[str] = (), json_keys: Sequence[str] = (), *, narrate: bool = False
) -> GateResult:
    """Run a command several times and compare what it leaves, byte by byte.

    Every run is a fresh process with the same environment, working directory and empty input; its stderr passes through.
    After each run the named files are copied, so that the next may overwrite them; nothing is deleted or restored.

    Args:
        command: the program and its arguments.
        runs: how often, at least 2.
        files: files, or directories with all files in them, that every run must write identically.
        json_keys: `KEY` in the JSON on stdout, or `FILE:KEY` in a file; a dotted path such as `final.loss` or `losses.0`.
            stdout is compared as a whole where neither files nor keys are named.
        narrate: say on stderr when each run begins.

    Raises:
        BadInputError: the command does not exist, a named file is not written by it, a key is not there.
        WorkerFailedError: the command failed.
    """
    if runs < 2:
        raise BadInputError(f"{runs} run shows nothing: at least 2 are compared")
    keys = [_key(text) for text in json_keys]
    environment = dict(os.environ)
    differences: list[GateDifference] = []
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="reprotui-gate-") as scratch:
        snapshots = [Path(scratch) / str(run) for run in range(2)]
        for run in range(runs):
            snapshot = snapshots[min(run, 1)]
            shutil.rmtree(snapshot, ignore_errors=True)
            snapshot.mkdir()
            if narrate:
                print(f"run {run + 1} of {runs}", file=sys.stderr, flush=True)
            before = {name: _stamp(Path(name)) for name in {*files, *(file for file, _ in keys if file)}}
            time.sleep(TICK_SECONDS if before else 0)
            seconds.append(_run(command, snapshot / _STDOUT, environment))
            for name, stamp in before.items():
                _refuse_stale(name, stamp)
            for number, name in enumerate(files):
                _copy(Path(name), snapshot / f"file-{number}")
            values = {f"{file}:{key}" if file else key: _value(file, key, snapshot / _STDOUT) for file, key in keys}
            (snapshot / "keys").write_text(json.dumps(values))
            if run:
                differences += _compare(snapshots, run + 1, files, compare_stdout=not files and not keys)
    compared = (*files, *(f"{file}:{key}" if file else key for file, key in keys)) or (_STDOUT,)
    return GateResult(tuple(command), runs, tuple(compared), tuple(differences), tuple(seconds))


def _run(command: Sequence[str], stdout: Path, environment: dict[str, str]) -> float:
    start = time.perf_counter()
    try:
        with stdout.open("wb") as out:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, env=environment, check=False)
    except OSError as error:
        raise BadInputError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        how = f"was ended by signal {-done.returncode}" if done.returncode < 0 else f"failed with exit code {done.returncode}"
        raise WorkerFailedError(f"the command {how}, so there is nothing to compare: {' '.join(command)}")
    return time.perf_counter() - start


def _stamp(path: Path) -> tuple[Any, ...]:
    """Return what changes when a file, or a file in a directory, is written: only to notice that nothing was."""
    found = []
    for item in [path, *(path.rglob("*") if path.is_dir() else [])]:
        try:
            status = item.stat()
        except OSError:
            continue
        found.append((str(item), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(sorted(found))


def _refuse_stale(name: str, before: tuple[Any, ...]) -> None:
    if not Path(name).exists():
        raise BadInputError(f"{name} was not written by the command: name a file that every run writes")
    if _stamp(Path(name)) == before:
        # Left from earlier, it would be compared with itself.
        raise BadInputError(f"{name} was there already and the command did not write it: name a file that every run writes")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _key(text: str) -> tuple[str, str]:
    """Split `[FILE:]KEY`."""
    file, _, key = text.rpartition(":")
    if not key:
        raise BadInputError(f"{text!r} names no key: write KEY (in the JSON on stdout) or FILE:KEY")
    return file, key


def _value(file: str, key: str, stdout: Path) -> str:
    """Return the value at a key as text in which equal means equal bits: -0.0 is not 0.0, NaN is NaN."""
    place = file or _STDOUT
    try:
        value = json.loads((Path(file) if file else stdout).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInputError(f"{place} is not JSON, so it has no key {key}: {error}") from error
    for part in key.split("."):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            there = ", ".join(map(str, value)) if isinstance(value, dict) else f"a {type(value).__name__}"
            raise BadInputError(f"{place} has no key {key}: at {part!r} there is {there}") from error
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _compare(snapshots: Sequence[Path], run: int, files: Sequence[str], *, compare_stdout: bool) -> Iterator[GateDifference]:
    if compare_stdout:
        yield from _compare_files(_STDOUT, run, *(snapshot / _STDOUT for snapshot in snapshots))
    for number, name in enumerate(files):
        a, b = (snapshot / f"file-{number}" for snapshot in snapshots)
        if a.is_dir() and b.is_dir():
            yield from _compare_directories(name, run, a, b)
        else:
            yield from _compare_files(name, run, a, b)
    first, other = (json.loads((snapshot / "keys").read_text()) for snapshot in snapshots)
    for name in first:
        if first[name] != other[name]:
            yield GateDifference(name, run, "its value", _cut(first[name]), _cut(other[name]))


def _compare_directories(name: str, run: int, a: Path, b: Path) -> Iterator[GateDifference]:
    names_a, names_b = ({path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} for root in (a, b))
    for file in sorted(names_a | names_b):
        if file not in names_a or file not in names_b:
            there = [("is there" if file in names else "is missing") for names in (names_a, names_b)]
            yield GateDifference(f"{name}/{file}", run, "its presence", *there)
        else:
            yield from _compare_files(f"{name}/{file}", run, a / file, b / file)


def _compare_files(name: str, run: int, a: Path, b: Path) -> Iterator[GateDifference]:
    if (offset := _first_difference(a, b)) is None:
        return
    line = _line_of(a, b, offset)
    if line is None:
        first, other = (_bytes_at(path, offset) for path in (a, b))
        yield GateDifference(name, run, f"byte {offset}", first, other)
    else:
        number, first, other = line
        yield GateDifference(name, run, f"line {number} (byte {offset})", first, other)


def _first_difference(a: Path, b: Path) -> int | None:
    """Return the offset of the first byte that differs; the length of the shorter where one begins with the other."""
    offset = 0
    with a.open("rb") as file_a, b.open("rb") as file_b:
        while True:
            x, y = file_a.read(CHUNK_BYTES), file_b.read(CHUNK_BYTES)
            if x != y:
                differing = (i for i, (p, q) in enumerate(zip(x, y, strict=False)) if p != q)
                return offset + next(differing, min(len(x), len(y)))
            if not x:
                return None
            offset += len(x)


def _line_of(a: Path, b: Path, offset: int) -> tuple[int, str, str] | None:
    """Return number and text of the line that an offset lies in; None where the files are not text."""
    number, start, position = 1, 0, 0
    with a.open("rb") as file:
        while position < offset:
            chunk = file.read(min(CHUNK_BYTES, offset - position))
            if b"\0" in chunk:
                return None
            number += chunk.count(b"\n")
            if (last := chunk.rfind(b"\n")) >= 0:
                start = position + last + 1
            position += len(chunk)
    texts = []
    for path in (a, b):
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(max(SHOWN_CHARACTERS * 40, offset - start + SHOWN_CHARACTERS))
        line, newline, _ = data.partition(b"\n")
        try:
            text = line.decode("utf-8") if b"\0" not in line else None
        except UnicodeDecodeError:
            return None
        if text is None:
            return None
        texts.append("(the file ends)" if not data and not newline else _around(text, offset - start))
    return number, texts[0], texts[1]


def _around(text: str, column: int) -> str:
    """Return a line, or what lies around a column of a long one."""
    if len(text) <= SHOWN_CHARACTERS:
        return text
    start = max(0, min(column, len(text)) - SHOWN_CHARACTERS // 2)
    end = start + SHOWN_CHARACTERS
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def _bytes_at(path: Path, offset: int) -> str:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(16).hex(" ") or "(the file ends)"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
