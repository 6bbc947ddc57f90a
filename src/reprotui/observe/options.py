"""What an observed process is asked to do; it travels in one environment variable."""

import json
import os
from dataclasses import asdict, dataclass

OPTIONS_VARIABLE = "REPROTUI_OBSERVE"


@dataclass(frozen=True)
class Options:
    """How a script is observed.

    `step_function` and `loss` name what is otherwise found by itself; `record` false leaves every step alone and only
    digests what is there at the end; `final` is the file for that digest, with the times of the steps.
    """

    step_function: str | None = None
    loss: str | None = None
    record: bool = True
    final: str | None = None

    def to_text(self) -> str:
        """Return the value of the environment variable."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str | None) -> "Options":
        """Return the options that a variable's value stands for; none set are the defaults."""
        return cls(**json.loads(text)) if text else cls()


def taken() -> Options | None:
    """Return the options of this process, and take them out of the environment: its children are not observed."""
    text = os.environ.pop(OPTIONS_VARIABLE, None)
    return None if text is None else Options.from_text(text)
