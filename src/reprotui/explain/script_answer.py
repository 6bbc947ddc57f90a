"""What explaining a step of two scripts found: which operation began to differ, by what, and the line that called it."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from reprotui.errors import CANNOT_TELL, DIFFERS, SAME
from reprotui.explain.align import Change, Pair
from reprotui.explain.answer import Explanation
from reprotui.explain.operations import MADE, Listing, Operation
from reprotui.explain.parting import Parting
from reprotui.explain.sources import Place
from reprotui.explain.words import describe

BEGAN, PROGRAM, CHANCE, MADE_OTHERWISE, PARTED, ENTERED, RECEIVED, UNREAD = (
    "began", "program", "chance", "made", "parted", "entered", "received", "unread",
)  # fmt: skip
"""Why the output of an operation differs: equal inputs; another operation or wiring; another state of the generator; numbers of
Python's; an operation before that the other run has not; something that came from outside the step; operations before; nobody
knows, because an input could not be read."""
_OF_PYTHON = (PROGRAM, PARTED, ENTERED, MADE_OTHERWISE)
"""Of these, what can follow from a value that Python was handed before."""
_SUMS = (
    "mm", "bmm", "addmm", "baddbmm", "addbmm", "dot", "mv", "addmv", "sum", "mean", "var", "std", "norm", "cumsum", "logsumexp",
    "convolution", "conv", "linear", "attention", "embedding_dense_backward", "nll_loss", "pool", "lstm", "gru", "rnn",
)  # fmt: skip
_SCATTERS = (
    "index_add",
    "scatter_add",
    "scatter_reduce",
    "index_put",
    "put_",
    "bincount",
    "histc",
    "embedding_bag",
    "grid_sampler",
)


@dataclass(frozen=True)
class ScriptExplanation(Explanation):
    """One step of two scripts, operation by operation: of `Explanation`, kernels are operations, `changes` what only one of them
    has, or has otherwise, and `outputs` counts the roots that equal the record.

    Attributes:
        listings: what was read of A and B.
    """

    listings: tuple[Listing, ...] = ()

    noun: ClassVar[str] = "operation"

    @cached_property
    def finding(self) -> tuple[str, Pair | None, bool]:
        """Return why the step differs, the operation that shows it first, and whether that is only likely."""
        if self.inputs_differ:
            return "", None, False
        found = [(self.kind_of(pair), pair) for pair in self.different]
        a = self.listings[0]
        # A view that leads nowhere computes nothing that could be handed on unseen.
        found = [
            (kind, pair)
            for kind, pair in found
            if kind != RECEIVED and (pair.a.number in a.reaching or not (isinstance(pair.a, Operation) and pair.a.view))
        ]
        strong = next(((kind, pair) for kind, pair in found if pair.a.number in a.reaching), None)
        weak = next(((kind, pair) for kind, pair in found if pair.a.number in a.reaching_python), None)
        if strong is not None:
            kind, pair = strong
            # What Python computed of an earlier number, or another process of a seed, may be all that is not the same there.
            if kind in _OF_PYTHON and weak is not None and weak[1].a.number < pair.a.number:
                return *weak, True
            unclear = kind == PROGRAM and any(self.alone) and pair.inputs_equal is not True
            unclear = unclear or (kind == PARTED and not self._parting.begins(self._parting.block_of(pair)))
            return kind, pair, unclear or (kind in _OF_PYTHON and found[0][1] is not pair)
        blocks = self._parting.blocks
        if blocks and (self.recorded_differ or self.different):
            return PARTED, None, not (self._parting.leads(blocks[0]) and self._parting.begins(blocks[0]))
        if weak is not None or found:
            return *(weak or found[0]), True
        return "", None, False

    def kind_of(self, pair: Pair) -> str:
        """Say why the output of an operation differs."""
        x, y = pair.a, pair.b
        assert isinstance(x, Operation) and isinstance(y, Operation)
        if pair.inputs_equal:
            return BEGAN if pair.changed is None else PROGRAM
        unequal = [at for at, (one, other) in enumerate(zip(x.given, y.given, strict=False)) if one != other]
        if pair.changed is None and not unequal and x.generator != y.generator:
            return CHANCE
        unequal = [at for at in unequal if at < min(len(x.senders), len(y.senders))]
        senders = {sender for at in unequal for sender in x.senders[at]}
        if senders & self._parting.alone_a or any(set(y.senders[at]) & self._parting.alone_b for at in unequal):
            return PARTED
        if senders & self._different_numbers:
            return RECEIVED
        if pair.changed is not None or len(x.given) != len(y.given):
            return PROGRAM
        if not unequal:
            return UNREAD
        return MADE_OTHERWISE if x.kernel.name in MADE else ENTERED

    @cached_property
    def origins(self) -> list[Pair]:
        """Return the operations at which a difference began."""
        return [pair for pair in self.different if self.kind_of(pair) not in (RECEIVED, ENTERED, PARTED, UNREAD)]

    @property
    def first(self) -> Pair | None:
        """Return the operation that began to differ; None where the programs part before it, or something else entered."""
        kind, pair, _ = self.finding
        return pair if kind in (BEGAN, PROGRAM, CHANCE, MADE_OTHERWISE) else None

    @property
    def exit_code(self) -> int:
        """Return 0 where no operation differs, 1 where the origin is known, 3 where it is not."""
        if self.inputs_differ:
            return CANNOT_TELL
        kind = self.finding[0]
        if kind:
            return CANNOT_TELL if kind in (ENTERED, UNREAD) else DIFFERS
        return CANNOT_TELL if self.recorded_differ or self.unread else SAME

    @property
    def place(self) -> Place | None:
        """Return the line of the operation that began to differ, or at which the programs part."""
        kind, pair, _ = self.finding
        if kind == PARTED:
            return self._parting.change(pair).place
        return None if pair is None else pair.a.kernel.place

    @property
    def likely(self) -> bool:
        """Say whether the line is only likely."""
        return self.finding[2]

    @property
    def headline(self) -> str:
        """Return the answer in one line."""
        kind, pair, _ = self.finding
        if kind == PARTED:
            return f"the programs are not the same, first {self._at}"
        if kind == ENTERED and pair is not None:
            said = f"what enters step {self.step} is not the same: {self._entered(pair)}"
            return f"{said}, first read by {describe(pair.a)} {self._at}"
        if kind == UNREAD and pair is not None:
            return f"the first operation that differs has an input that cannot be read: {describe(pair.a)} {self._at}"
        return super().headline

    @property
    def figures(self) -> list[str]:
        """Return what is known of the first different operation and of the others, each in a few words."""
        if self.inputs_differ:
            return []
        kind, pair, _ = self.finding
        found = super().figures
        if kind == BEGAN or pair is None or self.first is None:
            return found
        return [self._how(kind, pair), *found[1:]]

    @property
    def why(self) -> str:
        """Return why the first operation may differ; empty where there is none."""
        kind, pair, _ = self.finding
        if kind == CHANCE:
            return "another seed, or another number of draws from that generator before"
        if kind != BEGAN or pair is None:
            return ""
        name = pair.a.kernel.name.rpartition(".")[2]
        if any(word in name for word in _SCATTERS):
            return "likely it adds in the order in which threads come: torch lists it among what is not deterministic"
        if any(word in name for word in _SUMS):
            return "likely the sum is taken in another order: a number of threads, another kernel or library does that"
        return "likely another kernel computes it: a number of threads, vector instructions or a switch of torch does that"

    @property
    def reading(self) -> str:
        """Say that reading the operations changed nothing."""
        sides = zip(self.labels, self.outputs, strict=True)
        said = [
            f"step {self.step} of {label} with its operations read: all {count} roots equal the record" for label, count in sides
        ]
        return " · ".join([*said, *([f"{len(self.unread)} not read: {', '.join(self.unread[:3])}"] if self.unread else [])])

    @property
    def same_programs(self) -> bool:
        """Say whether both runs called the same operations with the same arguments."""
        if self.inputs_differ:
            return True
        return not any(self.alone) and all(pair.a.kernel.body[0][0] == pair.b.kernel.body[0][0] for pair in self.pairs)

    @property
    def told_changes(self) -> tuple[Change, ...]:
        """Return where the programs are not the same, as far as that is why they differ."""
        kind, pair, _ = self.finding
        if kind == PARTED:
            return (self._parting.change(pair),)
        return (pair.changed,) if kind == PROGRAM and pair is not None and pair.changed is not None else ()

    @property
    def _received(self) -> str:
        began = len(self.origins)
        received = len(self.different) - began
        if began > 1:
            return f"{began} began it, {received or 'none'} received it"
        return super()._received

    @property
    def _at(self) -> str:
        kind, pair, _ = self.finding
        if kind == PARTED or pair is None or not isinstance(pair.a, Operation):
            return super()._at
        # Where a library runs the training, the user's line only started it.
        through = self.place.through if self.place is not None and not self.place.through.startswith("torch/") else ""
        told = ", ".join([*([f"through {through}"] if through else []), *([f"module {pair.a.module}"] if pair.a.module else [])])
        return f"{super()._at}{f' ({told})' if told else ''}"

    def _how(self, kind: str, pair: Pair) -> str:
        if kind == CHANCE:
            return "inputs equal, the state of its generator is not"
        if kind == MADE_OTHERWISE:
            return "the numbers given there are not the same"
        return "its arguments are not the same" if pair.a.kernel.body != pair.b.kernel.body else "it is given other tensors"

    def _entered(self, pair: Pair) -> str:
        x, y = pair.a, pair.b
        assert isinstance(x, Operation) and isinstance(y, Operation)
        at = next(at for at, (one, other) in enumerate(zip(x.given, y.given, strict=False)) if one != other)
        kind, number, output = x.sources[at]
        if kind == "given":
            name = self.listings[0].given[number]
        elif kind == "operation" and self.listings[0].operations[number].unset:
            return f"memory that holds no numbers yet ({describe(self.listings[0].operations[number])})"
        else:
            name = next((path for *end, path in self.ends if end == [number, output]), "")
        return name or f"input {at + 1} of {x.kernel.name}"

    @cached_property
    def _different_numbers(self) -> frozenset[int]:
        return frozenset(pair.a.number for pair in self.different)

    @cached_property
    def _parting(self) -> Parting:
        return Parting(self.listings, self.pairs)
