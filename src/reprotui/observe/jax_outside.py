"""State that a script updates by itself, outside of jitted functions: it shows only as what goes into the next call."""

from collections.abc import Callable
from typing import Any, TypeVar

from reprotui.observe.jax_calls import Call, Function, Place, kinds
from reprotui.observe.roles import outside_state, state_path

T = TypeVar("T")


class Once:
    """What is worked out once for all calls that look alike, and remembered."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def __call__(self, key: Any, make: Callable[[], T]) -> T:
        """Return what was made for this key."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


class OutsideState:
    """Which inputs of a train step, and of what is called along with it, are state of the script's own keeping.

    Args:
        step: the train step.
        functions: the train step, and those whose outputs go into it each time.
        example: a call of the train step.
    """

    def __init__(self, step: Function, functions: set[Function], example: Call) -> None:
        self._step, self._functions = step, functions
        self._keeps_parameters = any(
            state_path(place.path, place.kind, in_optimizer(step, example, place)).startswith("params/")
            for place in example.look.inputs.places
            if place.path in step.fed
        )
        self._names: dict[Function, frozenset[str]] = {}
        self._once = Once()

    def names(self, function: Function) -> frozenset[str]:
        """Return which inputs of a function looked like state when its outputs were last seen."""
        return self._names.get(function, frozenset())

    def inputs(self, call: Call) -> frozenset[int]:
        """Return the inputs that are such state: none where parameters come back by themselves."""
        if self._keeps_parameters:
            return frozenset()
        version, outputs = self._step.version, call.outputs.side if call.outputs else None
        if outputs is not None:
            self._names[call.function] = self._once(
                ("names", call.look, outputs, version), lambda: frozenset(outside_state(self._foreign(call), kinds(outputs)))
            )
        # Before a call its outputs are not there: what was state in the call before is state now.
        names, places = self.names(call.function), call.look.inputs.places
        return self._once(
            ("inputs", call.look, version, names),
            lambda: frozenset(index for index, place in enumerate(places) if place.path in names & set(self._foreign(call))),
        )

    def _foreign(self, call: Call) -> dict[str, Any]:
        """Return the kinds of the inputs that are no output of the functions of a step."""
        own = self._step.fed if call.function is self._step else {}
        return {
            place.path: place.kind
            for place, origin in zip(call.look.inputs.places, call.look.origins, strict=True)
            if place.path not in own and not (origin is not None and origin.function in self._functions)
        }


def in_optimizer(step: Function, call: Call, place: Place) -> bool:
    """Say whether a leaf of the state is the optimizer's, as what goes in or what comes out of the train step tells."""
    output = step.fed[place.path]
    outputs = call.outputs.side.places if call.outputs else ()
    return place.in_optimizer or any(other.in_optimizer for other in outputs if other.path == output)
