"""What networks were asked between two steps, apart from what they trained on: where two runs first asked something else."""

from dataclasses import dataclass

from reprotui.trace import Trace


@dataclass(frozen=True)
class OtherQuestion:
    """The first call of a network, before a step, that was given something else. `network` is named where there are several."""

    step: int
    call: int
    network: str

    def __str__(self) -> str:
        network = f"the network {self.network}" if self.network else "the network"
        return f"what {network} was asked differs, at its {_ordinal(self.call)} call before step {self.step}"


def first_other_question(a: Trace, b: Trace, through: int) -> OtherQuestion | None:
    """Return the first call up to a step that is not the same in both runs, where both looked."""
    asked_a, asked_b = a.asked(0, through), b.asked(0, through)
    if not asked_a or not asked_b:
        return None
    for step in sorted({*asked_a, *asked_b}):
        calls_a, calls_b = ([] if (found := asked.get(step)) is None else found.calls for asked in (asked_a, asked_b))
        for number in range(max(len(calls_a), len(calls_b))):
            if calls_a[number : number + 1] != calls_b[number : number + 1]:
                network = (calls_a[number : number + 1] or calls_b[number : number + 1])[0][0]
                longer = calls_a if number < len(calls_a) else calls_b
                call = sum(name == network for name, _ in longer[: number + 1])
                several = len({name for name, _ in (*calls_a, *calls_b)}) > 1
                return OtherQuestion(step, call, network if several else "")
    return None


def _ordinal(number: int) -> str:
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"
