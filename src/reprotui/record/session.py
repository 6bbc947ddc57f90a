"""One recorded run from inside a training process: its directory, trace, controls, and how it ends."""

import atexit
import contextlib
import hashlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import reprotui
from reprotui.environment import capture_environment
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.record.control import Control
from reprotui.run_directory import (
    MANIFEST_VERSION,
    RunDirectory,
    create_directory,
    default_runs_directory,
    this_process,
    write_json,
)

if TYPE_CHECKING:
    from reprotui.trace import TraceWriter

RUN_VARIABLE = "REPROTUI_RUN"
"""The run directory that `reprotui race` made for a process; taken once, so that children of the process do not find it."""
SOURCES_LIMIT = 2000
"""Source files whose digests a manifest keeps."""


class StopTraining(SystemExit):
    """Raised inside a step when a stop was asked for; not an `Exception`, so no handler of a script swallows it."""

    def __init__(self, reason: str = "stopped") -> None:
        super().__init__(0)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Session:
    """The run that this process records.

    Args:
        config: what the run was configured with; anything that JSON can hold, a mapping, dataclass or namespace.
        name: the run's name where it is started by hand; by default the script's name with date and time.
        runs: the runs directory where it is started by hand.
        recording: what the manifest says about how often is recorded.

    Raises:
        BadInputError: the name is taken, or the directory cannot be written.
    """

    current: "Session | None" = None
    """The session that observers opened in this process; a Recorder of the script's own takes it over."""

    def __init__(
        self, config: Any = None, name: str | None = None, runs: Path | None = None, recording: Mapping[str, Any] | None = None
    ) -> None:
        given = os.environ.pop(RUN_VARIABLE, None)
        self.supervised = given is not None
        self.run = RunDirectory(Path(given)) if given else _create(name, runs)
        manifest = self.run.manifest()
        self.manifest = self.run.update_manifest(
            process=this_process(), environment=capture_environment(), config={**manifest["config"], **plain_config(config)},
            recording={**manifest["recording"], **(recording or {})},
        )  # fmt: skip
        self.recording = self.manifest["recording"]
        self._writer: TraceWriter | None = None
        self.control = Control(self.run.commands_path)
        self.step = 0
        self.ended = False
        self._begun = False
        self._process = os.getpid()
        self._previous_handler: Any = None
        if self.supervised and threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._on_signal)
        atexit.register(self._at_exit)

    @property
    def writer(self) -> "TraceWriter":
        """Return the trace's writer, opened when something is first written.

        It needs numpy, and a script may set what numpy's libraries read before it imports numpy itself.

        Raises:
            WorkerFailedError: the trace cannot be created.
        """
        if self._writer is None:
            from reprotui.trace import TraceWriter

            self._writer = TraceWriter(self.run.trace_path)
            process = self.manifest["process"]
            self._writer.event("started", f"process {process['pid']} on {process['host']}")
        return self._writer

    @property
    def alien(self) -> bool:
        """Say whether this is a child that was forked off: it has no writer's thread, and the run is not its own."""
        return os.getpid() != self._process

    def adopt(self, config: Any, recording: Mapping[str, Any]) -> None:
        """Take on what a Recorder of the script says about the run."""
        self.manifest = self.run.update_manifest(
            config={**self.manifest["config"], **plain_config(config)}, recording={**self.recording, **recording}
        )
        self.recording = self.manifest["recording"]

    def event(self, kind: str, text: str) -> None:
        """Write an event into the trace."""
        if not self.ended and not self.alien:
            self.writer.event(kind, text)

    def begin(self, devices: Mapping[str, Any], text: str) -> None:
        """Say at the first record what the process computes on."""
        if self._begun:
            return
        self._begun = True
        self.manifest = self.run.update_manifest(devices=dict(devices))
        self.writer.event("compiled", text)

    def wait(self) -> None:
        """Stand here while the run is paused.

        Raises:
            StopTraining: a stop was asked for.
        """
        if not self.control.may_step(self._announce):
            raise StopTraining(self.control.reason)

    def finish(self, error: BaseException | None = None, result: Mapping[str, Any] | None = None) -> None:
        """End the run: finished, stopped or failed, as what ended it says. Does nothing where it has ended."""
        if self.ended or self.alien:
            return
        self.ended = True
        state, text, explained = _outcome(error, self.step)
        seal = None
        try:
            self.writer.event(state, text)
            seal = self.writer.seal()
        except ReprotuiError as problem:
            if self._writer is not None:
                self._writer.close()
            state, explained = "failed", {"error": str(problem)}
        experiment = {**self.manifest["experiment"], **source_digests(self.manifest["experiment"].get("path"))}
        ending = {
            "state": state, "last_step": self.step, "final": self._final(), **(result or {}), **explained,
            "ended_ns": time.time_ns(),
        }  # fmt: skip
        with contextlib.suppress(ReprotuiError, OSError):  # the directory may be gone; the training's own end matters more
            self.manifest = self.run.update_manifest(experiment=experiment, result=ending, seal=seal)
        if self._previous_handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._previous_handler)
        if Session.current is self:
            Session.current = None

    def _final(self) -> dict[str, Any]:
        """Return the last loss that was recorded."""
        from reprotui.trace import Trace

        loss = None
        with contextlib.suppress(ReprotuiError), Trace(self.run.trace_path) as trace:
            last = trace.last_step()
            row = None if last is None else trace.row(last)
            loss = None if row is None else row.loss
        return {"loss": _plain(loss), "metrics": {}}

    def _announce(self, kind: str) -> None:
        self.writer.event(kind, f"after step {self.step}")
        self.writer.flush()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.control.request_stop(signal.Signals(number).name)

    def _at_exit(self) -> None:
        """Leave what was recorded readable where nobody ended the run: without a seal, so it counts as killed."""
        if not self.ended and not self.alien:
            self.ended = True
            if self._writer is not None:
                self._writer.close()


def plain_config(config: Any) -> dict[str, Any]:
    """Return a config as what JSON can hold; what it cannot is kept as text.

    Raises:
        BadInputError: it has no named entries.
    """
    if config is None:
        return {}
    if is_dataclass(config) and not isinstance(config, type):
        config = asdict(config)
    elif hasattr(config, "model_dump"):
        config = config.model_dump()
    elif not isinstance(config, Mapping) and hasattr(config, "__dict__"):
        config = vars(config)
    if not isinstance(config, Mapping):
        raise BadInputError(f"config is a {type(config).__name__}: give a mapping, a dataclass or a namespace")
    return {str(key): _plain(value) for key, value in config.items()}


def source_digests(script: str | None) -> dict[str, Any]:
    """Return the digests of the script and of every module that was imported from its folder: the code that ran."""
    if script is None:
        return {}
    root = Path(script).resolve().parent
    files = {Path(script).resolve()}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and file.endswith(".py") and "site-packages" not in file and Path(file).resolve().is_relative_to(root):
            files.add(Path(file).resolve())
    digests = {}
    for path in sorted(files)[:SOURCES_LIMIT]:
        with contextlib.suppress(OSError):
            digests[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in digests.items()).encode()).hexdigest()
    return {"source_digest": whole, "sources": digests}


def script_of(argv: list[str]) -> dict[str, Any]:
    """Return what a manifest keeps of the script that a process runs."""
    path = Path(argv[0]) if argv and argv[0] and Path(argv[0]).is_file() else None
    name = path.stem if path else "python"
    return {"name": name, "path": str(path.resolve()) if path else None, **source_digests(str(path) if path else None)}


def _create(name: str | None, runs: Path | None) -> RunDirectory:
    """Make the directory of a run that was started by hand."""
    experiment = script_of(sys.argv)
    stem = "".join(letter if letter.isalnum() or letter in "._+-" else "-" for letter in experiment["name"]).lstrip("._+-")
    run = RunDirectory(create_directory(runs or default_runs_directory(), name, stem[:60] or "run"))
    write_json(
        run.manifest_path,
        {
            "manifest_version": MANIFEST_VERSION, "reprotui": reprotui.__version__, "name": run.path.name, "race": None,
            "created_ns": time.time_ns(), "command": command_of_this_process(), "working_directory": str(Path.cwd()),
            "experiment": experiment, "config": {}, "config_phases": {}, "recording": {"enabled": True},
        },
    )  # fmt: skip
    return run


def command_of_this_process() -> list[str]:
    """Return the command line that started this process, as it was typed where the platform tells."""
    original = getattr(sys, "orig_argv", None) or [sys.executable, *sys.argv]
    return ["python", *original[1:]]


def _outcome(error: BaseException | None, step: int) -> tuple[str, str, dict[str, Any]]:
    if isinstance(error, StopTraining):
        return "stopped", error.reason, {}
    if isinstance(error, KeyboardInterrupt):
        return "stopped", "interrupted from the keyboard", {}
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished", f"step {step}", {}
    text = f"exit code {error.code}" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
    return "failed", text, {"error": text}


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it; what has no such form, infinities and NaN are kept as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if callable(getattr(value, "item", None)) and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
