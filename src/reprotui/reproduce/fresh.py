"""A function in fresh processes (`child` is what runs there): called once, its leaves handed back as JSON and bytes."""

import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reprotui.checksum import LeafSpec
from reprotui.errors import BadInputError, WorkerFailedError
from reprotui.reproduce.leaves import Leaf, leaf_of_bytes

BAD_JOB = 64
"""Exit code of a process whose job cannot be done: what the error says is the user's to mend."""

TAIL_LINES = 8
"""How much of a failed process's stderr an error shows: the exception and the frames around it."""


class Call(NamedTuple):
    """A function (for fresh processes also `module:name` or `file.py:name`) and what it is called with."""

    function: Callable[..., Any] | str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return what the function is called."""
        return self.function if isinstance(self.function, str) else name_of(self.function)


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, or the type of what is called like one."""
    return getattr(function, "__qualname__", type(function).__name__)


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


def run_fresh(call: Call, count: int, *, seed: int | None = None, frameworks: Sequence[str] = ()) -> Iterator[Mapping[str, Leaf]]:
    """Make a call once in each of `count` fresh processes, and yield the leaves of each result."""
    job = {"function": specification(call.function), "args": list(call.args), "kwargs": dict(call.kwargs)}
    for _ in range(count):
        yield _receive(call_fresh({**job, "seed": seed, "frameworks": list(frameworks)}))


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


def _receive(result: tuple[dict[str, Any], bytes]) -> dict[str, Leaf]:
    header, data = result
    leaves, start = {}, 0
    for path, dtype, shape, size in header["leaves"]:
        leaves[path] = leaf_of_bytes(LeafSpec(path, dtype, tuple(shape)), data[start : start + size])
        start += size
    return leaves
