"""What networks were asked between two steps, apart from what they trained on, as a value that observers write and comparisons
read: the calls of a policy that acts, of an evaluation."""

from dataclasses import dataclass
from typing import Any

DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """The calls before a step that led to no loss, in their order.

    Attributes:
        step: the step that they came before.
        networks: what the networks are called.
        which: for each call its network, a byte.
        digests: for each call 8 bytes, the checksum of what it was given.
    """

    step: int
    networks: tuple[str, ...]
    which: bytes
    digests: bytes

    @property
    def calls(self) -> list[tuple[str, bytes]]:
        """Return network and checksum of each call."""
        found = range(0, len(self.digests), DIGEST_BYTES)
        return [(self.networks[which], self.digests[at : at + DIGEST_BYTES]) for which, at in zip(self.which, found, strict=True)]


def asked_row(row: tuple[Any, ...]) -> Asked:
    """Return a row of the table; raises ValueError for one that lost its form on a damaged page."""
    step, networks, which, digests = row
    if not (
        isinstance(step, int) and isinstance(networks, str) and isinstance(which, bytes) and isinstance(digests, bytes)
        and len(digests) == DIGEST_BYTES * len(which) and max(which, default=0) < len(networks.split("\n"))
    ):  # fmt: skip
        raise ValueError(f"what networks were asked before step {step} lost its form")
    return Asked(step, tuple(networks.split("\n")), which, digests)
