"""What the leaves of a call are like, to recognise the next one by comparing in C: see `jax_signature`."""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

from reprotui.record.frameworks import jax_process
from reprotui.record.host import Picker, picker

_aval = operator.attrgetter("aval")


class Likeness(NamedTuple):
    """What the leaves of a tree are like, to tell at once that those of the next call's are the same.

    `classes` are those of all leaves; `avals` the abstract values of jax's arrays, `types` dtype and shape of the others; `lie`
    says where they lie, in a training that is spread over processes, of which each holds parts.
    """

    structure: Any
    classes: list[type]
    pick_arrays: Picker
    avals: list[Any]
    pick_others: Picker
    types: list[Any]
    lie: list[Any]

    @classmethod
    def of(cls, values: Sequence[Any], structure: Any) -> "Likeness":
        """Keep what the leaves of a call are like."""
        # By name, because jax shows the class to nobody; a typed key would make its abstract value anew each time, 22 µs.
        arrays = [index for index, value in enumerate(values) if type(value).__name__ == "ArrayImpl"]
        pick, rest = picker(arrays), picker([index for index in range(len(values)) if index not in set(arrays)])
        avals, types = list(map(_aval, pick(values))), list(map(_type, rest(values)))
        return cls(structure, list(map(type, values)), pick, avals, rest, types, _lie(values))

    def fits(self, values: Sequence[Any], structure: Any) -> bool:
        """Say whether the leaves of another call are described in the same way; no loop of Python's over jax's arrays."""
        # Lists compare by identity first: a loop hands over arrays of the same abstract values each time.
        return (
            list(map(type, values)) == self.classes
            and self.structure == structure
            and list(map(_aval, self.pick_arrays(values))) == self.avals
            and list(map(_type, self.pick_others(values))) == self.types
            and _lie(values) == self.lie
        )


def _lie(values: Sequence[Any]) -> list[Any]:
    """Return where arrays lie; nothing in a process that holds all of each."""
    return [getattr(value, "sharding", None) for value in values] if jax_process()[1] > 1 else []


def _type(value: Any) -> Any:
    """Return what tells whether a leaf that is no array of jax's is described as the one before."""
    dtype = getattr(value, "dtype", None)
    return type(value) if dtype is None else (dtype, value.shape)
