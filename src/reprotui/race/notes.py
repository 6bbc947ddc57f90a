"""A note that a person leaves at a run or a race: a small text file of its own, so that a live worker is not disturbed."""

from pathlib import Path

from reprotui.errors import BadInputError
from reprotui.regular import open_regular
from reprotui.run_directory import write_text

NOTE = "note.txt"
LONGEST = 2000
"""Characters of a note: it is a line or two, no report."""


def read_note(path: Path) -> str:
    """Return the note of a run or race in one line; empty where there is none, or where it cannot be read."""
    try:
        with open_regular(path / NOTE) as file:
            return " ".join(file.read(4 * LONGEST).decode("utf-8", "replace").split())[:LONGEST]
    except (OSError, BadInputError):
        return ""


def write_note(path: Path, text: str) -> None:
    """Leave a note at a run or race; an empty one takes it away.

    Raises:
        BadInputError: it is neither, the note is too long, or the directory cannot be written.
    """
    if not (path / "run.json").is_file() and not (path / "race.json").is_file():
        raise BadInputError(f"{path} is neither a run nor a race: it has no run.json and no race.json")
    text = " ".join(text.split())
    if len(text) > LONGEST:
        raise BadInputError(f"a note of {len(text)} characters is too long: at most {LONGEST}")
    try:
        if text:
            write_text(path / NOTE, f"{text}\n")
        else:
            (path / NOTE).unlink(missing_ok=True)
    except UnicodeEncodeError:
        raise BadInputError("the note holds characters that no text file can hold") from None
    except OSError as error:
        raise BadInputError(f"{path / NOTE} cannot be written: {error.strerror}") from None
