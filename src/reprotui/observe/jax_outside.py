"""State that a script updates by itself, outside of jitted functions: it shows only as what goes into the next call."""

from collections.abc import Mapping

from reprotui.observe.jax_calls import Call, Function, kinds
from reprotui.observe.jax_loop import Loop
from reprotui.observe.once import Once
from reprotui.observe.roles import Kind, outside_state

Leaves = tuple[tuple[str, Kind], ...]
"""The leaves of an argument: path and kind."""


class OutsideState:
    """Which inputs of the functions of a loop are state of the script's own keeping."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._names: dict[Function, frozenset[str]] = {}
        self._arguments: dict[str, Leaves] = {}
        self._once = Once()

    def names(self, function: Function) -> frozenset[str]:
        """Return which inputs of a function looked like state when its outputs were last seen."""
        return self._names.get(function, frozenset())

    def inputs(self, call: Call) -> frozenset[int]:
        """Return the inputs that are such state: none where parameters come back by themselves."""
        if self._loop.keeps_parameters:
            return frozenset()
        version, outputs = self._loop.version, call.outputs.side if call.outputs else None
        if outputs is not None:
            self._names[call.function] = self._once(
                ("names", call.look, outputs, version), lambda: frozenset(outside_state(self._foreign(call), kinds(outputs)))
            )
            self._once(("arguments", call.look, self.names(call.function)), lambda: self._note(call))
        # Before a call its outputs are not there: what was state in the call before is state now.
        names, arguments = self.names(call.function), tuple(self._arguments)
        return self._once(("inputs", call.look, version, names, arguments), lambda: self._inputs(call, names))

    def name(self, path: str) -> str:
        """Return the name of such state in records; with the argument's, where there are several networks."""
        first, _, rest = path.partition("/")
        return f"params/{path}" if len(set(self._arguments.values())) > 1 else f"params/{rest or first}"

    def _inputs(self, call: Call, names: frozenset[str]) -> frozenset[int]:
        foreign = self._foreign(call)
        # The parameters of another network go into a function too, under the name that they have in their own.
        known = {
            path for name, leaves in _arguments(foreign) if self._arguments.get(name) == leaves for path, _ in leaves
        } | names
        places = call.look.inputs.places
        return frozenset(index for index, place in enumerate(places) if place.path in foreign and place.path in known)

    def _note(self, call: Call) -> None:
        names = self.names(call.function)
        found = _arguments({path: kind for path, kind in self._foreign(call).items() if path in names})
        self._arguments.update(found)

    def _foreign(self, call: Call) -> dict[str, Kind]:
        """Return the kinds of the inputs that are no output of the functions of a step."""
        own = self._loop.received(call.function)
        return {
            place.path: place.kind
            for place, origin in zip(call.look.inputs.places, call.look.origins, strict=True)
            if place.path not in own and not (origin is not None and origin.function in self._loop.functions)
        }


def _arguments(kinds_by_path: Mapping[str, Kind]) -> list[tuple[str, Leaves]]:
    found: dict[str, list[tuple[str, Kind]]] = {}
    for path, kind in kinds_by_path.items():
        found.setdefault(path.split("/", 1)[0], []).append((path, kind))
    return [(name, tuple(leaves)) for name, leaves in found.items()]
