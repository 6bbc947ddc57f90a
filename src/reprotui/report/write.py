"""Write a report to files: all of its forms or none, and never over a file that somebody may need."""

import os
import re
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reprotui.errors import BadInputError
from reprotui.report.html import render_html
from reprotui.report.json_form import render_json
from reprotui.report.markdown import render_markdown
from reprotui.report.model import Report

FORMATS: dict[str, tuple[str, Callable[[Report], str]]] = {
    "markdown": (".md", render_markdown),
    "json": (".json", render_json),
    "html": (".html", render_html),
}
"""Suffix and renderer of every form."""
SUFFIXES = {".md": "markdown", ".markdown": "markdown", ".json": "json", ".html": "html", ".htm": "html"}
STEM_LENGTH = 100
"""A file's name has room for 255 bytes; the temporary one is longer."""


def write_report(report: Report, out: Path | None, formats: Sequence[str], force: bool = False) -> list[Path]:
    """Write a report, each form atomically, after every target was found fit.

    Args:
        report: the report.
        out: a directory; a file; a name without a known suffix, to which each form adds its own; or None for
            `report-NAME` in the working directory.
        formats: of `markdown`, `json`, `html`.
        force: replace files that exist.

    Returns:
        The files, in the order of the formats.

    Raises:
        BadInputError: an unknown format, a file that exists, a place that cannot be written. Nothing was written then,
            but for a disk that fails between the last two of several files.
    """
    wanted = {_target(report.name, out, name, several=len(formats) > 1): name for name in _known(formats)}
    for target in wanted:
        refuse_unfit(target, force)
    texts = {target: FORMATS[name][1](report) for target, name in wanted.items()}
    mark = f"{os.getpid()}.{threading.get_ident()}.tmp"
    temporary = {target: target.with_name(f".{target.name}.{mark}") for target in wanted}
    try:
        for target, path in temporary.items():
            with told(target), path.open("w", encoding="utf-8", newline="\n") as file:
                file.write(texts[target])
                file.flush()
                os.fsync(file.fileno())
        for target, path in temporary.items():
            with told(target):
                path.replace(target)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
    return list(wanted)


def refuse_unfit_place(out: Path | None, formats: Sequence[str], force: bool = False) -> None:
    """Raise BadInputError where `write_report` would, as far as that is known before the report is made, which takes long."""
    if out is not None and not out.is_dir():
        for name in _known(formats):
            refuse_unfit(_target("", out, name, several=len(formats) > 1), force)


@contextmanager
def told(target: Path) -> Generator[None]:
    """Turn what the system says of a file into an error for people."""
    try:
        yield
    except OSError as error:
        raise BadInputError(f"{target} cannot be written: {error.strerror}; choose another place with --out") from None


def render(report: Report, name: str) -> str:
    """Return a report in one of the `FORMATS`."""
    return FORMATS[_known([name])[0]][1](report)


def formats_of(asked: str | None, out: Path | None) -> list[str]:
    """Return the formats that `--format` (a comma list, or None) and the suffix of `--out` mean.

    Raises:
        BadInputError: an unknown format, a suffix that says another, or one file for several formats.
    """
    implied = SUFFIXES.get(out.suffix.lower()) if out is not None and not out.is_dir() else None
    if asked is None:
        if out is not None and implied is None and out.suffix and not out.is_dir():
            raise BadInputError(f"{out}: the suffix {out.suffix} names no format; say which with --format")
        return [implied or "markdown"]
    formats = _known(list(dict.fromkeys(part.strip() for part in asked.split(",") if part.strip())))
    if implied is not None and formats != [implied]:
        raise BadInputError(
            f"{out} is one {implied} file, but --format asks for {', '.join(formats)}: name a directory, or leave the suffix away"
        )
    return formats


def _known(formats: Sequence[str]) -> list[str]:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        what = f"unknown format {unknown[0]!r}" if unknown else "no format is named"
        raise BadInputError(f"{what}: expected one or more of {', '.join(FORMATS)}")
    return list(formats)


def _target(called: str, out: Path | None, name: str, several: bool) -> Path:
    suffix = FORMATS[name][0]
    if out is None or out.is_dir():
        stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", called)[:STEM_LENGTH]
        return (out or Path()) / f"report-{stem}{suffix}"
    # An existing file without a suffix is what was meant, and refused as such.
    if not several and (out.suffix or out.exists()):
        return out
    return out.with_name(out.name + suffix)


def refuse_unfit(target: Path, force: bool) -> None:
    """Raise BadInputError where a file cannot be written, or exists and is not to be replaced."""
    parent = target.parent
    with told(target):
        is_directory, exists, is_file = parent.is_dir(), target.exists() or target.is_symlink(), target.is_file()
    if not is_directory:
        found = f"{parent} is not a directory" if parent.exists() else f"the directory {parent} does not exist"
        raise BadInputError(f"{target} cannot be written: {found}; make it, or choose another place with --out")
    if exists and not is_file:
        raise BadInputError(f"{target} exists and is not a file: choose another name with --out")
    if exists and not force:
        raise BadInputError(f"{target} exists already: choose another name with --out, or replace it with --force")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise BadInputError(f"{target} cannot be written: {parent} is not writable; choose another place with --out")
