"""The engine of every recording: checksums beside the step, records to the trace. Workers, Recorder and observers drive it."""

import json
import time
from typing import Any

import jax
import numpy as np

from reprotui.record.host import say_if_slow
from reprotui.record.layout import Layout, Observation, Order
from reprotui.record.values import STATISTICS_EVERY, readable
from reprotui.trace import Record, TraceWriter


class Engine:
    """Record the state of every step; the caller's arrays are only read, and only by calls of their own.

    The checksums of a step are dispatched when `step` is called and fetched on the writer's thread, so the device
    never waits. Call `step` before the next training step is dispatched: it may donate the buffers.

    Args:
        writer: the trace's writer; the caller seals it.
        every: record every that many steps (record 0 and those asked for with `force` besides).
        leaves_every: write leaf rows every that many records; the roots are always written.
        statistics_every: take L2 norms and maxima every that many records.
        order: the order in which the program produces leaves, see `reprotui.record.layout.Order`.
        layouts: compiled checksum calls, shared by the recorders of one program; each fills in what is missing.
        records: how many the trace holds already, so that `leaves_every` and `statistics_every` count on.
    """

    def __init__(
        self, writer: TraceWriter, *, every: int = 1, leaves_every: int = 1, statistics_every: int = STATISTICS_EVERY,
        order: Order | None = None, layouts: dict[Any, Layout] | None = None, records: int = 0,
    ) -> None:  # fmt: skip
        self._writer = writer
        self._every, self._leaves_every, self._statistics_every = every, leaves_every, statistics_every
        self._order = order or {}
        self._layouts: dict[Any, Layout] = {} if layouts is None else layouts
        self._latest: tuple[Any, list[Any], Layout] | None = None
        self._records = records
        self._said = False

    def init(self, *, params: Any = None, opt_state: Any = None, extra: Any = None) -> None:
        """Record the state after initialisation, as record 0.

        Args:
            params, opt_state, extra: pytrees of arrays; None is no tree.
        """
        self._record(0, [("init", "params", params), ("init", "opt_state", opt_state), ("init", "extra", extra)])

    def step(
        self, step: int, *, batch: Any = None, rng: Any = None, loss: Any = None, metrics: Any = None, extra: Any = None,
        grads: Any = None, opt_state: Any = None, params: Any = None, force: bool = False,
    ) -> None:  # fmt: skip
        """Record an update.

        Args:
            step: its number, from 1 on; each one at most once.
            batch, rng: what the step was given; rng as typed keys or raw key data.
            loss, metrics, extra: what its forward pass produced; `extra` is other state, such as batch statistics.
            grads, opt_state, params: gradients, and the state after the update.
            force: record the step even where `every` would leave it out (the last one).
        """
        if step % self._every and not force:
            return
        self._record(
            step,
            [
                ("batch", "batch", batch), ("rng", "rng", rng), ("forward", "loss", loss), ("forward", "metrics", metrics),
                ("forward", "extra", extra), ("grads", "grads", grads), ("update", "opt_state", opt_state),
                ("update", "params", params),
            ],
        )  # fmt: skip

    def _record(self, step: int, trees: list[tuple[str, str, Any]]) -> None:
        leaves, structure = jax.tree.flatten([tree for _, _, tree in trees])
        layout = self._layout(step == 0, trees, leaves, structure)
        observation = layout.observe(leaves, statistics=self._records % self._statistics_every == 0)
        with_leaves = self._records % self._leaves_every == 0
        self._records += 1
        now = time.time_ns()
        self._writer.put(lambda: _to_record(step, now, layout, observation, with_leaves))

    def _layout(self, initial: bool, trees: list[tuple[str, str, Any]], leaves: list[Any], structure: Any) -> Layout:
        types = _types(leaves)
        if self._latest is not None and not initial:
            known_structure, known_types, layout = self._latest
            # Lists compare by identity first: nearly every step is settled in microseconds; a signature takes 60.
            if structure == known_structure and types == known_types and None not in types:
                return layout
        key = (initial, structure, tuple(_signature(leaf) for leaf in leaves))
        if key not in self._layouts:
            self._layouts[key] = Layout(trees, self._order)
            if self._layouts[key].has_host and not self._said:
                self._said = True
                say_if_slow(self._writer)
        layout = self._layouts[key]
        if not initial:
            self._latest = structure, types, layout
        return layout


def _types(leaves: list[Any]) -> list[Any]:
    """Return jax's abstract values of arrays: a program hands out the same objects at every step. None for host values."""
    return [_type(leaf) for leaf in leaves]


def _type(leaf: Any) -> Any:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or isinstance(dtype, np.dtype):
        return getattr(leaf, "aval", None)
    # A typed key makes its abstract value anew whenever it is asked: 22 µs.
    return leaf.shape, dtype


def _signature(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return leaf.shape, leaf.dtype
    array = np.asarray(leaf)
    return "host", array.shape, array.dtype


def _to_record(step: int, time_ns: int, layout: Layout, observation: Observation, with_leaves: bool) -> Record:
    leaf_checksums, roots, scalars, statistics = observation.result()
    loss = scalars.pop("loss", None)
    metrics = {path.removeprefix("metrics/"): readable(value) for path, value in scalars.items()}
    return Record(
        step=step, time_ns=time_ns, table=layout.table, roots=roots,
        loss=None if loss is None else float(loss),
        loss_bits=None if loss is None else int.from_bytes(np.asarray(loss).tobytes(), "little"),
        metrics=json.dumps(metrics, allow_nan=False) if metrics else None,
        leaf_checksums=leaf_checksums if with_leaves else None, leaf_stats=statistics,
    )  # fmt: skip
