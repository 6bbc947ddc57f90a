"""What a function captured: arrays and numbers that it uses and is not given, by the name of the variable that holds them.

Of `loss = lambda p: ((X @ p["w"] - y) ** 2).mean()`, where X and y are variables of the script: `{"X": …, "y": …}`. The
variables of one function are looked up here for `reprotui.observe.jax_captured` too.
"""

import contextlib
import functools
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

Variables = list[tuple[str, Any]]

DEPTH = 4
"""Functions that call functions: so far are the variables of those looked for."""
MOST_LEAVES = 1024
"""Of a variable that holds more arrays than this, none are taken: it is no data that a function computes with."""


def captured(function: Any) -> dict[str, Any]:
    """Return the arrays and numbers that a function captured, by name: from closures, modules, `partial`s and objects."""
    found: dict[str, Any] = {}
    _walk(function, DEPTH, found, set())
    return found


def codes(function: Any) -> tuple[Any, ...]:
    """Return what functions have in common that are made anew from the same lines: their code, and that of those they hold."""
    found: list[Any] = []
    _codes(function, DEPTH, found)
    return tuple(found)


def innermost(function: Any) -> Any:
    """Return the function that others wrap."""
    for _ in range(DEPTH):
        inner = function.func if isinstance(function, functools.partial) else getattr(function, "__wrapped__", None)
        if inner is None:
            break
        function = inner
    return function


def _codes(function: Any, depth: int, found: list[Any]) -> None:
    function = innermost(function)
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    found.append(type(function) if code is None else code)
    if depth:
        for _, value in variables_of(function) if isinstance(function, types.FunctionType) else ():
            if isinstance(innermost(value), types.FunctionType | types.MethodType):
                _codes(value, depth - 1, found)


def variables_of(function: types.FunctionType) -> Variables:
    """Return the variables of its closure that a function and those in its body use, and the defaults of its arguments."""
    code, found = function.__code__, []
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not set yet
            found.append((name, cell.cell_contents))
    defaults, parameters = function.__defaults__ or (), code.co_varnames[: code.co_argcount]
    found += zip(parameters[len(parameters) - len(defaults) :], defaults, strict=True)
    return [*found, *(function.__kwdefaults__ or {}).items()]


def variables_of_module(function: types.FunctionType, looked_into: Callable[[Mapping[str, Any]], bool]) -> Variables:
    """Return the variables of its module that a function names; of another module (`import data`), what it asks that for.

    Args:
        function: of which.
        looked_into: says of the variables of a module whether they are the script's.
    """
    module, found = function.__globals__, []
    names = _names(function.__code__) if looked_into(module) else ()
    for name in names:
        value = module.get(name)
        if isinstance(value, types.ModuleType):
            asked = [inner for inner in names if inner in vars(value)] if looked_into(vars(value)) else []
            found += [(f"{name}/{inner}", vars(value)[inner]) for inner in asked]
        elif value is not None:
            found.append((name, value))
    return found


def variables_of_partial(function: functools.partial) -> Variables:
    """Return what a `partial` was given."""
    return [*((f"argument_{number}", value) for number, value in enumerate(function.args)), *function.keywords.items()]


def is_ours(function: types.FunctionType) -> bool:
    """Say whether a function is one of this package, around one of the script's."""
    return str(function.__globals__.get("__name__")).startswith("reprotui.")


def _walk(function: Any, depth: int, found: dict[str, Any], seen: set[int]) -> None:
    if id(function) in seen or depth < 0:
        return
    seen.add(id(function))
    if isinstance(function, functools.partial):
        for name, value in variables_of_partial(function):
            _take(name, value, depth, found, seen)
        _walk(function.func, depth, found, seen)
        return
    owner = getattr(function, "__self__", None)
    function = getattr(function, "__func__", function)
    if isinstance(function, types.FunctionType) and not is_ours(function):
        named = _names(function.__code__)
        if owner is not None and not isinstance(owner, types.ModuleType):
            _take("self", owner, depth - 1, found, seen, tuple(getattr(owner, "__dict__", ())))
        for name, value in [*variables_of(function), *variables_of_module(function, _is_own)]:
            _take(name, value, depth - 1, found, seen, named)
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        _walk(wrapped, depth, found, seen)


def _take(
    name: str, value: Any, depth: int, found: dict[str, Any], seen: set[int], named: tuple[str, ...] = ()
) -> None:  # fmt: skip
    """Take a variable's arrays; of a function, what that captured in turn; of an object, the attributes that are `named`."""
    if isinstance(value, types.ModuleType | type) or id(value) in seen:
        return
    if isinstance(value, int | float | complex) and not isinstance(value, bool):
        found.setdefault(name, value)
        return
    leaves = [] if isinstance(value, types.FunctionType | types.MethodType | functools.partial) else _leaves(value)
    if not leaves and callable(value) and not hasattr(value, "dtype"):
        _walk(value, depth, found, seen)
        return
    seen.add(id(value))
    for path, leaf in leaves:
        found.setdefault(f"{name}/{path}" if path else name, leaf)
    attributes = getattr(value, "__dict__", None)
    if not leaves and depth >= 0 and isinstance(attributes, dict):
        for inner in named:
            if inner in attributes:
                _take(f"{name}/{inner}", attributes[inner], depth - 1, found, seen, named)


def _leaves(value: Any) -> list[tuple[str, Any]]:
    from reprotui.checksum import jax_form

    if isinstance(value, Tracer):
        return []
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return [("", value)]
    if isinstance(value, str | bytes) or (isinstance(value, list | tuple | dict) and len(value) > MOST_LEAVES):
        return []
    named = jax_form.named_leaves(value)
    arrays = [(path, leaf) for path, leaf in named if isinstance(leaf, jax.Array | np.ndarray) and not isinstance(leaf, Tracer)]
    return arrays if len(arrays) <= MOST_LEAVES else []


def _is_own(module: Mapping[str, Any]) -> bool:
    """Say whether a module is the script, or lies beside it: no library's and none of Python's."""
    return module.get("__name__") == "__main__" or _is_own_file(str(module.get("__file__")))


@functools.cache
def _is_own_file(file: str) -> bool:
    return file != "None" and not file.startswith((sys.prefix, sys.base_prefix, "<frozen")) and "site-packages" not in file


@functools.cache
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that code uses, and the functions inside it."""
    inner = [name for constant in code.co_consts if isinstance(constant, types.CodeType) for name in _names(constant)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))
