"""Compare two checkpoints of any formats leaf by leaf."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from reprotui.integrity.files import Progress
from reprotui.integrity.formats import StoredCheckpoint, StoredLeaf, open_checkpoint
from reprotui.integrity.leaves import LeafDifference, compare_leaf
from reprotui.integrity.status import Finding


@dataclass(frozen=True)
class CheckpointDifference:
    """How two checkpoints differ.

    Attributes:
        a, b: their paths.
        formats: of A and of B.
        equal: number of leaves with equal dtype, shape and bits.
        leaves: those that differ, in path order.
        renamed: pairs of paths that were taken for one leaf because they differ by `.` against `/` alone.
        unread: what could be read on neither or one side only.
    """

    a: Path
    b: Path
    formats: tuple[str, str]
    equal: int
    leaves: tuple[LeafDifference, ...]
    renamed: tuple[tuple[str, str], ...]
    unread: tuple[Finding, ...]

    @property
    def same(self) -> bool:
        """Say whether every leaf is the same on both sides."""
        return not self.leaves

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "a": str(self.a), "b": str(self.b), "formats": list(self.formats), "same": self.same, "equal_leaves": self.equal,
            "leaves": [leaf.exact_json() for leaf in self.leaves], "renamed": [list(pair) for pair in self.renamed],
            "unread": [finding.to_json() for finding in self.unread],
        }  # fmt: skip


def diff_checkpoints(a: Path, b: Path, progress: Progress | None = None) -> CheckpointDifference:
    """Compare every leaf of two checkpoints: presence, dtype, shape, and bit by bit.

    Args:
        a, b: Orbax step directories, `.pt`, safetensors or npz files, in any pairing. Leaves are paired by path; those
            left over by path with `.` taken for `/`, as formats separate names by either.
        progress: called with bytes read.

    Raises:
        IntegrityError: a checkpoint or a leaf of it cannot be read.
    """
    stored_a, stored_b = open_checkpoint(a), open_checkpoint(b)
    pairs, renamed = _pair(stored_a, stored_b)
    equal, differing = 0, []
    for path, leaf_a, leaf_b in pairs:
        spec_a, spec_b = (None if leaf is None else leaf.spec for leaf in (leaf_a, leaf_b))
        difference = compare_leaf(path, spec_a, spec_b, functools.partial(_read, leaf_a, leaf_b, progress))
        if difference is None:
            equal += 1
        else:
            differing.append(difference)
    return CheckpointDifference(
        a, b, (stored_a.format, stored_b.format), equal, tuple(differing), tuple(renamed), (*stored_a.unread, *stored_b.unread)
    )


def _pair(
    a: StoredCheckpoint, b: StoredCheckpoint
) -> tuple[list[tuple[str, StoredLeaf | None, StoredLeaf | None]], list[tuple[str, str]]]:
    of_a, of_b = ({leaf.spec.path: leaf for leaf in stored.leaves} for stored in (a, b))
    pairs: list[tuple[str, StoredLeaf | None, StoredLeaf | None]] = []
    renamed = []
    only_b = {path: path for path in of_b if path not in of_a}
    by_slashes: dict[str, list[str]] = {}
    for path in only_b:
        by_slashes.setdefault(path.replace(".", "/"), []).append(path)
    for path, leaf in of_a.items():
        other = path if path in of_b else None
        if other is None and len(alike := by_slashes.get(path.replace(".", "/"), [])) == 1:
            other = alike.pop()
            del only_b[other]
            renamed.append((path, other))
        pairs.append((path, leaf, None if other is None else of_b[other]))
    pairs += [(path, None, of_b[path]) for path in only_b]
    return sorted(pairs, key=lambda pair: pair[0]), renamed


def _read(a: StoredLeaf | None, b: StoredLeaf | None, progress: Progress | None) -> tuple[NDArray[Any], NDArray[Any]]:
    assert a is not None and b is not None
    arrays = a.read(), b.read()
    if progress is not None:
        progress(sum(array.nbytes for array in arrays))
    return arrays
