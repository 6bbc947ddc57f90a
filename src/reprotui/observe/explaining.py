"""The end of a run that is taken again to explain a step: what is read of the step is left for who asked, and nothing follows.

The folder of `Options.explain` holds `request.json`: the step, who asked, what reads the step in which framework, and what that
needs to know. It gets `read.json`, or why nothing could be read. Then the process waits for a question (`question.json`: the
number of an operation and that of its output), which it answers with `value.npy`, and is ended by who asked.
"""

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from reprotui.errors import ReprotuiError
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
    def call(self, function: Any, given: Any, made: Any) -> Any: ...
    def result(self) -> dict[str, Any]: ...
    def value(self, number: int, output: int) -> "np.ndarray | None": ...
    def leaves(self, names: Sequence[tuple[str, str]], leaves: Sequence[Any]) -> None: ...


class Explaining:
    """What is asked of this process: to read a step, and to stop behind it.

    Args:
        directory: see above.

    Attributes:
        step: the step.
        request: all that is asked.
        reader: what reads; None until it is known which framework trains.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.request: Mapping[str, Any] = read_json(directory / REQUEST)
        self.step = int(self.request["step"])
        self._caller = Process(**self.request["caller"])
        self._readers: list[Reader] = []
        self.reader: Reader | None = None

    def read_with(self, framework: str, watch: Any, owner: Any) -> Reader:
        """Return what reads the steps of a framework that was just imported; `owner` is the observer of its steps."""
        module = importlib.import_module(self.request["readers"][framework])
        reader: Reader = module.reader(watch, owner, self.request)
        self._readers.append(reader)
        if self.step == 1:
            reader.begin()
        return reader

    def claimed(self, owner: Any) -> None:
        """Note who tells the steps of this process."""
        self.reader = next((reader for reader in self._readers if reader.owner is owner), None)

    def over(self, step: int) -> None:
        """Note that a step may be over: what comes from now on is part of the next one, or of this one still."""
        if step == self.step - 1:
            for reader in self._readers:
                reader.begin()

    def leaves(self, names: Sequence[tuple[str, str]], leaves: Sequence[Any]) -> None:
        """Note what records hold: (phase, path) of leaves."""
        for reader in self._readers:
            reader.leaves(names, leaves)

    def put(self, step: int, flush: Callable[[], None]) -> None:
        """Leave what was read once the step is recorded; this process goes no further."""
        if step != self.step or self.reader is None:
            return
        flush()
        try:
            result = self.reader.result()
        except Exception as error:
            self.refuse(str(error) if isinstance(error, ReprotuiError) else f"{type(error).__name__}: {error}")
        else:
            write_json(self._directory / RESULT, result)
            self._serve(self.reader)

    def refuse(self, why: str) -> None:
        """Say why the step cannot be read, and end this process."""
        write_json(self._directory / RESULT, {"refused": why})
        os._exit(0)

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
