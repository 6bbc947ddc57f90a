"""A step of a script that was taken again and again: the operation that gave other bits for the same inputs, or what else did."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from reprotui.errors import DIFFERS
from reprotui.explain.answer import Explanation
from reprotui.explain.operations import Listing, pair_operations, repeated
from reprotui.explain.repeats import Repeated
from reprotui.explain.script_answer import ScriptExplanation
from reprotui.numbers import whole


@dataclass(frozen=True)
class ScriptRepeated(Repeated):
    """One step of a script, taken `outputs` times; `identical` says how often all of its roots were those of the record.

    Attributes:
        other: where no operation gave other bits for the same inputs, and yet the step was not the same each time: the first
            repetition beside one that differs.
    """

    other: ScriptExplanation | None = None

    noun: ClassVar[str] = "operation"

    @property
    def beside(self) -> Explanation | None:
        """Return the first repetition beside one that differs, where no operation is not deterministic with itself."""
        return self.other

    @property
    def exit_code(self) -> int:
        """Return 1 where the step is not the same each time."""
        return super().exit_code if self.other is None else DIFFERS

    @property
    def headline(self) -> str:
        """Return the answer in one line."""
        return super().headline if self.other is None else f"not the same each time: {self.other.headline}"

    @property
    def reading(self) -> str:
        """Say how often the step came out as recorded."""
        return f"in {whole(self.identical)} of {whole(self.outputs)} repetitions all roots of the step equal the record"


def repetitions(step: int, listings: Sequence[Listing], as_recorded: int) -> ScriptRepeated:
    """Hold the repetitions of a step side by side.

    Args:
        step: the step.
        listings: what was read each time.
        as_recorded: how often the step came out as the record has it.
    """
    count, first = len(listings), listings[0]
    operations = repeated(listings)
    if operations is not None and any(operation.distinct > 1 for operation in operations):
        return ScriptRepeated(step, count, operations, count, as_recorded)
    explained = (
        ScriptExplanation(
            step, ("the first time", "another time"), (), (), (first.operations, other.operations),
            tuple(pair_operations(first, other)), first.ends, (0, 0), listings=(first, other),
        )
        for other in listings[1:]
    )  # fmt: skip
    other = next((found for found in explained if found.finding[0]), None)
    return ScriptRepeated(step, count, operations or first.operations, count, as_recorded, other)
