"""The readable metrics of records against the checksums of their leaves: a number that was edited is not what was checksummed."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from reprotui.checksum.numpy_form import lanes_of_runs
from reprotui.trace.records import LeafTable
from reprotui.trace.rows import StepRow

TREE = "metrics/"


def _float32_words(values: NDArray[np.float64]) -> NDArray[np.uint32]:
    with np.errstate(over="ignore"):  # an edited number may be too large for the type
        return values.astype(np.float32).view(np.uint32)


def _float16_words(values: NDArray[np.float64]) -> NDArray[np.uint32]:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).view(np.uint16).astype(np.uint32)


WORDS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.uint32]]] = {
    "float32": _float32_words, "float16": _float16_words, "bfloat16": lambda values: _float32_words(values) >> np.uint32(16),
    "float64": lambda values: values.view(np.uint32),
}  # fmt: skip
"""The words of numbers by their dtype, as checksums are taken of them: one an element, low and high of 64 bits."""


def other_metric(rows: Sequence[tuple[StepRow, NDArray[np.uint64]]], table: LeafTable) -> str:
    """Say which readable metric is not what its leaf's checksum was taken of; nothing where all are.

    Args:
        rows: records of one leaf table with the checksums of their leaves, uint64[leaves].
        table: their leaf table. Looked at are scalars of float dtypes; NaN is not: it has many bits and one name.

    Raises:
        ValueError: the metrics lost their form on a damaged page.
    """
    scalars = {
        spec.path.removeprefix(TREE): (index, spec.dtype)
        for index, spec in enumerate(table.specs)
        if spec.path.startswith(TREE) and not spec.shape and spec.dtype in WORDS
    }
    if not scalars:
        return ""
    found: dict[str, list[tuple[int, float, int]]] = {name: [] for name in scalars}
    for row, leaves in rows:
        for name, value in row.numbers():
            if name in scalars and value == value:
                found[name].append((row.step, value, int(leaves[scalars[name][0]])))
    wrong = [item for name, values in found.items() if values for item in _unlike(name, scalars[name][1], values)]
    if not wrong:
        return ""
    step, name, value = min(wrong)
    return f"the metric {name} of step {step} is {value}, and its checksum says otherwise: that row was edited"


def _unlike(name: str, dtype: str, values: Sequence[tuple[int, float, int]]) -> list[tuple[int, str, float]]:
    words = WORDS[dtype](np.array([value for _, value, _ in values], np.float64))
    lanes = lanes_of_runs(words, (len(words) // len(values),) * len(values)).astype("<u4")
    unlike = np.ascontiguousarray(lanes).view("<u8").reshape(-1) != np.array([checksum for *_, checksum in values], np.uint64)
    return [(values[index][0], name, values[index][1]) for index in np.flatnonzero(unlike)]
