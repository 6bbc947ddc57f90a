"""`python -m reprotui.reproduce.child DIRECTORY`: the process that `fresh` starts, with the function that it calls."""

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError
from reprotui.reproduce.fresh import BAD_JOB
from reprotui.reproduce.leaves import leaves_of


def _do_job(directory: Path) -> None:
    """Do the job that lies in a directory, and write its result there. Runs in the fresh process."""
    job = json.loads((directory / "job.json").read_text(encoding="utf-8"))
    sys.path[:] = job["path"] if (here := str(Path.cwd())) in job["path"] else [here, *job["path"]]
    if job.get("deterministic"):
        from reprotui.reproduce.determinism import enable_deterministic_mode

        enable_deterministic_mode()
    function = _import_function(job["function"])
    if job["seed"] is not None:
        from reprotui.reproduce.seeds import set_global_seed

        set_global_seed(job["seed"], deterministic=False, frameworks=job["frameworks"])
    if runs := job.get("time"):
        from reprotui.reproduce.impact import time_calls

        header, data = {"seconds": time_calls(function, job["args"], runs)}, b""
    else:
        from reprotui.checksum.leaves import raw_bytes

        leaves = leaves_of(function(*job["args"], **job["kwargs"])).values()
        parts = [bytes(raw_bytes(leaf.array)) for leaf in leaves]
        header = {"leaves": [[*leaf.spec, len(part)] for leaf, part in zip(leaves, parts, strict=True)]}
        data = b"".join(parts)
    (directory / "result.bin").write_bytes(data)
    (directory / "result.json").write_text(json.dumps(header), encoding="utf-8")


def _import_function(specification: str) -> Callable[..., Any]:
    """Import the function that `module:name` or `file.py:name` means.

    Raises:
        BadInputError: there is no such module, file or function.
    """
    where, _, name = specification.rpartition(":")
    try:
        if where.endswith(".py"):
            path = Path(where)
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = module
            sys.path.insert(0, str(path.parent.resolve()))
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part)
    except (ModuleNotFoundError, FileNotFoundError, AttributeError) as error:
        raise BadInputError(f"{specification} cannot be imported: {error}") from error
    return found


if __name__ == "__main__":
    try:
        _do_job(Path(sys.argv[1]))
    except BadInputError as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_JOB)
