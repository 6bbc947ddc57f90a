"""Read the step of an observed script in jax: the call that ends it is made once more, with taps, on copies of what it was given.

    held = copies of (state, batch)      the step function's N-th call
    state, loss = train(state, batch)    the script's own call, as ever
    train's program, with taps           once the step is recorded: the same outputs to the bit, and what every kernel gave

The program is the one that jax traced for the call, so nothing of the script runs a second time.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from reprotui.checksum import host_form
from reprotui.checksum.jax_form import named_leaves
from reprotui.checksum.leaves import is_jax, to_numpy
from reprotui.errors import CannotTellError
from reprotui.explain.recompute import Recomputation
from reprotui.observe.jax_inside import acts, kept
from reprotui.observe.jax_program import traced


class _Held(NamedTuple):
    """A call: its program, what went in and what came out."""

    program: Any
    static: frozenset[str]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    outputs: list[np.ndarray]
    names: list[str]


class JaxReader:
    """The call of one step.

    Args:
        owner: the observer, which knows in the end which function ends a step.
        request: the step, the function's name as the run recorded it, and how often the call is made with taps.
    """

    def __init__(self, owner: Any, request: Mapping[str, Any]) -> None:
        self.owner = owner
        self._step, self._function, self._times = int(request["step"]), request["function"], int(request["times"])
        self._folder = Path.cwd()
        self._held: dict[Any, _Held] = {}
        self._recomputation: Recomputation | None = None

    def begin(self) -> None:
        """Wait for the call: it is known by its number."""

    def leaves(self, names: Sequence[tuple[str, str]], leaves: Sequence[Any]) -> None:
        """Need nothing of what records hold."""

    def call(self, function: Any, given: Any, made: Any) -> Any:
        """Make a call; where it may be the one, keep copies of what it is given and of what it gave."""
        if function.name != self._function or function.calls != self._step:
            return made.run()
        leaves, structure = jax.tree.flatten(given)
        args, kwargs = jax.tree.unflatten(structure, kept(leaves))
        result = made.run()
        program = None if made.again is None else traced(made.again, *given)
        outputs = [np.array(to_numpy(leaf)) for leaf in jax.tree.leaves(result)]
        self._held[function] = _Held(program, function.static, args, kwargs, outputs, [path for path, _ in named_leaves(result)])
        return result

    def result(self) -> dict[str, Any]:
        """Return what the call's kernels give, as JSON can hold it.

        Raises:
            CannotTellError: the call cannot be made once more, or not with the same bits.
        """
        held = self._held.get(self.owner.step_function)
        if held is None:
            raise CannotTellError(f"the call of step {self._step} was not seen")
        if held.program is None:
            raise CannotTellError("its step is no call of a function that jax has compiled")
        jaxpr = held.program.jaxpr
        if any(acts(equation.primitive, equation.params) for equation in jaxpr.eqns):
            raise CannotTellError("its step calls back into Python or prints, which would be done once more")
        args = [value for number, value in enumerate(held.args) if str(number) not in held.static]
        kwargs = {name: value for name, value in held.kwargs.items() if name not in held.static}
        named = named_leaves((args, kwargs))
        leaves = [leaf for _, leaf in named]
        if len(leaves) != len(jaxpr.invars) or len(held.outputs) != len(jaxpr.outvars):
            raise CannotTellError("its step function has arguments that are no inputs of its program")
        function = jaxpr_as_fun(held.program)
        self._recomputation = Recomputation(lambda *flat: function(*flat), tuple(leaves), held.outputs, held.names)
        inputs = [[path.partition("/")[2], _checksum(leaf)] for path, leaf in named]
        found = self._recomputation.read(self._times)
        bodies = [place for kernel in found["kernels"] for _, place in kernel["body"]]
        for place in [*bodies, *(kernel["place"] for kernel in found["kernels"]), *(place for _, place in found["equations"])]:
            if place is not None:
                place[0] = str(self._folder / place[0])  # a script's own file has the name by which it was started
        return {"framework": "jax", "inputs": inputs, **found}

    def value(self, number: int, output: int) -> np.ndarray | None:
        """Return what a kernel gave."""
        return None if self._recomputation is None else self._recomputation.value((number, output))


def _checksum(leaf: Any) -> str:
    return f"{host_form.checksum(to_numpy(leaf) if is_jax(leaf) else np.asarray(leaf)):016x}"


def reader(_watch: Any, owner: Any, request: Mapping[str, Any]) -> JaxReader:
    """Return what reads the steps of jax, see `reprotui.observe.explaining`."""
    return JaxReader(owner, request)
