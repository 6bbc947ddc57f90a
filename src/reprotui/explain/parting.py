"""Where the lists of operations of two scripts part: what only one of them calls, as far as it leads anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from reprotui.explain.align import Change, Pair
from reprotui.explain.operations import MADE, Listing, Operation, where

Block = tuple[Sequence[Operation], Sequence[Operation]]
"""What stands in A alone and in B alone between two operations that both have; one of them may be empty."""


@dataclass(frozen=True)
class Parting:
    """The lists of A and B, and the operations that both have."""

    listings: tuple[Listing, ...]
    pairs: tuple[Pair, ...]

    @cached_property
    def alone_a(self) -> frozenset[int]:
        """Return the operations that only A has."""
        return frozenset(range(len(self.listings[0].operations))) - {pair.a.number for pair in self.pairs}

    @cached_property
    def alone_b(self) -> frozenset[int]:
        """Return the operations that only B has."""
        return frozenset(range(len(self.listings[1].operations))) - {pair.b.number for pair in self.pairs}

    @cached_property
    def blocks(self) -> list[Block]:
        """Return what leads to a leaf or to a number of Python's, those first that lead to a leaf, in order."""
        a, b = (listing.operations for listing in self.listings)
        found: list[Block] = []
        at_a = at_b = 0
        for end_a, end_b in [*((pair.a.number, pair.b.number) for pair in self.pairs), (len(a), len(b))]:
            block = a[at_a:end_a], b[at_b:end_b]
            if self.leads(block) or any(
                operation.number in listing.reaching_python
                for listing, side in zip(self.listings, block, strict=True)
                for operation in side
            ):
                found.append(block)
            at_a, at_b = end_a + 1, end_b + 1
        return sorted(found, key=lambda block: not self.leads(block))

    def leads(self, block: Block) -> bool:
        """Say whether tensors lead from a block to a leaf."""
        sides = zip(self.listings, block, strict=True)
        return any(operation.number in listing.reaching for listing, side in sides for operation in side)

    def begins(self, block: Block) -> bool:
        """Say whether a difference begins in a block: what its first operations were given was there in the other run too."""
        for side, other in zip(block, reversed(self._values), strict=True):
            # Numbers of Python's that become a tensor there are given by the program itself.
            first = next((operation for operation in side if operation.kernel.name not in MADE), None)
            if first is not None and any(value not in other for value in first.given):
                return False
        return True

    def block_of(self, pair: Pair | None) -> Block:
        """Return the block that an operation of both runs was given something from; of None, the first that leads anywhere."""
        first = self.blocks[0] if self.blocks else ((), ())
        if pair is None or not isinstance(pair.a, Operation) or not isinstance(pair.b, Operation):
            return first
        sent = [{sender for senders in operation.senders for sender in senders} for operation in (pair.a, pair.b)]
        return next(
            (
                block
                for block in self.blocks
                if any(operation.number in senders for side, senders in zip(block, sent, strict=True) for operation in side)
            ),
            first,
        )

    def change(self, pair: Pair | None) -> Change:
        """Return what A and B have in that block, and its line."""
        block = self.block_of(pair)
        texts = [f"{side[0].text} at {where(side[0])}" if side else "" for side in block]
        return Change(texts[0], texts[1], next((side[0].kernel.place for side in block if side), None))

    @cached_property
    def _values(self) -> list[set[str | None]]:
        return [
            {value for operation in listing.operations for value in (*operation.given, *operation.outputs)}
            for listing in self.listings
        ]
