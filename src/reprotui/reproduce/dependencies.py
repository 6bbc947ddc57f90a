"""Which dependencies of a project are not pinned to one version."""

import re
from pathlib import Path

from reprotui.errors import BadInputError
from reprotui.reproduce.sources import Project

_PINNED = re.compile(r"===?\s*[^*]+$|@\s*\S+")
"""`name==1.2` or a URL; `==1.*` is no version."""


def dependency_files(project: Project) -> list[Path]:
    """Return the files that name a project's dependencies."""
    return [path for name in ("requirements*.txt", "pyproject.toml", "environment.y*ml") for path in project.files(name)]


def loose_dependencies(path: Path) -> list[tuple[int, str]]:
    """Return the dependencies of a file that are not pinned to one version, with their lines."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if path.suffix == ".toml":
        return _loose_toml(path, lines)
    if path.suffix in (".yml", ".yaml"):
        start = next((number for number, line in enumerate(lines, 1) if line.startswith("dependencies:")), len(lines))
        entries = [(number, line.strip().removeprefix("- ")) for number, line in enumerate(lines, 1) if number > start]
        return [(number, text) for number, text in entries if re.match(r"^[A-Za-z][^:=]*$", text)]
    loose = []
    for number, line in enumerate(lines, 1):
        text = line.split(" #")[0].split(";")[0].strip()
        if text and not text.startswith(("#", "-")) and not _PINNED.search(text):
            loose.append((number, text))
    return loose


def _loose_toml(path: Path, lines: list[str]) -> list[tuple[int, str]]:
    import tomllib

    try:
        project = tomllib.loads("\n".join(lines)).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{path} is not TOML: {error}") from error
    loose = []
    for entry in project.get("dependencies", []):
        if not _PINNED.search(entry.split(";")[0].strip()):
            loose.append((next((number for number, line in enumerate(lines, 1) if entry in line), 1), entry))
    return loose
