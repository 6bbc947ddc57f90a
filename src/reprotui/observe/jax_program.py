"""The program that jax traced for a call: which outputs are arguments handed back, and which arrays it captured.

Of `evaluate(state, x) → ({**state, "count": count + 1}, loss)`, where `mask` is an array of the module:

    passed      output state/params/w is argument state/params/w: a copy of the same bits, no change
    constants   mask

jax has the program at hand right after the call. It is asked with tracing forbidden, so nothing of the script runs again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from reprotui.checksum.leaves import is_leaf

Passed = tuple[tuple[int, int], ...]
"""Outputs that are an argument handed back, each with that argument, by number."""

_SAME_BITS = ("sharding_constraint", "copy", "reshard", "optimization_barrier")
"""Operations that leave the bits as they are."""


@dataclass(frozen=True)
class Program:
    """What is known of a traced function; leaves are numbered as they are flattened.

    Attributes:
        passed: the outputs that are an argument handed back, each with that argument.
        constants: the arrays that it captured, each once.
    """

    passed: Passed
    constants: tuple[Any, ...]


def traced(real: Any, args: Any, kwargs: Any) -> Any:
    """Return what jax traced for a call that has just run, a closed jaxpr; None where jax does not have it at hand.

    Args:
        real: the jitted function.
        args, kwargs: those of the call; arrays that it was given to destroy may be gone.
    """
    trace = getattr(real, "trace", None)
    if trace is None:
        return None
    try:
        with jax.no_tracing():
            return trace(*args, **kwargs).jaxpr
    except Exception:  # jax would have to trace once more
        return None


def is_tracing(leaves: Iterable[Any]) -> bool:
    """Say whether a call happens while jax traces another function: then it is part of that one."""
    from jax._src import core  # jax has no public way to ask

    clean: Any = getattr(core, "trace_state_clean", None)
    if clean is not None:
        return not clean()
    return any(isinstance(leaf, core.Tracer) for leaf in leaves)


def program_of(real: Any, args: Any, kwargs: Any) -> Program | None:
    """Return the program that a call has just run; None where jax does not have it at hand. Its arguments: see `traced`."""
    closed = traced(real, args, kwargs)
    try:
        constants = {id(value): value for value in _constants(closed.jaxpr, closed.consts, set()) if is_leaf(value)}
        # With static arguments, the leaves of a call and the inputs of its program are numbered differently.
        passed = _passed(closed.jaxpr) if len(closed.jaxpr.invars) == len(jax.tree.leaves((args, kwargs))) else ()
        return Program(tuple(passed), tuple(constants.values()))
    except Exception:  # a jax whose programs look different, or none at all
        return None


class Programs:
    """What is known of the programs of one function, traced for arguments of one kind after the other.

    Args:
        real: the jitted function.

    Attributes:
        unread: a program could not be looked at: what it captured is not known.
    """

    def __init__(self, real: Any) -> None:
        self._real = real
        self._cached = getattr(real, "_cache_size", lambda: 0)
        self._programs = -1
        self._passed: dict[object, Passed] = {}
        self._constants: dict[int, Any] = {}  # held, so that none gives its identity to another array
        self.unread = False

    def passed(self, arguments: object) -> Passed:
        """Return the outputs that are an argument handed back, where the arguments are of this kind."""
        return self._passed.get(arguments, ())

    def look(self, arguments: object, args: Any, kwargs: Any) -> list[Any]:
        """Look at the program that a call has just run, if it is another one; return what it captured and none before did.

        Args:
            arguments: of which kind they are.
            args, kwargs: as in `program_of`.
        """
        programs = self._cached()
        if programs == self._programs and arguments in self._passed:
            return []
        self._programs = programs
        program = program_of(self._real, args, kwargs)
        if program is None:
            self.unread, self._passed[arguments] = True, ()
            return []
        # Another program for arguments of the same kind may change what this one hands back.
        known = self._passed.get(arguments, program.passed)
        self._passed[arguments] = tuple(pair for pair in known if pair in program.passed)
        fresh = [value for value in program.constants if id(value) not in self._constants]
        self._constants.update((id(value), value) for value in fresh)
        return fresh


def _passed(jaxpr: Any) -> Iterator[tuple[int, int]]:
    for number, origin in enumerate(_origins(jaxpr)):
        if origin is not None:
            yield number, origin


def _origins(jaxpr: Any) -> list[int | None]:
    """Return for each output of a program the number of the input that it is."""
    known = {id(variable): number for number, variable in enumerate(jaxpr.invars)}
    for equation in jaxpr.eqns:
        if equation.primitive.name in _SAME_BITS:
            origins: Sequence[int | None] = range(len(equation.outvars))
        else:
            inner = equation.params.get("jaxpr") if equation.primitive.name in ("jit", "pjit", "closed_call") else None
            origins = [] if inner is None else _origins(inner.jaxpr)
        for variable, origin in zip(equation.outvars, origins, strict=False):
            source = None if origin is None else known.get(id(equation.invars[origin]))
            if source is not None:
                known[id(variable)] = source
    return [known.get(id(variable)) for variable in jaxpr.outvars]


def _constants(jaxpr: Any, constants: Sequence[Any], seen: set[int]) -> Iterator[Any]:
    """Yield the arrays that a program and those inside it captured, in the order in which they are met."""
    yield from constants
    if id(jaxpr) in seen:  # a function that is called in many places
        return
    seen.add(id(jaxpr))
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner, "eqns"):
                    yield from _constants(inner, (), seen)
                elif hasattr(inner, "jaxpr") and hasattr(inner, "consts"):
                    yield from _constants(inner.jaxpr, inner.consts, seen)
        for variable in equation.invars:
            value = getattr(variable, "val", None)
            if value is not None and getattr(value, "shape", ()):  # a number is part of the program's text
                yield value
