"""Where chance and data from outside entered a run, as a value that observers write and comparisons read."""

from dataclasses import dataclass
from typing import Any

TORCH = "torch's generator"
"""The source of draws whose own line nobody saw: until the line that is noted, something had drawn from torch's generator."""
KINDS = ("seed", "draw", "entropy", "hash", "file", "folder")


@dataclass(frozen=True, slots=True)
class Chance:
    """A place where chance or data from outside entered a run, when it was reached for the first time.

    Attributes:
        step: how many steps had been taken.
        kind: `seed` (a generator was given one, or None), `draw` (from a global generator that nothing had seeded), `entropy`
            (from the operating system), `hash` (of a string, with a salt of this process), `file` (read), `folder` (listed).
        source: what was called, such as `random.shuffle`.
        path, line: the script's own file, and the line.
        text: that line.
        value: the seed; of a file its size and digest, of a folder the digest of its order. None for a seed of none.
    """

    step: int
    kind: str
    source: str
    path: str
    line: int
    text: str
    value: str | None

    @property
    def place(self) -> str:
        """Return file and line, as in `train.py:10`."""
        return f"{self.path}:{self.line}"

    @property
    def unseeded(self) -> bool:
        """Say whether nothing fixes what it gives."""
        return self.kind in ("draw", "entropy", "hash") or (self.kind == "seed" and self.value is None)

    @property
    def file(self) -> str:
        """Return the file or folder that was read: what stands in the brackets of `open(data.npy)`."""
        return self.source.partition("(")[2].removesuffix(")")


def chance_row(row: tuple[Any, ...]) -> Chance:
    """Return a row of the table; raises ValueError for one that lost its form on a damaged page."""
    _, step, kind, source, path, line, text, value = row
    if not (
        isinstance(step, int) and isinstance(line, int) and kind in KINDS and isinstance(value, str | None)
        and all(isinstance(entry, str) for entry in (source, path, text))
    ):  # fmt: skip
        raise ValueError(f"a row about chance at step {step} lost its form")
    return Chance(step, kind, source, path, line, text, value)
