"""Where in the source an instruction of a compiled program came from."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ENTRY = re.compile(r'^(\d+) (?:"((?:[^"\\]|\\.)*)"|\{(.*)\})$')
_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_LIBRARIES = ("/site-packages/", "/dist-packages/")
_OBSERVING = f"{Path(__file__).parents[1]}/"
"""Where this package lies, wherever it is installed: its observers stand in the stacks of the calls that they see."""
_OURS = ("/reprotui/experiments/",)
"""The built-in experiments are installed as a library is, and are what somebody trains."""


@dataclass(frozen=True)
class Place:
    """A line of source; `through` is the line of a library that was called there, empty where it was none."""

    file: str
    line: int
    function: str
    through: str = ""

    def __str__(self) -> str:
        name = self.file.rpartition("/")[2]
        return f"{name}:{self.line} in {self.function}" if self.function else f"{name}:{self.line}"


@dataclass(frozen=True)
class Sources:
    """The table of stack frames that XLA keeps: `frames` holds (file, line, function, number of the caller's frame)."""

    frames: dict[int, tuple[str, int, str, int]]
    known: dict[int, Place]

    @classmethod
    def parse(cls, lines: Iterable[str]) -> "Sources":
        """Read the tables at the head of a printed module."""
        tables: dict[str, dict[int, str]] = {name: {} for name in _TABLES}
        table: dict[int, str] | None = None
        for line in lines:
            if line in tables:
                table = tables[line]
            elif table is not None and (entry := _ENTRY.match(line)):
                table[int(entry[1])] = entry[2] if entry[2] is not None else entry[3]
            elif line.startswith(("%", "ENTRY")):
                break
        places = {}
        for number, text in tables["FileLocations"].items():
            values = _fields(text)
            file, function = (
                tables[name].get(values.get(key, 0), "")
                for name, key in (("FileNames", "file_name_id"), ("FunctionNames", "function_name_id"))
            )
            places[number] = (file, values.get("line", 0), function)
        calls = {number: _fields(text) for number, text in tables["StackFrames"].items()}
        # XLA prints the caller's number plus one, so that 1 stands for none.
        shift = 0 if any(values.get("parent_frame_id", 0) == 0 for values in calls.values()) else 1
        frames = {
            number: (*places[values["file_location_id"]], values.get("parent_frame_id", 0) - shift)
            for number, values in calls.items()
            if values.get("file_location_id") in places
        }
        return cls(frames, {})

    def place(self, frame: int | None) -> Place | None:
        """Return the innermost line that is no library's; the innermost of all where there is none."""
        if frame is None or frame not in self.frames:
            return None
        if frame not in self.known:
            self.known[frame] = self._find(frame)
        return self.known[frame]

    def _find(self, frame: int) -> Place:
        stack, seen = [], set()
        while frame in self.frames and frame not in seen:
            seen.add(frame)
            stack.append(self.frames[frame])
            frame = self.frames[frame][3]
        return chosen([(file, line, function) for file, line, function, _ in stack])


def chosen(stack: list[tuple[str, int, str]]) -> Place:
    """Return the place that a person looks for in a stack of (file, line, function), the innermost first."""
    inner = stack[0]
    file, line, function = next((place for place in stack if not of_library(place[0])), inner)
    through = "" if (file, line) == inner[:2] else f"{short_path(inner[0])}:{inner[1]}"
    return Place(file, line, function.rpartition("<locals>.")[2], through)


def of_library(file: str) -> bool:
    """Say whether a file belongs to an installed library, not to who trains."""
    library = any(part in file for part in _LIBRARIES) or file.startswith(_OBSERVING)
    return library and not any(part in file for part in _OURS)


def short_path(file: str) -> str:
    """Return the path of a library's file from the library on."""
    for part in _LIBRARIES:
        if part in file:
            return file.rpartition(part)[2]
    return file.rpartition("/")[2]


def _fields(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text)}
