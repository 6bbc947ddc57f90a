"""Names that come out of files: each is one name in its folder, or leads to a place below it; anything else is refused.

Whoever wrote a registry, a manifest or a race.json chose the names in it. What is opened, renamed or deleted by such a name
must not lie anywhere else, not even behind a symbolic link.
"""

import unicodedata
from pathlib import Path

from reprotui.errors import BadInputError


def entry_problem(name: object) -> str | None:
    """Say why a name is not that of one entry of a folder; None where it is."""
    if not isinstance(name, str) or name in ("", ".", ".."):
        return "is not the name of an entry"
    if "/" in name or any(unicodedata.category(letter) == "Cc" for letter in name):
        return "is not a plain name: it leads elsewhere, or holds a control character"
    return None


def entry_of(folder: Path, name: object, source: str) -> Path:
    """Return the path of an entry of a folder that a file names; links in it may not lead out of the folder.

    Args:
        folder: where it must lie.
        name: what the file says.
        source: the file, for the error.

    Raises:
        BadInputError: it is no plain name, or lies outside the folder.
    """
    problem = entry_problem(name)
    path = folder if problem is not None else folder / str(name)
    try:
        if problem is None and path.is_symlink() and not lies_below(path, folder):
            problem = f"is a symbolic link that leads out of {folder}"
    except (OSError, RuntimeError) as error:
        problem = f"cannot be followed ({error})"
    if problem is not None:
        raise BadInputError(f"{source} names {str(name)[:100]!r}, which {problem}: it was edited or damaged, and is not followed")
    return path


def lies_below(path: Path, folder: Path) -> bool:
    """Say whether a path lies below a folder once every symbolic link is followed."""
    found, top = path.resolve(), folder.resolve()
    return found != top and found.is_relative_to(top)
