"""A leaf that differs between two states, whichever they are: records of two traces, two checkpoints, two replayed states,
two results of a function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprotui.checksum import LeafSpec
from reprotui.integrity.content import describe

if TYPE_CHECKING:  # numpy, which who only shows a verdict does not wait for
    from numpy.typing import NDArray

    from reprotui.integrity.elements import ElementDifference

TEXT_DTYPES = ("int", "str", "bytes", "none")
"""Of leaves that are no arrays (`reprotui.checksum.leaves.plain_leaf`): their elements are the bytes of a text."""
SHOWN = 60
"""Characters of such a text that are shown."""


@dataclass(frozen=True)
class LeafDifference:
    """One leaf that differs.

    Attributes:
        phase: of the step in which it stands; empty in a checkpoint, which has none.
        path: its path in A, or in B where A has no such leaf.
        a, b: what it is on either side, None where it is not there.
        checksum_a, checksum_b: what two traces recorded of it; None where nothing was, and where states are compared.
        elements: how its elements differ, where both states are there; None where dtype or shape do, or a side is missing.
        values: the two values of a leaf that is a text, bytes, None or an int of more than 64 bits, as Python writes them.
    """

    phase: str
    path: str
    a: LeafSpec | None
    b: LeafSpec | None
    checksum_a: int | None = None
    checksum_b: int | None = None
    elements: "ElementDifference | None" = None
    values: tuple[str, str] | None = None

    @property
    def kind(self) -> str:
        """Return `only in A`, `only in B`, `shape`, `dtype` or `bits`: the first that is different."""
        if self.a is None or self.b is None:
            return "only in B" if self.a is None else "only in A"
        if self.a.shape != self.b.shape:
            return "shape"
        return "dtype" if self.a.dtype != self.b.dtype else "bits"

    def text(self, a: str = "A", b: str = "B") -> str:
        """Return it in a line, with the names of the two sides."""
        path = f"{self.phase} {self.path}" if self.phase else self.path
        if self.a is None or self.b is None:
            return f"{path}: only in {b if self.a is None else a}"
        if self.a != self.b:
            return f"{path}: {describe(self.a)} in {a}, {describe(self.b)} in {b}"
        if self.values is not None:
            return f"{path}: {self.values[0]} in {a}, {self.values[1]} in {b}"
        if self.elements is None:
            return f"{path}: its bits differ"
        found = self.elements
        parts = [f"{found.different} of {found.elements} elements differ"]
        parts += [] if found.max_abs is None else [f"max |Δ| {found.max_abs:.6g}"]
        parts += [f"first at {list(found.first_index)}"] if found.first_index else []
        parts += [] if found.max_ulp is None else [f"max {found.max_ulp} ulp"]
        return f"{path}: {', '.join(parts)}"

    def recorded_json(self) -> dict[str, Any]:
        """Return what traces say of it as a JSON object; checksums in hexadecimal, because JSON numbers lose 64 bits."""

        def side(spec: LeafSpec | None, checksum: int | None) -> dict[str, Any] | None:
            if spec is None or checksum is None:
                return None
            return {"dtype": spec.dtype, "shape": list(spec.shape), "checksum": f"{checksum:016x}"}

        return {
            "phase": self.phase, "path": self.path, "kind": self.kind,
            "a": side(self.a, self.checksum_a), "b": side(self.b, self.checksum_b),
        }  # fmt: skip

    def exact_json(self) -> dict[str, Any]:
        """Return what two states say of it as a JSON object."""
        return {
            **({"phase": self.phase} if self.phase else {}), "path": self.path, "kind": self.kind,
            "a": None if self.a is None else describe(self.a), "b": None if self.b is None else describe(self.b),
            "elements": None if self.elements is None else self.elements.to_json(),
            **({} if self.values is None else {"values": list(self.values)}),
        }  # fmt: skip


def compare_leaf(
    path: str, a: LeafSpec | None, b: LeafSpec | None, read: "Callable[[], tuple[NDArray[Any], NDArray[Any]]]", phase: str = ""
) -> LeafDifference | None:
    """Compare a leaf of two states; None where dtype, shape and bits are equal.

    Args:
        path: how it is called.
        a, b: what it is on either side, None where it is not there; their own paths do not count.
        read: gives the elements of both; asked only where dtype and shape agree.
        phase: in which it stands, where it stands in one.
    """
    a, b = (None if spec is None else spec._replace(path=path) for spec in (a, b))
    if a is None or b is None or a != b:
        return LeafDifference(phase, path, a, b)
    import numpy as np

    from reprotui.checksum.leaves import raw_bytes
    from reprotui.integrity.elements import compare_arrays

    x, y = read()
    if x.shape == y.shape and np.array_equal(raw_bytes(x), raw_bytes(y)):
        return None
    if a.dtype in TEXT_DTYPES:
        return LeafDifference(phase, path, a, b, values=(_shown(a.dtype, x.tobytes()), _shown(a.dtype, y.tobytes())))
    same_form = x.dtype == y.dtype and x.shape == y.shape
    return LeafDifference(phase, path, a, b, elements=compare_arrays(x, y) if same_form else None)


def _shown(dtype: str, raw: bytes) -> str:
    text = repr(raw) if dtype == "bytes" else raw.decode("utf-8", "backslashreplace")
    text = repr(text) if dtype == "str" else text
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(raw)} bytes)"
