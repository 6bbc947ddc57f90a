"""A worker's life: announce itself, train, and leave a sealed or at least a readable trace whatever happens."""

import contextlib
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from reprotui.disk import with_disk
from reprotui.environment import capture_environment
from reprotui.errors import SAME, USAGE, WORKER_FAILED, BadInputError, ReprotuiError
from reprotui.manifest import Restore
from reprotui.record import memory, stop_at_nan
from reprotui.record.control import Control
from reprotui.record.frameworks import job_of_this_process
from reprotui.record.place import local_trace
from reprotui.run_directory import RunDirectory, this_process
from reprotui.trace import TraceWriter
from reprotui.worker import requeue

REQUEUED_SECONDS = 300.0
"""How long a worker whose job went back into the queue waits for its end."""


def run_worker(run: RunDirectory) -> int:
    """Train the run that a directory's manifest describes.

    Returns:
        The process's exit code: 0 finished, or stopped on request; 2 the manifest asks for something that cannot be
        (`result.error` says what); 4 anything else, with the traceback in the log.
    """
    control = Control(run.commands_path)
    _stop_on_signals(control)
    try:
        changes: dict[str, Any] = {"process": this_process(), "environment": capture_environment()}
        if job := job_of_this_process():
            changes["job"] = job
        if requeue.began_before(before := run.manifest()):
            control.forget()
            changes["restore"] = requeue.put_aside(run, before)
        manifest = run.update_manifest(**changes)
        writer = TraceWriter(run.trace_path, history_of(manifest.restore), local_trace(run, manifest.recording))
        control.stopping = writer.hurry
        writer.memory = memory.Sampler()
        stop_at_nan.watch(writer, manifest.recording, control.request_stop)
    except (ReprotuiError, OSError) as error:
        text = with_disk(error, run.path)
        _say(f"reprotui: {text}")
        _write_result(run, {"state": "failed", "error": text, "bad_input": False}, None)
        return WORKER_FAILED
    try:
        assert manifest.process is not None
        writer.event("started", f"process {manifest.process.pid} on {manifest.process.host}")
        from reprotui.worker.training import train  # imports jax, 0.6 s: after the trace is there to say so

        result = train(run, manifest, writer, control)
        if result["state"] == "stopped" and control.reason == "SIGTERM" and requeue.ask_again():
            writer.event("requeued", f"after step {result['last_step']}")
            writer.close()
            time.sleep(REQUEUED_SECONDS)  # Slurm ends this process
            return SAME
        writer.event(result["state"], control.reason if result["state"] == "stopped" else f"step {result['last_step']}")
        seal = writer.seal()
        _write_result(run, {**result, "torn": writer.torn}, seal)
    except Exception as error:
        return _fail(run, writer, error)
    return SAME


def history_of(restore: Restore | None) -> tuple[Path, int] | None:
    """Return the trace, and the step in it, whose records come before those of a resumed run; None where there is none."""
    if restore is None or restore.history is None:
        return None
    return Path(restore.history), restore.step


def _fail(run: RunDirectory, writer: TraceWriter, error: Exception) -> int:
    bad_input = isinstance(error, BadInputError)
    text = str(error) if isinstance(error, ReprotuiError) else f"{type(error).__name__}: {with_disk(error, run.path)}"
    try:
        writer.event("failed", text)
        seal = writer.seal()
    except ReprotuiError as second:
        writer.close()
        seal = None
        if str(second) != text:
            _say(f"reprotui: {second}")
    # Behind the end of the trace, which gives back the room that a full disk has for these words.
    _say(f"reprotui: {text}" if bad_input else "".join(traceback.format_exception(error)).rstrip())
    _write_result(run, {"state": "failed", "error": text, "bad_input": bad_input}, seal)
    return USAGE if bad_input else WORKER_FAILED


def _write_result(run: RunDirectory, result: dict[str, Any], seal: dict[str, Any] | None) -> None:
    try:
        run.update_manifest(result={**result, "ended_ns": time.time_ns()}, seal=seal)
    except (ReprotuiError, OSError) as error:
        _say(f"reprotui: the result cannot be written to {run.manifest_path}: {with_disk(error, run.path)}")


def _say(text: str) -> None:
    """Write into the log, which a full disk may not take; that must not keep the result from being written."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _stop_on_signals(control: Control) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        control.request_stop(signal.Signals(number).name)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
