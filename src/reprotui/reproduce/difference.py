"""How two leaves differ: how many elements, by how much, and by how many ulps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reprotui.integrity.elements import compare_arrays
from reprotui.reproduce.leaves import Leaf


@dataclass(frozen=True)
class LeafDifference:
    """A leaf whose bits differ between the first run and another.

    `run` is that run's number, from 0. `elements` of `total` differ (of complex numbers, both parts are elements), the first
    at index `first`; `largest` is the greatest |difference| (None where no differing pair is finite), `ulps` the greatest
    distance in representable values (floating-point types only). `reason` tells of a leaf that is missing or has another
    dtype or shape, or of one that is no number.
    """

    path: str
    run: int
    reason: str = ""
    elements: int = 0
    total: int = 0
    largest: float | None = None
    ulps: int | None = None
    first: tuple[int, ...] | None = None

    def __str__(self) -> str:
        if self.reason:
            return f"{self.path}: {self.reason} (run {self.run})"
        parts = [f"{self.elements} of {self.total} elements differ"]
        parts += [] if self.largest is None else [f"max |Δ| {self.largest:.6g}"]
        parts += [f"first at {list(self.first)}"] if self.first else []
        parts += [] if self.ulps is None else [f"max {self.ulps} ulp"]
        return f"{self.path}: {', '.join(parts)} (run {self.run} against run 0)"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object; a difference that is infinite is given as text."""
        largest = self.largest if self.largest is None or math.isfinite(self.largest) else str(self.largest)
        return {**self.__dict__, "largest": largest}


def differences(reference: Mapping[str, Leaf], other: Mapping[str, Leaf], run: int) -> list[LeafDifference]:
    """Return every leaf in which a run differs from the first one, in the first one's order."""
    found = []
    for path in dict.fromkeys([*reference, *other]):
        a, b = reference.get(path), other.get(path)
        if a is None or b is None:
            found.append(LeafDifference(path, run, f"only in run {run if a is None else 0}"))
        elif a.spec != b.spec:
            found.append(LeafDifference(path, run, f"{_describe(a)} in run 0, {_describe(b)} here"))
        elif a.data != b.data:
            found.append(_compare(a, b, run))
    return found


def _describe(leaf: Leaf) -> str:
    return f"{leaf.spec.dtype}[{','.join(map(str, leaf.spec.shape))}]"


def _compare(a: Leaf, b: Leaf, run: int) -> LeafDifference:
    import numpy

    dtype, path = _dtype(a.spec.dtype), a.spec.path
    if a.spec.dtype == "int":
        delta = abs(int(a.data) - int(b.data))
        return LeafDifference(path, run, elements=1, total=1, largest=float(delta) if delta < 2**1023 else math.inf)
    if a.spec.dtype in ("str", "bytes", "None") or a.spec.dtype.startswith("key<") or dtype is None:
        return LeafDifference(path, run, reason=_text_difference(a, b))
    x, y = (numpy.frombuffer(leaf.data, dtype=dtype).reshape(leaf.spec.shape) for leaf in (a, b))
    found = compare_arrays(x, y)
    return LeafDifference(path, run, "", found.different, found.elements, found.max_abs, found.max_ulp, found.first_index)


def _dtype(name: str) -> Any:
    import numpy

    try:
        return numpy.dtype(name)
    except TypeError:
        pass
    try:
        import ml_dtypes

        return numpy.dtype(getattr(ml_dtypes, name))
    except (ImportError, AttributeError, TypeError):
        return None


def _text_difference(a: Leaf, b: Leaf) -> str:
    if a.spec.dtype in ("str", "None"):
        left, right = (leaf.data.decode() for leaf in (a, b))
        if max(len(left), len(right)) <= 60:
            return f"{left!r} in run 0, {right!r} here"
    at = next((i for i, (p, q) in enumerate(zip(a.data, b.data, strict=False)) if p != q), min(len(a.data), len(b.data)))
    return f"the bytes differ from byte {at} on"
