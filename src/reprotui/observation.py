"""How whoever starts a script and the observers inside it find each other: two variables, and a folder on the search path."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reprotui.errors import BadInputError

RUN_VARIABLE = "REPROTUI_RUN"
"""The run directory that was made for a process; taken once, so that children of the process do not find it."""
OPTIONS_VARIABLE = "REPROTUI_OBSERVE"
SITE = Path(__file__).resolve().parent / "observe" / "site"
"""A folder whose sitecustomize.py begins to observe in whatever Python process finds it."""


class Interruption(NamedTuple):
    """After how many steps of its own a process gets a signal, as from outside: `TERM`, `KILL`."""

    after: int
    by: str


@dataclass(frozen=True)
class Options:
    """How a script is observed.

    `step_function` and `loss` name what is otherwise found by itself; `record` false leaves every step alone and only
    digests what is there at the end; `final` is the file for that digest, with the times of the steps. `inside` makes each
    iteration of a loop inside a jitted call a step of its own. Of as many steps as `check` says one is recomputed, None for
    none of them. Once as many steps as `interrupt_at` says are recorded, the process gets the signal `interrupt_by`, as from
    outside. `interventions` are changed before the script's first line: names of `reprotui.observe.interventions`. `explain` is
    the folder of a step that is explained, see `reprotui.observe.explaining`: the process reads it, and stops behind it.
    """

    step_function: str | None = None
    loss: str | None = None
    record: bool = True
    final: str | None = None
    inside: bool = False
    check: int | None = None
    interrupt_at: int | None = None
    interrupt_by: str = "TERM"
    interventions: tuple[str, ...] = ()
    explain: str | None = None

    @property
    def interruption(self) -> Interruption | None:
        """Return after how many steps the process is interrupted, and by which signal."""
        return None if self.interrupt_at is None else Interruption(self.interrupt_at, self.interrupt_by)

    def to_text(self) -> str:
        """Return the value of the environment variable."""
        return json.dumps(asdict(self))

    def told(self) -> dict[str, Any]:
        """Return what of it changes what a record holds, by name, where it is not the usual."""
        given = {"inside": self.inside, "step_function": self.step_function, "loss": self.loss}
        return {name: value for name, value in given.items() if value}

    @classmethod
    def from_text(cls, text: str | None) -> "Options":
        """Return the options that a variable's value stands for; none set are the defaults."""
        return cls(**json.loads(text)) if text else cls()


def parse_share(text: str) -> int:
    """Return of how many steps one is recomputed, for a share such as `1%`: 100.

    Raises:
        BadInputError: it is no share between 0 and 100 %.
    """
    try:
        share = float(text.removesuffix("%")) if text.endswith("%") else 0.0
    except ValueError:
        share = 0.0
    if not 0.0001 <= share <= 100:
        raise BadInputError(f"{text!r} is no share of the steps: expected 0.0001% to 100%, such as 1%")
    return round(100 / share)


def share_text(one_of: int) -> str:
    """Return as a share of the steps that one of so many is recomputed; `parse_share` reads it."""
    return f"{100 / one_of:.6g}%"


def taken() -> Options | None:
    """Return the options of this process, and take them out of the environment: its children are not observed."""
    text = os.environ.pop(OPTIONS_VARIABLE, None)
    return None if text is None else Options.from_text(text)
