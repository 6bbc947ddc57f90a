"""Where in the source an operation of torch was called, and in which module: Python's frames tell it, and are only read."""

import sysconfig
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

USER, LIBRARY, TORCH, PYTHON, OURS, MODULE, BACKWARD = range(7)
"""Whose code a frame runs; of torch's, `MODULE` calls a module and `BACKWARD` the backward pass."""

Line = tuple[str, int, str]
"""File, line, function."""


class Found(NamedTuple):
    """Where an operation was called.

    Attributes:
        line: the innermost line of the user's; where there is none of a library's that is not torch, of torch's at last.
        through: the innermost line of a library that was called there, None where the user's line called torch itself.
        module: the innermost module that was being called.
        within: of an operation of a backward pass, whether the user's line is within the pass (a function of theirs, a part that
            is computed anew) and not only its beginning.
        ours: the operation is one of an observer's.
    """

    line: Line | None
    through: Line | None
    module: Any
    within: bool
    ours: bool = False


class Places:
    """Whose code the frames of this process run.

    Args:
        torch: the path of torch's `__init__`.
    """

    def __init__(self, torch: str) -> None:
        self._torch = f"{Path(torch).resolve().parent}/"
        self._torch_as_named = f"{Path(torch).parent}/"
        self._ours = f"{Path(__file__).resolve().parent.parent}/"
        self._python = tuple({f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib")})
        self._folder = Path.cwd()  # the script may go to another one
        self._known: dict[CodeType, int] = {}

    def find(self, frame: FrameType | None) -> Found:
        """Look from a frame outwards."""
        if frame is not None and self._kind(frame.f_code) == OURS:
            return Found(None, None, None, within=False, ours=True)
        user: Line | None = None
        library: Line | None = None
        torch: Line | None = None
        module = None
        passed = within = False
        while frame is not None and user is None:
            code = frame.f_code
            kind = self._known.get(code)
            if kind is None:
                kind = self._kind(code)
            if kind == USER:
                user, within = self._line(frame), not passed
            elif kind == LIBRARY:
                library = library or self._line(frame)
            elif kind == BACKWARD:
                passed = True
            elif kind in (TORCH, MODULE):
                torch = torch or self._line(frame)
                if kind == MODULE and module is None and not passed:
                    module = frame.f_locals.get("self")
            frame = frame.f_back
        while module is None and frame is not None and not passed:
            kind = self._kind(frame.f_code)
            if kind == MODULE:
                module = frame.f_locals.get("self")
            passed = kind == BACKWARD
            frame = frame.f_back
        line = user or library or torch
        through = library or torch
        return Found(line, None if through == line else through, module, within)

    def _kind(self, code: CodeType) -> int:
        found = self._known.get(code)
        if found is None:
            found = self._known[code] = self._judged(code)
        return found

    def _judged(self, code: CodeType) -> int:
        name = code.co_filename
        if name.startswith("<"):
            return PYTHON
        if name.startswith((self._torch, self._torch_as_named)):
            if code.co_name == "_call_impl" and name.endswith("nn/modules/module.py"):
                return MODULE
            return BACKWARD if code.co_name == "_engine_run_backward" else TORCH
        path = str(self._folder / name)
        if path.startswith(self._ours):
            return OURS
        if "/site-packages/" in path or "/dist-packages/" in path:
            return LIBRARY
        return PYTHON if path.startswith(self._python) else USER

    def _line(self, frame: FrameType) -> Line:
        code = frame.f_code
        return str(self._folder / code.co_filename), frame.f_lineno, "" if code.co_name == "<module>" else code.co_name
