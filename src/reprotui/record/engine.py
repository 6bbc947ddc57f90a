"""Records of a training's trees: names in, one record out. Workers, replays and the Recorder drive it."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reprotui.record.assembly import Assembly
from reprotui.record.host import Picker, picker
from reprotui.record.trees import Order, in_order
from reprotui.schedule import Recording
from reprotui.trace import TraceWriter
from reprotui.trace.phases import INIT, STEP


class _Form(NamedTuple):
    """Trees of one structure: (phase, path) of their leaves in the order of a record, and what picks these leaves."""

    names: tuple[tuple[str, str], ...]
    pick: Picker


class Engine:
    """Record the trees of every step; the caller's arrays are only read, and only by calls of their own.

    The checksums of a step are dispatched when `step` is called and fetched on the writer's thread, so the device
    never waits. Call `step` before the next training step is dispatched: it may donate the buffers. Without jax in the
    process, nothing here imports it.

    Args:
        writer: the trace's writer; the caller seals it.
        recording: how often is recorded (record 0 and what is asked for with `force` besides).
        order: the order in which the program produces leaves.
        records: how many the trace holds already, so that `leaves_every` and `statistics_every` count on.
    """

    def __init__(self, writer: TraceWriter, recording: Recording, *, order: Order | None = None, records: int = 0) -> None:
        self._assembly = Assembly(writer, recording, records)
        self._every = recording.every
        self._order = order or {}
        self._forms: dict[Any, _Form] = {}

    def init(self, **trees: Any) -> None:
        """Record the state after initialisation, as record 0; the names are those of `reprotui.trace.phases.INIT`."""
        self._record(0, INIT, trees)

    def step(self, step: int, *, force: bool = False, **trees: Any) -> None:
        """Record an update.

        Args:
            step: its number, from 1 on; each one at most once.
            force: record the step even where `every` would leave it out (the last one).
            trees: pytrees of arrays, tensors and numbers by the names of `reprotui.trace.phases.STEP`: what the step was
                given, what its forward pass produced, gradients, and the state after the update.
        """
        if step % self._every == 0 or force:
            self._record(step, STEP, trees)

    def _record(self, step: int, places: Sequence[tuple[str, str]], trees: Mapping[str, Any]) -> None:
        if "jax" in sys.modules:
            leaves, structure = sys.modules["jax"].tree.flatten([trees.get(name) for _, name in places])
            form = self._forms.get(structure)
            if form is None:
                form = self._forms[structure] = self._form(places, trees)
            names, leaves = form.names, form.pick(leaves)
        else:
            named = in_order(places, trees, self._order)
            names, leaves = tuple((leaf.phase, leaf.path) for leaf in named), [leaf.leaf for leaf in named]
        self._assembly.put(step, [self._assembly.part(names, leaves)])

    def _form(self, places: Sequence[tuple[str, str]], trees: Mapping[str, Any]) -> _Form:
        named = in_order(places, trees, self._order)
        return _Form(tuple((leaf.phase, leaf.path) for leaf in named), picker([leaf.index for leaf in named]))
