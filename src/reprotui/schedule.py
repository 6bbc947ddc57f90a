"""What a run is asked to leave behind: how much it records, when it saves checkpoints, and which of them it keeps."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reprotui.errors import BadInputError

CHECKPOINTS = "checkpoints"
"""Where a run saves unless told otherwise: a directory of its own."""


class Replicas(StrEnum):
    """Which copies are read of a value that lies on several devices."""

    ALL = "all"
    FIRST = "first"


@dataclass(frozen=True)
class Recording:
    """What a run records: nothing (`enabled` false), or every that many steps, with leaf rows and statistics.

    Attributes:
        every: record every that many steps.
        leaves_every: store leaf rows every that many records; roots are always stored.
        statistics_every: take L2 norms and maxima every that many records: they read every leaf once more, for the eye alone.
        stop_at_nan: stop the run once its loss, gradients or state hold NaN or infinity.
        replicas: of a value that lies on several devices of jax's read each copy and see that they agree, or the first alone.
        local_seconds: write the trace on a disk of the host, and copy what is new every so many seconds; None for at once.
    """

    enabled: bool = True
    every: int = 1
    leaves_every: int = 1
    statistics_every: int = 20
    stop_at_nan: bool = False
    replicas: Replicas = Replicas.ALL
    local_seconds: float | None = None


@dataclass(frozen=True)
class Checkpointing:
    """A schedule and a policy; without any of it a run saves on command alone.

    Attributes:
        every: save every that many steps.
        at: save at these steps.
        at_end: save after the last step.
        keep: of the checkpoints that `every` asked for, keep the newest so many; None keeps all. Those that
            were asked for one by one (`at`, an end between two of them, a command) stay.
        keep_every: never remove a step that this number divides.
        directory: where they go, None for `checkpoints/` of the run.
    """

    every: int | None = None
    at: tuple[int, ...] = ()
    at_end: bool = False
    keep: int | None = None
    keep_every: int | None = None
    directory: str | None = None

    def due(self, step: int, last: int) -> bool:
        """Say whether the state after a step is to be saved."""
        return bool((self.every and step % self.every == 0) or step in self.at or (self.at_end and step == last))

    def expendable(self, step: int) -> bool:
        """Say whether a step is there only because `every` asked for it, so that `keep` may remove it."""
        kept = step in self.at or (self.keep_every and step % self.keep_every == 0)
        return bool(self.every and step % self.every == 0) and not kept

    def check(self, steps: int, start: int) -> None:
        """Raise BadInputError where a step that is asked for is never reached.

        Args:
            steps: the last step of the run.
            start: the step it begins after: 0, or the one it is restored from.
        """
        for step in self.at:
            if not start < step <= steps:
                raise BadInputError(f"--save-at {step}: this run trains steps {start + 1} to {steps}")
        if self.keep is not None and not self.every:
            raise BadInputError("--keep removes what --save-every saved: give --save-every N too")

    def place(self, run: Path) -> Path:
        """Return the directory into which a run saves."""
        return run / CHECKPOINTS if self.directory is None else Path(self.directory)


def surplus(steps: Collection[int], policy: Checkpointing) -> list[int]:
    """Return the steps that a policy does not keep any longer, oldest first."""
    if policy.keep is None:
        return []
    expendable = sorted(step for step in steps if policy.expendable(step))
    return expendable[: -policy.keep]
