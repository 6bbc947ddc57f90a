"""Iterations of a loop inside a call, computed once more from what the call was given: each is a step of its own.

Of `params, losses = epoch(params, X)` with a scan over 20 batches, after the call:

    before    what the call computes ahead of the loop
    body      20 times: params and X[i] → params and loss, each with its checksums
    after     what it computes from the end of the loop

The call's own outputs prove it: every one of them must come out bit for bit. Where one does not, nothing of it is recorded.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, jaxpr_as_fun

from reprotui.observe.jax_bodies import Body, Operation, Program, evaluate
from reprotui.record import lanes

MOST_ITERATIONS = 100_000
"""Of a call with more, none are recorded: their checksums are held until the call's outputs prove them."""


class Iteration(NamedTuple):
    """What one iteration took of the arrays that the loop steps through, what it gave of its own, and what it handed on."""

    slices: Sequence[Any]
    given: Sequence[Any]
    carried: Sequence[Any]


@dataclass(frozen=True, eq=False)
class Places:
    """Which leaf of a call's arguments or outputs an input or a result of its program is, by number."""

    arguments: Mapping[int, int]
    results: Mapping[int, int]

    @classmethod
    def of_call(cls, program: Program, call: Any) -> "Places":
        """Find the arguments of a jitted call among the inputs of its program: all that are not static, in order.

        Raises:
            ValueError: there are more or fewer of them than the program has inputs.
        """
        arguments, outputs = call.signature.arguments, call.outputs.signature
        static = call.function.static_leaves
        dynamic = [at for at, leaf in enumerate(arguments.leaves) if leaf.path not in static]
        found = dict(zip(range(len(program.arguments)), dynamic, strict=True))
        positions = range(len(program.results)) if outputs.positions is None else outputs.positions
        return cls(found, {position: leaf for leaf, position in enumerate(positions)})


class Replay(NamedTuple):
    """A call that is to be computed once more: its loop, and the inputs of its program."""

    inside: "Inside"
    given: Sequence[Any]


class Inside:
    """The loop of calls that are alike.

    Args:
        program: what jax traced for such a call.
        places: which leaves its inputs and results are.
    """

    def __init__(self, program: Program, places: Places) -> None:
        found = program.loop()
        assert found is not None
        self.program, self.places = program, places
        self._at, self.body = found
        self.loop: Operation = program.operations[self._at]
        self._before, self._after = jax.jit(self._compute_before), jax.jit(self._compute_after)
        params = self.loop.params
        self._is_scan = self.body.length is not None
        # Made here, they are functions of this package, whose calls are not observed.
        if self._is_scan:
            self._step = jax.jit(lambda *given: _scan_step(params["jaxpr"], self.body, *given))
        else:
            self._step = jax.jit(lambda values: jaxpr_as_fun(params["body_jaxpr"])(*values))
            self._goes_on = jax.jit(lambda values: jaxpr_as_fun(params["cond_jaxpr"])(*values)[0])

    @classmethod
    def of(cls, program: Program, places: Places) -> "Inside | str":
        """Return the loop of a program; where it cannot be run again, the reason."""
        found = program.loop()
        if found is None:
            return "it has no loop"
        if found[1].length is not None and not 0 < found[1].length <= MOST_ITERATIONS:
            return f"its loop has {found[1].length:,} iterations"
        if any(acts(operation.primitive, operation.params) for operation in program.operations):
            return "it calls back into Python, and that once more would be another thing"
        return cls(program, places)

    def run(self, given: Sequence[Any], outcome: list[Any]) -> Iterator[Iteration]:
        """Compute the iterations of a call from the inputs of its program; its results are put into `outcome` at the end."""
        constants = list(self.program.constants.values())
        inputs, kept = self._before(constants, given)
        body = self.body
        fixed, carried, through = (
            inputs[: body.constants],
            inputs[body.constants :][: body.carried],
            inputs[body.constants + body.carried :],
        )
        stacked: list[Sequence[Any]] = []
        if self._is_scan:
            assert body.length is not None
            order = range(body.length)
            for at in reversed(order) if self.loop.params["reverse"] else order:
                slices, carried, each = self._step(fixed, carried, through, at)
                stacked.append(each)
                yield Iteration(slices, each, carried)
            stacked = stacked[::-1] if self.loop.params["reverse"] else stacked
        else:
            of_condition = self.loop.params["cond_nconsts"]
            while bool(self._goes_on([*fixed[:of_condition], *carried])):
                carried = self._step([*fixed[of_condition:], *carried])
                yield Iteration((), (), carried)
        ends = [*carried, *(jnp.stack(values) for values in zip(*stacked, strict=True))]
        outcome.extend(self._after(constants, given, kept, ends))

    def proves(self, outcome: Sequence[Any], outputs: np.ndarray) -> bool:
        """Say whether results have the checksums of a call's outputs; those are uint32[leaves, 2]."""
        found = {leaf: outcome[number] for number, leaf in self.places.results.items()}
        if not found:
            return False
        sums = lanes.take(list(found.values())).result().lanes
        return bool(np.array_equal(sums, outputs[list(found)]))

    def _compute_before(self, constants: Sequence[Any], given: Sequence[Any]) -> tuple[list[Any], dict[int, Any]]:
        values = self._known(constants, given)
        evaluate(self.program.operations[: self._at], values)
        inputs = [
            jnp.asarray(item.val, cast(Any, item).aval.dtype) if isinstance(item, Literal) else values[item]
            for item in self.loop.inputs
        ]
        after = self.program.operations[self._at + 1 :]
        wanted = {item for operation in after for item in operation.inputs if isinstance(item, int)}
        wanted |= {item for item in self.program.results if isinstance(item, int)}
        known = {*self.program.constants, *self.program.arguments}
        return inputs, {number: values[number] for number in wanted - known if number in values}

    def _compute_after(
        self, constants: Sequence[Any], given: Sequence[Any], kept: dict[int, Any], ends: Sequence[Any]
    ) -> list[Any]:
        values = {**self._known(constants, given), **kept, **dict(zip(self.loop.outputs, ends, strict=True))}
        evaluate(self.program.operations[self._at + 1 :], values)
        return [jnp.asarray(item.val) if isinstance(item, Literal) else values[item] for item in self.program.results]

    def _known(self, constants: Sequence[Any], given: Sequence[Any]) -> dict[int, Any]:
        return {
            **dict(zip(self.program.constants, constants, strict=True)),
            **dict(zip(self.program.arguments, given, strict=True)),
        }


class Loops:
    """The loops inside the calls of one function, by what the calls look like; where one cannot be run again, the reason."""

    def __init__(self) -> None:
        self._known: dict[Any, Inside | str] = {}

    def replay(self, call: Any, program: Callable[[], Program | None]) -> Replay | str:
        """Return what computes a jitted call once more from its arguments that were kept, or the reason why nothing does."""

        def placed() -> tuple[Program, Places] | None:
            found = program()
            return None if found is None else (found, Places.of_call(found, call))

        try:
            inside = self.find(call.signature.arguments, placed)
            return (
                inside if isinstance(inside, str) else Replay(inside, [call.kept[at] for at in inside.places.arguments.values()])
            )
        except Exception as error:  # a program of another kind
            return f"{type(error).__name__}: {error}"

    def find(self, key: Any, program: Callable[[], tuple[Program, Places] | None]) -> Inside | str:
        """Return the loop of calls that are alike: `key` tells them, `program` returns the program and where its values are."""
        if key not in self._known:
            found = program()
            self._known[key] = "jax does not tell its program" if found is None else Inside.of(*found)
        return self._known[key]


def kept(values: Sequence[Any]) -> list[Any]:
    """Return copies of arrays: a call may be given the memory of its arguments, and a script may overwrite its own."""
    return [
        jnp.copy(value) if isinstance(value, jax.Array) else np.array(value) if isinstance(value, np.ndarray) else value
        for value in values
    ]


def _scan_step(jaxpr: Any, body: Body, fixed: Sequence[Any], carried: Sequence[Any], through: Sequence[Any], at: Any) -> Any:
    slices = [jax.lax.dynamic_index_in_dim(array, at, keepdims=False) for array in through]
    found = jaxpr_as_fun(jaxpr)(*fixed, *carried, *slices)
    return slices, found[: body.carried], found[body.carried :]


def acts(primitive: Any, params: Mapping[str, Any]) -> bool:
    """Say whether an operation, or one inside it, does more than compute."""
    if "callback" in primitive.name or primitive.name in ("debug_print", "infeed", "outfeed"):
        return True
    for value in params.values():
        for inner in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(inner, "jaxpr", inner)
            if any(acts(equation.primitive, equation.params) for equation in getattr(jaxpr, "eqns", ())):
                return True
    return False
