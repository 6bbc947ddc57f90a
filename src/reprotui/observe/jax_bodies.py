"""The loop inside a call: which of the operations that jax traced is it, what goes into it and what comes out, by number.

Of `epoch = jax.jit(lambda params, X: jax.lax.scan(update, params, X / 255))`:

    before   a division
    loop     scan: carries params (argument 0, output 0), steps through X / 255, stacks losses (output 1)
    after    nothing

Functions that are jitted inside are opened. Of several loops the one that carries most is meant.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jax.extend.core import Literal

OPENED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
"""Operations that are other programs, and where these stand."""


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of jax's: its inputs are numbers of values, or literals; its outputs are numbers of values."""

    primitive: Any
    params: Mapping[str, Any]
    inputs: tuple[int | Literal, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Body:
    """A loop: how its inputs are divided, in their order, and what its iterations are.

    Attributes:
        constants: how many inputs are the same in each iteration.
        carried: how many are what one iteration hands on to the next; the first outputs are that too.
        length: the number of iterations; None where the loop finds out.
    """

    constants: int
    carried: int
    length: int | None

    @classmethod
    def of(cls, name: str, params: Mapping[str, Any], inputs: int) -> "Body | None":
        """Return what an operation of jax's is as a loop; None where it is none."""
        if name == "scan":
            return cls(params["num_consts"], params["num_carry"], params["length"])
        if name == "while":
            constants = params["cond_nconsts"] + params["body_nconsts"]
            return cls(constants, inputs - constants, None)
        return None

    def told(self, inside: bool) -> str:
        """Say that a function has this loop inside, with how many iterations where that stands fast, and what is recorded."""
        count = "" if self.length is None else f", of {self.length:,} iterations"
        how = (
            "each iteration is recorded"
            if inside
            else "recorded is what goes in and what comes out; --inside records each iteration"
        )
        return f"its loop (scan, fori_loop, while_loop) is inside{count}: {how}"


@dataclass(frozen=True, eq=False)
class Program:
    """A traced call, its jitted functions opened.

    Attributes:
        constants: the values of what it captured, by number.
        arguments: the numbers of its arguments.
        operations: in order.
        results: its outputs: numbers, or literals.
    """

    constants: Mapping[int, Any]
    arguments: tuple[int, ...]
    operations: tuple[Operation, ...]
    results: tuple[int | Literal, ...]

    def loop(self) -> tuple[int, Body] | None:
        """Return which operation is the loop, and how it is divided; None where there is none."""
        found = [
            (at, body)
            for at, operation in enumerate(self.operations)
            if (body := Body.of(operation.primitive.name, operation.params, len(operation.inputs))) is not None and body.carried
        ]
        return max(found, key=lambda loop: self._carried_elements(*loop), default=None)

    @property
    def body(self) -> Body | None:
        """Return the loop; None where there is none."""
        found = self.loop()
        return None if found is None else found[1]

    def stacked(self) -> Mapping[int, int]:
        """Return the outputs that iterations of a loop gave one element each, by number, with the number of iterations."""
        lengths = {
            number: body.length
            for operation in self.operations
            if (body := Body.of(operation.primitive.name, operation.params, len(operation.inputs))) and body.length is not None
            for number in operation.outputs[body.carried :]
        }
        found = {at: lengths.get(result) for at, result in enumerate(self.results) if isinstance(result, int)}
        return {at: length for at, length in found.items() if length is not None}

    def _carried_elements(self, at: int, body: Body) -> int:
        params = self.operations[at].params
        jaxpr = params["jaxpr"] if "jaxpr" in params else params["body_jaxpr"]
        return sum(math.prod(aval.shape) for aval in jaxpr.out_avals[: body.carried])


def opened(closed: Any) -> Program:
    """Return a traced call with all functions opened that are jitted inside."""
    numbers = itertools.count()
    known: dict[Any, int | Literal] = {}
    constants = {}
    for variable, value in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        known[variable] = number = next(numbers)
        constants[number] = value
    arguments = tuple(next(numbers) for _ in closed.jaxpr.invars)
    known.update(zip(closed.jaxpr.invars, arguments, strict=True))
    operations = tuple(_opened(closed.jaxpr, known, numbers, constants))
    return Program(constants, arguments, operations, tuple(_value(atom, known) for atom in closed.jaxpr.outvars))


def _opened(
    jaxpr: Any, known: dict[Any, int | Literal], numbers: Iterator[int], constants: dict[int, Any]
) -> Iterator[Operation]:
    for equation in jaxpr.eqns:
        inputs = [_value(atom, known) for atom in equation.invars]
        inner = equation.params.get(OPENED.get(equation.primitive.name, ""))
        if inner is None:
            outputs = tuple(next(numbers) for _ in equation.outvars)
            known.update(zip(equation.outvars, outputs, strict=True))
            yield Operation(equation.primitive, equation.params, tuple(inputs), outputs)
            continue
        # Two calls of one function have the same variables: each has its own here.
        inside: dict[Any, int | Literal] = dict(zip(inner.jaxpr.invars, inputs, strict=True))
        for variable, value in zip(inner.jaxpr.constvars, inner.consts, strict=True):
            inside[variable] = number = next(numbers)
            constants[number] = value
        yield from _opened(inner.jaxpr, inside, numbers, constants)
        known.update((out, _value(atom, inside)) for out, atom in zip(equation.outvars, inner.jaxpr.outvars, strict=True))


def _value(atom: Any, known: Mapping[Any, int | Literal]) -> int | Literal:
    return atom if isinstance(atom, Literal) else known[atom]


def evaluate(operations: Sequence[Operation], values: dict[int, Any]) -> None:
    """Compute operations in order, to be traced by jax; `values` are those that are known, and those of the outputs after it."""
    for operation in operations:
        given = [item.val if isinstance(item, Literal) else values[item] for item in operation.inputs]
        found = operation.primitive.bind(*given, **operation.primitive.get_bind_params(operation.params))
        found = found if operation.primitive.multiple_results else [found]
        values.update(zip(operation.outputs, found, strict=True))
