"""Give a run or race another name: its directory moves; its manifests, by which checkpoints know their run, stay as they are."""

from pathlib import Path

from reprotui.errors import BadInputError
from reprotui.race.delete import why_not_delete
from reprotui.run_directory import check_name


def rename(runs: Path, path: Path, name: str) -> Path:
    """Rename a run or race inside its runs directory; return its new place.

    Raises:
        BadInputError: it is alive, elsewhere, or the name is unfit or taken; nothing was changed.
    """
    if reason := why_not_delete(runs, path):
        raise BadInputError(f"not renamed: {reason}")
    target = path.with_name(check_name(name))
    if target.exists() or target.is_symlink():
        raise BadInputError(f"not renamed: {target} exists already")
    try:
        path.rename(target)
    except OSError as error:
        raise BadInputError(f"{path} cannot be renamed: {error.strerror}") from None
    return target
