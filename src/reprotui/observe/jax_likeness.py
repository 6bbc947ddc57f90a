"""What the leaves of a call are like, to tell at once that those of the next call are the same."""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

from reprotui.record.lanes import Picker, picker

_aval = operator.attrgetter("aval")


class Likeness(NamedTuple):
    """What leaves are like, and how they are nested.

    `classes` are those of all leaves; `avals` the abstract values of jax's arrays, which `arrays` picks; `types` dtype and
    shape of the others.
    """

    structure: Any
    classes: list[type]
    arrays: Picker
    avals: list[Any]
    others: Picker
    types: list[Any]

    @classmethod
    def of(cls, values: Sequence[Any], structure: Any) -> "Likeness":
        """Keep what the leaves of a call are like."""
        # By name, because jax shows the class to nobody; a typed key would make its abstract value anew each time, 22 µs.
        arrays = [index for index, value in enumerate(values) if type(value).__name__ == "ArrayImpl"]
        pick, rest = picker(arrays), picker([index for index in range(len(values)) if index not in set(arrays)])
        return cls(structure, list(map(type, values)), pick, list(map(_aval, pick(values))), rest, list(map(_type, rest(values))))

    def fits(self, values: Sequence[Any], structure: Any) -> bool:
        """Say whether the leaves of another call are described in the same way; no loop of Python's over jax's arrays."""
        # Lists compare by identity first: a loop hands over arrays of the same abstract values each time.
        return (
            list(map(type, values)) == self.classes
            and self.structure == structure
            and list(map(_aval, self.arrays(values))) == self.avals
            and list(map(_type, self.others(values))) == self.types
        )


def _type(value: Any) -> Any:
    """Return what tells whether a leaf that is no array of jax's is described as the one before."""
    dtype = getattr(value, "dtype", None)
    return type(value) if dtype is None else (dtype, value.shape)
