"""What a run that is watched alone finds out about itself: which steps are computed again, and what came of it.

One step of each hundred (`--check 1%`) is drawn by a hash of its number: no generator of the script is asked, and two runs of a
script check the same steps. What came of it is counted here; `record.spikes` looks at losses and norms.
"""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reprotui.errors import ReprotuiError
from reprotui.event_kinds import CORRUPT, RECOMPUTED

if TYPE_CHECKING:
    from reprotui.observe.watch import Watch

KEY = b"reprotui checks"
REPEATS = 3
"""How often a step that came out otherwise is computed once more: what is not deterministic gives itself away."""
STATE_EACH_STEP = 1 << 21
"""Bytes of state that is read again before each step: 0.2 ms. More of it is read before the steps alone that are drawn."""
NAMED = 3
"""Leaves that are named in a line."""


def drawn(step: int, one_of: int) -> bool:
    """Say whether a step, from 1 on, is the one that is recomputed among its neighbours: one of each `one_of` steps."""
    block, at = divmod(step - 1, one_of)
    digest = hashlib.blake2b(block.to_bytes(8, "little"), digest_size=8, key=KEY).digest()
    return at == int.from_bytes(digest, "little") % one_of


class Checks:
    """The checks of one run, as they are made.

    Args:
        watch: the observation, for events and for the number of steps.
        one_of: of how many steps one is recomputed.
    """

    def __init__(self, watch: "Watch", one_of: int) -> None:
        self._watch, self.one_of = watch, one_of
        self.steps: dict[int, Counter[str]] = {}
        self._left: dict[str, Counter[str]] = {}
        self.looked = self.unchanged = self.at_drawn_alone = 0
        self.changed: dict[str, int] = {}
        self.corrupt = self.unsteady = 0

    def due(self, step: int) -> bool:
        """Say whether a step is to be recomputed."""
        return drawn(step, self.one_of)

    def equal(self, step: int, what: str, leaves: int) -> None:
        """Note that a part of a step came out again to the bit."""
        self.steps.setdefault(step, Counter())[what] += 1
        self._say(RECOMPUTED, f"step {step} · {what} · {leaves} {'leaf' if leaves == 1 else 'leaves'} equal")

    def unequal(self, step: int, what: str, paths: Sequence[str], repeats: Sequence[bool]) -> None:
        """Note that a part of a step came out otherwise.

        Args:
            step: its number.
            what: the part.
            paths: the leaves that are not what they were.
            repeats: for each time that it was computed once more, whether that was as the first time.
        """
        self.steps.setdefault(step, Counter())["unequal"] += 1
        if not all(repeats):
            self.unsteady += 1
            text = "is not the same each time that it is computed: it is not deterministic, or a device is faulty"
            self._say("unsteady", f"step {step} · {what} · {_named(paths)} {text}")
            return
        self.corrupt += 1
        times = f"{1 + len(repeats)} times, the same each time" if repeats else "once"
        self._say(CORRUPT, f"CORRUPT at step {step} · {what} · {_named(paths)} · recomputed {times}: not what was recorded")

    def elsewhere(self, step: int, what: str, paths: Sequence[str]) -> None:
        """Note that another device gave other bits than this one gave twice."""
        self.unsteady += 1
        text = "has other bits there: one of the devices is faulty, or their programs were tuned apart"
        self._say("unsteady", f"step {step} · {what} · {_named(paths)} {text}")

    def left_out(self, step: int, what: str, why: str) -> None:
        """Note that a part of a step that was drawn could not be recomputed, and why; said once in the events."""
        if why not in self._left:
            self._say("not-recomputed", f"step {step} · {what}: {why}")
        self._left.setdefault(why, Counter())[what] += 1

    def state(self, step: int, changed: Sequence[str], flipped: str = "", why: str = "") -> None:
        """Note that state was read again before a step.

        Args:
            step: its number.
            changed: the leaves that are not what the step before left.
            flipped: the one bit that tells them apart, in words, where there is one.
            why: who else may have changed them; empty where nobody may.
        """
        self.looked += 1
        if not changed:
            self.unchanged += 1
        elif flipped or not why:
            self.corrupt += 1
            found = f" · {flipped}" if flipped else ""
            self._say(
                CORRUPT, f"CORRUPT at step {step} · state · {_named(changed)} changed by itself after step {step - 1}{found}"
            )
        else:
            if why not in self.changed:
                self._say("state-changed", f"{_named(changed)} changed before step {step}: {why}")
            self.changed[why] = self.changed.get(why, 0) + 1

    def _say(self, kind: str, text: str) -> None:
        with contextlib.suppress(ReprotuiError):  # a full disk is told with the records, and never to the script
            self._watch.event(kind, text)

    def to_json(self, steps: int) -> dict[str, Any]:
        """Return what the manifest keeps as `result.watched`; `steps` is how many there were."""
        parts = sum((Counter(dict.fromkeys(found, 1)) for found in self.steps.values()), Counter())
        unequal = parts.pop("unequal", 0)
        return {
            "one_of": self.one_of, "steps": steps, "recomputed": len(self.steps), "equal": len(self.steps) - unequal,
            "parts": dict(parts), "corrupt": self.corrupt, "unsteady": self.unsteady,
            "left_out": {why: dict(parts) for why, parts in self._left.items()},
            "state": {"looked": self.looked, "unchanged": self.unchanged, "changed": dict(self.changed)},
        }  # fmt: skip


def _named(paths: Sequence[str]) -> str:
    return ", ".join(paths[:NAMED]) + (f" and {len(paths) - NAMED} more" if len(paths) > NAMED else "")
