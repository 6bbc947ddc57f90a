"""One recorded run from inside a training process: its directory, trace, controls, and how it ends."""

import atexit
import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from reprotui.disk import full_disk, no_room
from reprotui.environment import capture_environment, first_variables
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.manifest import RunManifest
from reprotui.observation import RUN_VARIABLE, Interruption
from reprotui.ranks import Rank, rank_path
from reprotui.record.control import Control
from reprotui.record.frameworks import this_rank
from reprotui.record.interruption import Interrupter
from reprotui.record.place import begin_rank, create, local_trace, with_sources
from reprotui.run_directory import RunDirectory, this_process
from reprotui.schedule import Recording

if TYPE_CHECKING:
    from reprotui.trace import TraceWriter


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
        recording: how often is recorded; None for what the manifest of a prepared run says.
        interruption: when the process is to get a signal.

    Raises:
        BadInputError: the name is taken, or the directory cannot be written.
    """

    current: "Session | None" = None
    """The session that observers opened in this process; a Recorder of the script's own takes it over."""

    def __init__(
        self, config: Any = None, name: str | None = None, runs: Path | None = None, recording: Recording | None = None,
        interruption: Interruption | None = None,
    ) -> None:  # fmt: skip
        given = os.environ.pop(RUN_VARIABLE, None)
        self.supervised = given is not None
        rank = this_rank()
        if given is None and name is None and rank.job is None:
            rank = Rank()  # processes that nothing names alike cannot find one run: each has its own
        whole = RunDirectory(Path(given)) if given else create(name, runs, rank)
        self.run = RunDirectory(rank_path(whole.path, rank.number))
        if given and rank.number:
            begin_rank(whole, self.run)
        manifest, process = self.run.manifest(), this_process()
        place = {"rank": rank.number, "world_size": rank.of, "host": process.host, "job": rank.job} if rank.of > 1 else {}
        self.manifest = self.run.update_manifest(
            process=process, **place, environment=capture_environment(variables=first_variables()),
            config={**manifest.config, **plain_config(config)}, recording=_asked(recording, manifest),
        )  # fmt: skip
        self._writer: TraceWriter | None = None
        self.control = Control(whole.commands_path)  # what is asked of the run, all its processes are asked
        self.step = 0
        self.ended = False
        self._begun = False
        self._interrupter = Interrupter(interruption)
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
            from reprotui.record import memory, stop_at_nan
            from reprotui.trace import TraceWriter

            self._writer = TraceWriter(self.run.trace_path, local=local_trace(self.run, self.recording))
            self.control.stopping = self._writer.hurry
            self._writer.memory = memory.Sampler()
            stop_at_nan.watch(self._writer, self.recording, self.control.request_stop)
            assert self.manifest.process is not None
            self._writer.event("started", f"process {self.manifest.process.pid} on {self.manifest.process.host}")
        return self._writer

    @property
    def alien(self) -> bool:
        """Say whether this is a child that was forked off: it has no writer's thread, and the run is not its own."""
        return os.getpid() != self._process

    @property
    def recording(self) -> Recording:
        """Return how often is recorded."""
        return self.manifest.recording

    def adopt(self, config: Any, recording: Recording | None = None) -> None:
        """Take on what a Recorder of the script says about the run."""
        self.manifest = self.run.update_manifest(
            config={**self.manifest.config, **plain_config(config)}, recording=_asked(recording, self.manifest)
        )

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

    def wait(self, step: int) -> None:
        """Stand here, after a step, while the run is paused.

        Raises:
            StopTraining: a stop was asked for.
        """
        if not self.control.may_step(step, lambda kind: self._announce(kind, step)):
            raise StopTraining(self.control.reason)

    def finish(self, error: BaseException | None = None, result: Mapping[str, Any] | None = None) -> None:
        """End the run: finished, stopped or failed, as what ended it says. Does nothing where it has ended."""
        if self.ended or self.alien:
            return
        self.ended = True
        state, text, explained = _outcome(error, self.step, self.run.path)
        seal = None
        try:
            self.writer.event(state, text)
            seal = self.writer.seal()
        except ReprotuiError as problem:
            if self._writer is not None:
                self._writer.close()
            state, explained = "failed", {"error": str(problem)}
        experiment = with_sources(self.manifest.experiment)
        ending = {
            "state": state, "last_step": self.step, "final": self._final(), **(result or {}), **explained,
            "torn": self.writer.torn, "ended_ns": time.time_ns(),
        }  # fmt: skip
        with contextlib.suppress(ReprotuiError, OSError):  # the directory may be gone; the training's own end matters more
            self.manifest = self.run.update_manifest(experiment=experiment, result=ending, seal=seal)
        if self._previous_handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._previous_handler)
        if Session.current is self:
            Session.current = None

    def _final(self) -> dict[str, Any]:
        """Return the last loss that was recorded, and those of the iterations inside where the record is a call with a loop."""
        from reprotui.trace import Trace

        loss, losses = None, []
        with contextlib.suppress(ReprotuiError), Trace(self.run.trace_path) as trace:
            last = trace.last_step()
            row = None if last is None else trace.row(last)
            loss = None if row is None else row.loss
            losses = [] if last is None else trace.iteration_losses(last)
        return {"loss": _plain(loss), "metrics": {}, **({"iteration_losses": losses} if losses else {})}

    def recorded(self, step: int) -> None:
        """Note that a step was put into the trace; where the run is to be interrupted after it, the process gets its signal."""
        if name := self._interrupter.due(step):
            self.writer.event("interrupted", f"after step {step}, by {name}")
            self.writer.flush()
            self._interrupter.send(name, self._on_signal, self._previous_handler)

    def _announce(self, kind: str, step: int) -> None:
        self.writer.event(kind, f"after step {step}")
        self.writer.flush()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.control.request_stop(signal.Signals(number).name)

    def _at_exit(self) -> None:
        """Leave what was recorded readable where nobody ended the run: without a seal, so it counts as killed."""
        if not self.ended and not self.alien:
            self.ended = True
            if self._writer is not None:
                self._writer.close()


def _asked(recording: Recording | None, manifest: RunManifest) -> Recording:
    """Return how often a script's Recorder records, None for what the run was prepared for; when it stops is the run's."""
    kept = manifest.recording
    return kept if recording is None else replace(recording, stop_at_nan=kept.stop_at_nan, local_seconds=kept.local_seconds)


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


def _outcome(error: BaseException | None, step: int, run: Path) -> tuple[str, str, dict[str, Any]]:
    if isinstance(error, StopTraining):
        return "stopped", error.reason, {}
    if isinstance(error, KeyboardInterrupt):
        return "stopped", "interrupted from the keyboard", {}
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished", f"step {step}", {}
    text = f"exit code {error.code}" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
    disk = full_disk(Path(error.filename) if error.filename else run) if isinstance(error, OSError) and no_room(error) else None
    text = f"{text}; {disk}" if disk else text
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
