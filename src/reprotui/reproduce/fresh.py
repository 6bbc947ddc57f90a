"""A function in fresh processes: imported by module or file, called once, its leaves handed back as JSON and bytes."""

import importlib
import importlib.util
import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reprotui.checksum import LeafSpec
from reprotui.errors import BadInputError, WorkerFailedError
from reprotui.reproduce.leaves import Leaf, leaves_of

BAD_JOB = 64
"""Exit code of a process whose job cannot be done: what the error says is the user's to mend."""

TAIL_LINES = 8
"""How much of a failed process's stderr an error shows: the exception and the frames around it."""


def specification(function: Callable[..., Any] | str) -> str:
    """Return `module:name` or `file.py:name` of a function.

    Raises:
        BadInputError: it cannot be imported by another process: a lambda, a nested function, one typed into a session.
    """
    if isinstance(function, str):
        if ":" not in function:
            raise BadInputError(f"{function!r} names no function: write module:name or file.py:name")
        return function
    name = getattr(function, "__qualname__", "")
    if not name or "<" in name:
        raise BadInputError(f"{name or function!r} cannot be imported by a fresh process: define it at the top of a module")
    module = function.__module__
    if module != "__main__":
        return f"{module}:{name}"
    try:
        path = Path(inspect.getsourcefile(function) or "")
    except TypeError:
        path = Path()
    if not path.is_file():
        raise BadInputError(f"{name} lives in no file, so that a fresh process cannot import it: move it into a module")
    return f"{path.resolve()}:{name}"


def run_fresh(
    function: str,
    args: Sequence[Any],
    count: int,
    *,
    seed: int | None = None,
    frameworks: Sequence[str] = (),
) -> Iterator[Mapping[str, Leaf]]:
    """Call a function once in each of `count` fresh processes, and yield the leaves of each result."""
    for _ in range(count):
        yield _receive(call_fresh({"function": function, "args": list(args), "seed": seed, "frameworks": list(frameworks)}))


def call_fresh(job: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Do one job in a fresh process with this environment; return the JSON object and the bytes that it wrote.

    Raises:
        BadInputError: the arguments are no JSON values, the function cannot be imported, or its result cannot be compared.
        WorkerFailedError: the process failed; the end of its stderr is in the error.
    """
    try:
        text = json.dumps({**job, "path": [entry or str(Path.cwd()) for entry in sys.path]})
    except (TypeError, ValueError) as error:
        raise BadInputError(f"arguments for fresh processes must be JSON values: {error}") from error
    with tempfile.TemporaryDirectory(prefix="reprotui-") as directory:
        (Path(directory) / "job.json").write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "reprotui.reproduce.child", directory],
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode == BAD_JOB:
            raise BadInputError(done.stderr.decode(errors="replace").splitlines()[-1])
        if done.returncode:
            tail = "\n".join(done.stderr.decode(errors="replace").splitlines()[-TAIL_LINES:])
            raise WorkerFailedError(f"{job['function']} failed in a fresh process (exit code {done.returncode}):\n{tail}")
        header = json.loads((Path(directory) / "result.json").read_text(encoding="utf-8"))
        return header, (Path(directory) / "result.bin").read_bytes()


def do_job(directory: Path) -> None:
    """Do the job that lies in a directory, and write its result there. Runs in the fresh process."""
    job = json.loads((directory / "job.json").read_text(encoding="utf-8"))
    sys.path[:] = job["path"] if (here := str(Path.cwd())) in job["path"] else [here, *job["path"]]
    if job.get("deterministic"):
        from reprotui.reproduce.determinism import enable_deterministic_mode

        enable_deterministic_mode()
    function = import_function(job["function"])
    if job["seed"] is not None:
        from reprotui.reproduce.seeds import set_global_seed

        set_global_seed(job["seed"], deterministic=False, frameworks=job["frameworks"])
    if runs := job.get("time"):
        from reprotui.reproduce.impact import time_calls

        header, data = {"seconds": time_calls(function, job["args"], runs)}, b""
    else:
        leaves = list(leaves_of(function(*job["args"])).values())
        header = {"leaves": [[*leaf.spec, len(leaf.data)] for leaf in leaves]}
        data = b"".join(leaf.data for leaf in leaves)
    (directory / "result.bin").write_bytes(data)
    (directory / "result.json").write_text(json.dumps(header), encoding="utf-8")


def import_function(specification: str) -> Callable[..., Any]:
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


def _receive(result: tuple[dict[str, Any], bytes]) -> dict[str, Leaf]:
    header, data = result
    leaves, start = {}, 0
    for path, dtype, shape, size in header["leaves"]:
        leaves[path] = Leaf(LeafSpec(path, dtype, tuple(shape)), data[start : start + size])
        start += size
    return leaves
