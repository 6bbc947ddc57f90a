"""A step of one run that was taken again and again, as a value that the command line shows."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from reprotui.errors import DIFFERS, SAME
from reprotui.explain.align import Ran
from reprotui.explain.answer import Explanation
from reprotui.explain.words import describe, place_json


@dataclass(frozen=True)
class Repeated:
    """One step of one run, taken again and again: the kernels that gave other bits, in program order."""

    step: int
    count: int
    kernels: tuple[Ran, ...]
    outputs: int
    identical: int

    noun: ClassVar[str] = "kernel"

    @property
    def beside(self) -> Explanation | None:
        """Return two of the repetitions side by side, where none of the operations is not deterministic, and yet they differ."""
        return None

    @property
    def reading(self) -> str:
        """Say what reading the kernels changed."""
        return f"{self.identical} of {self.outputs} outputs identical with taps in every repetition"

    @cached_property
    def flaky(self) -> list[Ran]:
        """Return the kernels that did not always give the same bits."""
        return [ran for ran in self.kernels if ran.distinct > 1]

    @property
    def exit_code(self) -> int:
        """Return 1 where a kernel is not deterministic with itself."""
        return DIFFERS if self.flaky else SAME

    @property
    def headline(self) -> str:
        """Return the answer in one line."""
        if not self.flaky:
            said = f"every one of {len(self.kernels)} {self.noun}s gave the same bits"
            return f"{said} in {self.count} repetitions of step {self.step}"
        first = self.flaky[0]
        where = first.kernel.place or "an unknown line"
        return f"not deterministic: {describe(first)} at {where}: {first.distinct} different outcomes in {self.count}"

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "step": self.step, "headline": self.headline, "count": self.count, "kernels": len(self.kernels),
            "outputs": {"count": self.outputs, "identical": self.identical},
            "flaky": [
                {
                    "name": ran.kernel.name, "operation": ran.kernel.operation, "place": place_json(ran.kernel.place),
                    "distinct": ran.distinct,
                }
                for ran in self.flaky
            ],
        }  # fmt: skip
