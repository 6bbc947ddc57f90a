"""Which calls of a training lie in records, and which in none: what was not recorded cannot be called equal.

After `--every 10` on 500 calls of `train`, the last 50 of them in a phase of its own that nobody recorded:

    {"calls": {"train": {"made": 500, "recorded": 45, "sampled_out": 405}}, "gaps": ["finetune hands on ..."], "notes": []}

A gap means that the runs may have differed unseen; a note only says what else there was.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


class Coverage:
    """What of a training is recorded.

    Attributes:
        gaps: reasons why records do not tell all.
        notes: what was left out without that.
    """

    def __init__(self) -> None:
        self._made: Counter[str] = Counter()
        self._recorded: Counter[str] = Counter()
        self._sampled_out: Counter[str] = Counter()
        self.gaps: dict[str, None] = {}
        self.notes: dict[str, None] = {}

    def add(self, names: Iterable[str], recorded: bool) -> None:
        """Count calls that lie in a record, or in a step that was not to be recorded (`--every`)."""
        (self._recorded if recorded else self._sampled_out).update(names)

    def made(self, calls: Iterable[tuple[str, int]]) -> None:
        """Say how often functions were called in all; those of one name are counted together."""
        self._made.clear()
        for name, count in calls:
            self._made[name] += count

    def gap(self, text: str) -> None:
        """Note why the records do not tell all."""
        self.gaps[text] = None

    def note(self, text: str) -> None:
        """Note what was left out, where that leaves nothing unseen that trains."""
        self.notes[text] = None

    def to_json(self) -> Mapping[str, Any]:
        """Return what the manifest of the run keeps as `result.coverage`."""
        calls = {
            name: {"made": made, "recorded": self._recorded[name], "sampled_out": self._sampled_out[name]}
            for name, made in self._made.items()
        }
        return {"calls": calls, "gaps": list(self.gaps), "notes": list(self.notes)}
