"""Versions of a script: folders, or revisions of a git repository in worktrees that are made for a race and removed after it."""

import difflib
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError

SOURCES_LIMIT = 2000
"""Python files of a folder that are compared."""
_SKIPPED = {".git", "__pycache__", "node_modules", "site-packages", ".venv", "venv", "runs"}


@dataclass(frozen=True)
class Version:
    """Where a version of the sources lies; `worktree` is what must be removed again, with the repository it is of."""

    directory: Path
    revision: str | None = None
    commit: str | None = None
    worktree: Path | None = None
    repository: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest keeps."""
        return {"directory": str(self.directory), "revision": self.revision, "commit": self.commit}


def of_directory(path: Path) -> Version:
    """Return the version that lies in a folder.

    Raises:
        BadInputError: it is no folder.
    """
    if not path.is_dir():
        raise BadInputError(f"{path} is not a directory" if path.exists() else f"{path} does not exist")
    return Version(path.resolve())


def of_revision(revision: str, place: Path) -> Version:
    """Check a revision of this repository out into a new worktree.

    Args:
        revision: whatever git calls a commit.
        place: the folder that is made for it; the script runs in the same folder of it as this process stands in.

    Raises:
        BadInputError: this is no git repository, or the revision does not exist.
    """
    here = Path.cwd()
    top = Path(_git(here, "rev-parse", "--show-toplevel"))
    commit = find_commit(revision)
    _git(here, "worktree", "add", "--detach", "--force", str(place.absolute()), commit)
    directory = place.absolute() / here.resolve().relative_to(top.resolve())
    version = Version(directory, revision, commit, place.absolute(), top)
    if not directory.is_dir():
        remove(version)
        raise BadInputError(f"{revision} has no folder {here.resolve().relative_to(top.resolve())}")
    return version


def find_commit(revision: str) -> str:
    """Return the commit that git calls by a name; raise BadInputError where there is none, or no repository."""
    return _git(Path.cwd(), "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")


def remove(version: Version) -> None:
    """Remove the worktree of a version, where one was made."""
    if version.worktree is not None and version.repository is not None:
        _git(version.repository, "worktree", "remove", "--force", str(version.worktree))


def difference(a: Path, b: Path) -> tuple[list[str], str]:
    """Return the Python files that differ between two folders, and the difference as a unified diff."""
    files = sorted({path for root in (a, b) for path in _sources(root)})
    changed, lines = [], []
    for name in files:
        text_a, text_b = (
            (root / name).read_text(encoding="utf-8", errors="replace") if (root / name).is_file() else "" for root in (a, b)
        )
        if text_a != text_b:
            changed.append(name)
            before, after = text_a.splitlines(keepends=True), text_b.splitlines(keepends=True)
            lines += difflib.unified_diff(before, after, f"a/{name}", f"b/{name}")
    return changed, "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def describe_difference(a: Path, b: Path, file: Path) -> dict[str, Any]:
    """Write the difference of two folders to a file; return what the manifest keeps of it."""
    changed, text = difference(a, b)
    file.write_text(text, encoding="utf-8")
    return {"changed": changed, "diff_digest": hashlib.sha256(text.encode()).hexdigest(), "diff": file.name}


def _sources(root: Path) -> list[str]:
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not _SKIPPED & set(parts) and len(found) < SOURCES_LIMIT:
            found.append("/".join(parts))
    return found


def _git(directory: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
    except OSError as error:
        raise BadInputError(f"git cannot be run: {error.strerror}") from None
    if done.returncode:
        raise BadInputError(f"git {arguments[0]}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}")
    return done.stdout.strip()
