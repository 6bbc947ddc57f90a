"""What a run that was watched alone says of itself: how much was recomputed, what came of it, and what was never checked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprotui.event_kinds import CORRUPT, GRADIENT_SPIKE, LOSS_SPIKE, RECOMPUTED
from reprotui.observation import share_text
from reprotui.trace import Event

_STEP = re.compile(r"\bstep (\d{1,15})\b")
_NEVER = {"forward": "forward passes", "gradients": "gradients", "update": "updates of the optimizer"}
"""The parts in which torch's steps are recomputed, for the sentence that one of them never was."""


@dataclass(frozen=True)
class Watched:
    """The checks of a run, from `result.watched` of its manifest, which may come from anybody.

    Attributes:
        one_of: of how many steps one was to be recomputed.
        steps: how many there were.
        recomputed, equal: of how many steps something was recomputed, and how many of them came out equal.
        parts: how many steps each part of which was recomputed in, by its name.
        corrupt: findings that values are not right.
        unsteady: steps that did not come out the same each time.
        left_out: why something was not recomputed, with how often.
        looked, unchanged: before how many steps the state was read again, and where it was as the step before left it.
        changed: who else may have changed it, with how often.
    """

    one_of: int
    steps: int
    recomputed: int
    equal: int
    parts: Mapping[str, int]
    corrupt: int
    unsteady: int
    left_out: Mapping[str, int]
    looked: int
    unchanged: int
    changed: Mapping[str, int]

    @classmethod
    def of(cls, found: Mapping[str, Any] | None) -> "Watched | None":
        """Return what was kept; None where nothing was checked, or it is no such thing."""
        if not found:
            return None
        state = found.get("state")
        state = state if isinstance(state, Mapping) else {}
        left = found.get("left_out")
        left = {str(why): sum(_counts(parts).values()) for why, parts in (left.items() if isinstance(left, Mapping) else ())}
        return cls(
            max(1, _count(found.get("one_of"))), *(_count(found.get(name)) for name in ("steps", "recomputed", "equal")),
            _counts(found.get("parts")), _count(found.get("corrupt")), _count(found.get("unsteady")), left,
            _count(state.get("looked")), _count(state.get("unchanged")), _counts(state.get("changed")),
        )  # fmt: skip

    @property
    def sentence(self) -> str:
        """Return what was checked in one line."""
        return " · ".join([f"WATCHED {self.steps:,} step{'' if self.steps == 1 else 's'}", self._of_steps, self._of_state])

    @property
    def told(self) -> bool:
        """Say whether something was recomputed, and all of what was looked at can be told to be right."""
        return bool(self.equal) and not self.unsteady and not self.changed

    @property
    def lines(self) -> list[str]:
        """Return what was never checked, and what cannot be told."""
        lines = [f"one step of {self.one_of} was to be recomputed ({share_text(self.one_of)})"]
        lines += [f"recomputed: {name}, in {count:,} steps" for name, count in self.parts.items()]
        if any(name in self.parts for name in _NEVER):
            never = [text for name, text in _NEVER.items() if name not in self.parts]
            lines += [f"never recomputed: {', '.join(never)}"] if never else []
        lines += [f"not recomputed, {count:,} times: {why}" for why, count in self.left_out.items()]
        if self.unsteady:
            lines.append(f"{self.unsteady:,} not the same each time that it was computed: cannot tell")
        lines += [f"state changed before {count:,} steps: {why}" for why, count in self.changed.items()]
        return lines

    @property
    def _of_steps(self) -> str:
        if not self.recomputed:
            return "none recomputed"
        return f"{self.recomputed:,} recomputed, {'all' if self.equal == self.recomputed else f'{self.equal:,}'} equal"

    @property
    def _of_state(self) -> str:
        gaps = max(self.looked, self.steps - 1)  # a run that was ended within a step was looked at before it
        if not self.looked:
            return f"state between steps looked at 0 of {gaps:,} times"
        if self.looked == gaps:
            return f"state between steps unchanged at {self.unchanged:,} of {gaps:,}"
        return f"state between steps unchanged at {self.unchanged:,} of {self.looked:,} looked at, of {gaps:,}"


def said_of_events(events: Sequence[Event]) -> str:
    """Return in few words what was checked of a run until now: steps that were recomputed, and spikes; empty for none."""
    steps = {event.text.split(" · ")[0] for event in events if event.kind == RECOMPUTED}
    spikes = sum(event.kind in (LOSS_SPIKE, GRADIENT_SPIKE) for event in events)
    parts = [f"{len(steps):,} recomputed, equal"] if steps else []
    return " · ".join([*parts, *([f"{spikes:,} spike{'s' if spikes > 1 else ''}"] if spikes else [])])


def marks_of(events: Sequence[Event]) -> dict[int, str]:
    """Return what was found at steps of a run that checks itself, the worst of each: `corrupt`, `spike`, `recomputed`."""
    found: dict[int, str] = {}
    for word, kinds in (("recomputed", (RECOMPUTED,)), ("spike", (LOSS_SPIKE, GRADIENT_SPIKE)), ("corrupt", (CORRUPT,))):
        for event in events:
            at = _STEP.search(event.text) if event.kind in kinds else None
            if at is not None:
                found[int(at[1])] = word
    return found


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _counts(value: Any) -> dict[str, int]:
    return {str(name): _count(count) for name, count in value.items()} if isinstance(value, Mapping) else {}
