"""Single numbers of many records: metrics, losses to the last bit, times, norms; for charts and tables of data."""

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reprotui.trace.reader import Trace
from reprotui.trace.records import LOSSES
from reprotui.trace.rows import in_order

Column = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Steps, and a number of each."""
EXACT: dict[str, Callable[[NDArray[np.uint64]], NDArray[np.floating[Any]]]] = {
    "float64": lambda bits: bits.view(np.float64),
    "float32": lambda bits: bits.astype(np.uint32).view(np.float32),
    "float16": lambda bits: bits.astype(np.uint16).view(np.float16),
    "bfloat16": lambda bits: (bits.astype(np.uint32) << np.uint32(16)).view(np.float32),
}
"""Losses from their raw bits, by the dtype of the loss; of others the number counts that was recorded beside them."""


class Columns(Trace):
    """A trace opened for what it holds as a number a record; methods take at most `limit` records behind step `after`."""

    def metric_names(self) -> list[str]:
        """Return the names of the recorded metrics that are numbers, as the first and the last record with any have them."""
        names: dict[str, None] = {}
        with self._damage():
            for order in ("", "DESC"):
                query = f"SELECT metrics FROM steps WHERE metrics IS NOT NULL ORDER BY step {order} LIMIT 1"
                found = json.loads(self._scalar(query) or "{}")
                names |= dict.fromkeys(str(name) for name, value in found.items() if _is_number(value))
        names.pop(LOSSES, None)
        return list(names)

    def metric(self, name: str, after: int, limit: int) -> Column:
        """Return a recorded metric; of a record with a loop inside, that of its last iteration. NaN is NaN."""
        query = (
            "SELECT step, value FROM (SELECT step, metrics FROM steps WHERE step > ? AND metrics IS NOT NULL ORDER BY step "
            "LIMIT ?), json_each(metrics) WHERE key = ? ORDER BY step"
        )
        with self._damage():
            return _column(self._connection.execute(query, (after, limit, name)), after, _number)

    def losses(self, after: int, limit: int) -> Column:
        """Return the losses to the last bit, of the records that have one; NaN where it is NaN."""
        query = "SELECT step, loss_bits, version, loss FROM steps WHERE step > ? AND loss_bits IS NOT NULL ORDER BY step LIMIT ?"
        with self._damage():
            rows = list(in_order(self._connection.execute(query, (after, limit)), after))
            values = np.array([np.nan if loss is None else loss for *_, loss in rows], np.float64)
            bits = np.array([bits & (1 << 64) - 1 for _, bits, *_ in rows], np.uint64)
            versions = np.array([version for _, _, version, _ in rows], np.int64)
            for version in sorted({version for *_, version, _ in rows}):
                dtype = next((spec.dtype for spec in self.table(version).specs if spec.path == "loss"), "")
                if dtype in EXACT:
                    here = versions == version
                    values[here] = EXACT[dtype](bits[here])
            return np.array([step for step, *_ in rows], np.int64), values

    def newest(self) -> tuple[int, int, float | None] | None:
        """Return step, time and loss (to the last bit, None where it has none) of the newest record, None while there is none.

        A list asks this of hundreds of traces: two queries, where the methods for many records need six.
        """
        query = "SELECT step, time_ns, loss_bits, version, loss FROM steps ORDER BY step DESC LIMIT 1"
        with self._damage():
            found = list(in_order(self._connection.execute(query), -1))
            if not found:
                return None
            step, time_ns, bits, version, loss = found[0]
            if bits is None:
                return step, int(time_ns), None
            dtype = self._scalar("SELECT dtype FROM leaves WHERE version = ? AND path = 'loss'", version)
            if dtype in EXACT:
                loss = EXACT[dtype](np.array([bits & (1 << 64) - 1], np.uint64))[0]
            return step, int(time_ns), math.nan if loss is None else float(loss)

    def times(self, after: int, limit: int) -> Column:
        """Return the nanoseconds since 1970 at which each record was taken."""
        query = "SELECT step, time_ns FROM steps WHERE step > ? ORDER BY step LIMIT ?"
        with self._damage():
            return _column(self._connection.execute(query, (after, limit)), after, float)

    def norms(self, tree: str, after: int, limit: int) -> Column:
        """Return the L2 norm over all leaves of a tree (`grads`, `params`), of the records at which statistics were taken."""
        query = (
            "SELECT leaf_stats.step, blob, version FROM leaf_stats JOIN steps USING (step) WHERE leaf_stats.step > ? "
            "ORDER BY leaf_stats.step LIMIT ?"
        )
        steps, norms = [], []
        chosen: dict[int, NDArray[np.int64]] = {}
        with self._damage():
            for step, blob, version in in_order(self._connection.execute(query, (after, limit)), after):
                if version not in chosen:
                    table = self.table(version)
                    paths = zip(table.phases, table.specs, strict=True)
                    chosen[version] = np.array(
                        [at for at, (phase, spec) in enumerate(paths) if spec.path.split("/")[0] == tree and phase != "init"],
                        np.int64,
                    )
                found = np.frombuffer(blob, "<f4").reshape(-1, 2)
                if len(chosen[version]):
                    steps.append(step)
                    norms.append(float(np.sqrt(np.square(found[chosen[version], 0], dtype=np.float64).sum())))
        return np.array(steps, np.int64), np.array(norms)

    def memory(self, of: Literal["host", "accelerators"], after: int, limit: int) -> Column:
        """Return the bytes that the process had in use, beside the records at which that was noted; empty where it was not."""
        query = f"SELECT step, {of} FROM memory WHERE step > ? AND {of} IS NOT NULL ORDER BY step LIMIT ?"
        with self._damage():
            if not self._has("memory"):
                return np.zeros(0, np.int64), np.zeros(0)
            return _column(self._connection.execute(query, (after, limit)), after, float)

    def has_statistics(self) -> bool:
        """Say whether norms and maxima of any record were taken."""
        with self._damage():
            return self._scalar("SELECT 1 FROM leaf_stats LIMIT 1") is not None


def _column(rows: Iterable[tuple[Any, ...]], after: int, number: Callable[[Any], float]) -> Column:
    pairs = [(step, number(value)) for step, value in in_order(rows, after)]
    return np.array([step for step, _ in pairs], np.int64), np.array([value for _, value in pairs], np.float64)


def _is_number(value: Any) -> bool:
    """Say whether a metric, or each of its values in a loop, is a number or the name of one."""
    if isinstance(value, list):
        return bool(value) and _is_number(value[-1])
    return isinstance(value, int | float) or value in ("nan", "inf", "-inf")


def _number(value: Any) -> float:
    """Return a metric as SQLite hands it over: a number, the name of one, or a list as JSON, of which the last counts."""
    if isinstance(value, str) and value.startswith("["):
        value = json.loads(value)[-1]
    return float(value)
