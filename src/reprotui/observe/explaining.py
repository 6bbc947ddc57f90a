"""The end of a run that is taken again to explain a step: what is read of the step is left for who asked, and nothing follows.

The folder of `Options.explain` holds `request.json`: the step, who asked, and which output is wanted where it is one alone. It
gets `read.json`, or why nothing could be read. Then the process waits for a question (`question.json`: an operation's number and
the number of its output), which it answers with `value.npy`, and is ended by who asked.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from reprotui.manifest import Process
from reprotui.run_directory import process_alive, read_json, write_json

if TYPE_CHECKING:
    import numpy as np

REQUEST, RESULT, QUESTION, VALUE = "request.json", "read.json", "question.json", "value.npy"
LOOK_SECONDS = 0.02


class Reader(Protocol):
    """What reads a step while it is taken; `owner` is the observer that tells its steps."""

    owner: Any

    def begin(self) -> None: ...
    def result(self) -> dict[str, Any]: ...
    def value(self, number: int, output: int) -> "np.ndarray | None": ...
    def leaves(self, names: Sequence[tuple[str, str]], leaves: Sequence[Any]) -> None: ...


class Explaining:
    """What is asked of this process: to read a step, and to stop behind it.

    Args:
        directory: see above.

    Attributes:
        step: the step.
        wanted: the operation and output whose value is kept; None keeps what fits.
        reader: what reads; None until the framework is there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        request = read_json(directory / REQUEST)
        self.step = int(request["step"])
        self.wanted = None if request["wanted"] is None else (int(request["wanted"][0]), int(request["wanted"][1]))
        self._caller = Process(**request["caller"])
        self.reader: Reader | None = None
        self._begun = False

    def claimed(self, owner: Any) -> None:
        """Note who tells the steps of this process; end it where its operations cannot be read."""
        if self.reader is None or self.reader.owner is not owner:
            self.refuse("its steps are not torch's: of scripts, explain reads the operations of PyTorch alone so far")

    def over(self, step: int) -> None:
        """Note that a step may be over: what comes from now on is part of the next one, or of this one still."""
        if step == self.step - 1 and self.reader is not None:
            self.reader.begin()

    def leaves(self, names: Sequence[tuple[str, str]], leaves: Sequence[Any]) -> None:
        """Note what records hold: (phase, path) of leaves."""
        if self.reader is not None:
            self.reader.leaves(names, leaves)

    def put(self, step: int, flush: Callable[[], None]) -> None:
        """Leave what was read once the step is recorded; `flush` waits until it is. This process goes no further."""
        if step == self.step:
            flush()
            if self.reader is not None:
                self._leave(self.reader.result())
                self._serve(self.reader)

    def refuse(self, why: str) -> None:
        """Say why the step cannot be read, and end this process."""
        self._leave({"refused": why})
        os._exit(0)

    def _leave(self, result: dict[str, Any]) -> None:
        write_json(self._directory / RESULT, result)

    def _serve(self, reader: Reader) -> None:
        """Wait to be asked for a value, or to be ended."""
        import numpy as np

        question = self._directory / QUESTION
        while process_alive(self._caller) and self._directory.is_dir():
            if question.exists():
                asked = read_json(question)
                value = reader.value(asked["number"], asked["output"])
                if value is None:
                    write_json(self._directory / "none.json", {})
                else:
                    # The types of ml_dtypes have no name in a .npy file; their bits have.
                    raw = value.view(f"V{value.itemsize}") if value.dtype.kind == "V" else value
                    np.save(self._directory / "half.npy", raw, allow_pickle=False)
                    (self._directory / "half.npy").rename(self._directory / VALUE)
                break
            time.sleep(LOOK_SECONDS)
        os._exit(0)
