"""Which libraries are there, which are loaded, and the one place that imports them: only when asked for."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from reprotui.errors import BadInputError

LIBRARIES = ("python", "numpy", "torch", "jax")
"""The libraries whose randomness can be seeded. `python` is the module `random`."""

_INSTALL = {"torch": 'pip install "reprotui[torch]"', "jax": "pip install jax", "numpy": "pip install numpy"}


class FrameworkMissingError(BadInputError):
    """A framework that was asked for is not installed."""


class TooLateError(BadInputError):
    """A setting was asked for after the moment at which it is read: it would have had no effect."""


def installed(name: str) -> bool:
    """Say whether a library can be imported, without importing it."""
    if name == "python" or sys.modules.get(name) is not None:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        # A finder that refuses the name, or a module set to None: not to be had in this process.
        return False


def loaded(name: str) -> Any:
    """Return a library's module where the process has imported it already, else None."""
    return sys.modules.get(name)


def require(name: str, purpose: str) -> Any:
    """Import a library.

    Args:
        name: such as `torch`.
        purpose: what needs it; the error says so.

    Raises:
        FrameworkMissingError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = _INSTALL.get(name, f"pip install {name}")
        raise FrameworkMissingError(f"{purpose} needs {name}, which cannot be imported ({error}): {hint}") from error


def choose(frameworks: Sequence[str] | str | None, purpose: str) -> tuple[str, ...]:
    """Return the libraries that are meant: those named, or all that are installed.

    Raises:
        BadInputError: a name is unknown.
        FrameworkMissingError: a named one is not installed.
    """
    if frameworks is None:
        return tuple(name for name in LIBRARIES if installed(name))
    names = (frameworks,) if isinstance(frameworks, str) else tuple(frameworks)
    for name in names:
        if name not in LIBRARIES:
            raise BadInputError(f"{name!r} is not a library that {purpose} knows: {', '.join(LIBRARIES)}")
        if not installed(name):
            raise FrameworkMissingError(f"{purpose} was asked for {name}, which is not installed: {_INSTALL[name]}")
    return tuple(name for name in LIBRARIES if name in names)


def jax_is_initialised() -> bool:
    """Say whether jax has started its backend: from then on XLA_FLAGS and NPROC are not read again."""
    bridge: ModuleType | None = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(bridge.backends_are_initialized())


def jax_has_gpu() -> bool:
    """Say whether jax, already started, computes on a GPU."""
    jax = loaded("jax")
    return jax_is_initialised() and jax is not None and jax.default_backend() not in ("cpu", "tpu")


def cuda_is_initialised() -> bool:
    """Say whether torch has started CUDA: from then on CUBLAS_WORKSPACE_CONFIG is not read again."""
    torch = loaded("torch")
    return torch is not None and bool(torch.cuda.is_initialized())
