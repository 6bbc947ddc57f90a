"""What one step's record is, how leaf tables are described, and how records are chained."""

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cached_property

from reprotui.checksum import LeafSpec
from reprotui.trace.phases import PHASE_INDEX, UPDATE

CHAIN_BYTES = 16
TABLE_DIGEST_BYTES = 16
GENESIS = bytes(CHAIN_BYTES)
"""The chain before the first record."""


LOSSES = "losses of iterations"
"""The metric that holds the loss of each iteration where a record is a call with a loop inside: its loss is the last of them."""


@dataclass(frozen=True)
class LeafTable:
    """The leaves of a record in order: by phase, within a phase in the order in which the program produced them."""

    phases: tuple[str, ...]
    specs: tuple[LeafSpec, ...]

    @cached_property
    def digest(self) -> bytes:
        """Return 16 bytes that identify phases, paths, dtypes, shapes and their order."""
        rows = [[phase, spec.path, spec.dtype, list(spec.shape)] for phase, spec in zip(self.phases, self.specs, strict=True)]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).digest()[:TABLE_DIGEST_BYTES]

    @cached_property
    def slices(self) -> tuple[tuple[str, int, int], ...]:
        """Return (phase, first leaf, end) for every phase that is present; a phase's leaves stand together."""
        bounds: list[tuple[str, int, int]] = []
        for index, phase in enumerate(self.phases):
            if bounds and bounds[-1][0] == phase:
                bounds[-1] = (phase, bounds[-1][1], index + 1)
            else:
                bounds.append((phase, index, index + 1))
        return tuple(bounds)

    def __post_init__(self) -> None:
        order = [PHASE_INDEX["optimizer" if phase == UPDATE else phase] for phase in self.phases]
        if order != sorted(order):
            raise ValueError("the leaves of a table must stand in phase order")


@dataclass(frozen=True)
class Record:
    """One step as it goes into the trace.

    `loss` is the readable value and `loss_bits` its raw IEEE bits as an unsigned integer (of the width of the loss's
    own dtype); both None where there is no loss. `roots` holds 8 bytes a phase, little-endian, zero for an absent one.
    `leaf_checksums` is uint64 little-endian in table order, `leaf_stats` float32 (L2 norm, max |x|) in table order;
    either may be None. `not_finite` are the leaves with a NaN or an infinity (`trace.not_finite.packed`). `calls` says how many
    calls of which functions lie in it, as JSON, where an observer knows. `torn` are leaves
    whose copies on several devices are not equal, each with what is to be said of it. `copies` are paths of
    leaves that every process of the training which has them holds alike.
    """

    step: int
    time_ns: int
    table: LeafTable
    roots: bytes
    loss: float | None = None
    loss_bits: int | None = None
    metrics: str | None = None
    leaf_checksums: bytes | None = None
    leaf_stats: bytes | None = None
    not_finite: bytes = b""
    calls: str | None = None
    torn: tuple[tuple[str, str], ...] = ()
    copies: frozenset[str] = frozenset()


def next_chain(previous: bytes, step: int, loss_bits: int | None, roots: bytes, table_digest: bytes) -> bytes:
    """Return the chain after a record: 16 bytes of SHA-256 over the previous chain and what the record proves.

    Time, printed metrics and statistics are left out, so that two equal runs have equal chains and a bisection over
    chains finds the first step at which they differ. Leaf checksums enter through the roots, metrics as leaves.
    """
    has_loss = loss_bits is not None
    head = struct.pack("<q?Q", step, has_loss, loss_bits or 0)
    return hashlib.sha256(previous + head + roots + table_digest).digest()[:CHAIN_BYTES]
