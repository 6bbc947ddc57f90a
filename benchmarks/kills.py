"""Campaign: workers killed at random moments. Is every acknowledged step there, and does the verdict say incomplete?"""

import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Progress, say
from reprotui.compare import compare_runs, open_run
from reprotui.errors import ReprotuiError, WorkerFailedError
from reprotui.experiments.discovery import find_experiment
from reprotui.race.launch import start_worker
from reprotui.race.prepare import Request, prepare_run
from reprotui.race.start import ended
from reprotui.run_directory import RunDirectory
from reprotui.trace import Follower, Trace, verify_trace

KILLS = 100
STEPS = 100_000
"""Steps of a worker that is killed: more than it can reach."""
REFERENCE_STEPS = 2_000
"""Steps of the finished run that the killed ones are compared with."""
SECONDS_AFTER_RECORD = 1.5
"""Latest kill after the expected first record: a dozen commits of the writer."""
POLL_SECONDS = 0.005
LIMIT_SECONDS = 300
CONFIG: dict[str, Any] = {"width": 64, "depth": 1}


@dataclass(frozen=True)
class _Killed:
    """What was found after one kill. `step` is the last one in the trace, None without a trace or a record."""

    had_trace: bool
    opened: bool
    lost: int
    chain_holds: bool
    state_right: bool
    verdict: str
    step: int | None
    notes: tuple[str, ...]


def run(count: int | None = None, seed: int = 0, *, reference_steps: int = REFERENCE_STEPS) -> dict[str, Any]:
    """Start workers with a warm cache and kill each at a moment drawn from its start to well after its first record.

    Args:
        count: kills.
        seed: of the moments; the workers' speed decides which step they meet.
        reference_steps: steps of the finished run.

    Returns:
        A row for kills before there was a trace and one for those after: kills; traces that opened; acknowledged steps
        (seen by a follower before the kill) that were gone; traces whose chain holds; runs whose state is right (`killed`,
        or `created` where the process died before it wrote its name); verdicts that are incomplete; mean last step.
        Every kill that was not as it should be is a note.
    """
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        runs = Path(folder)
        say("training the reference")
        _finished_run(runs, "warm-up", 1)
        reference, first_record = _finished_run(runs, "reference", reference_steps)
        progress = Progress("kills", count or KILLS)
        found = []
        for number in range(count or KILLS):
            moment = generator.uniform(0, first_record + SECONDS_AFTER_RECORD)
            found.append(_kill(runs, f"killed-{number}", moment, reference))
            progress.advance()
    rows = [
        _row("killed before there was a trace", [kill for kill in found if not kill.had_trace]),
        _row("killed later", [kill for kill in found if kill.had_trace]),
    ]
    return {"rows": rows, "notes": [note for kill in found for note in kill.notes]}


def _finished_run(runs: Path, name: str, steps: int) -> tuple[RunDirectory, float]:
    """Train a run to its end; return it, and the seconds from its start to its first record."""
    run_ = prepare_run(Request(runs, name, []), find_experiment(None), {**CONFIG, "steps": steps})
    start_ns = time.time_ns()
    with ended(start_worker(run_)) as process:
        process.wait(LIMIT_SECONDS)
    if run_.state() != "finished":
        raise WorkerFailedError(f"the run {name} is {run_.state()}: {' / '.join(run_.log_tail(3))}")
    with Trace(run_.trace_path) as trace:
        row = trace.row(1)
    assert row is not None
    return run_, (row.time_ns - start_ns) / 1e9


def _kill(runs: Path, name: str, moment: float, reference: RunDirectory) -> _Killed:
    run_ = prepare_run(Request(runs, name, []), find_experiment(None), {**CONFIG, "steps": STEPS})
    follower, acknowledged, notes = Follower(run_.trace_path), -1, []
    deadline = time.monotonic() + moment
    with ended(start_worker(run_)) as process:
        while time.monotonic() < deadline:
            try:
                rows = follower.poll().rows
            except ReprotuiError as error:
                notes.append(f"{name}: the follower failed: {error}")
                break
            acknowledged = rows[-1].step if rows else acknowledged
            time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
        if process.poll() is not None:
            notes.append(f"{name}: the worker had ended by itself: {' / '.join(run_.log_tail(3))}")
        # It leads a group of its own.
        os.killpg(process.pid, signal.SIGKILL)
    return _examine(run_, acknowledged, reference, notes)


def _examine(run_: RunDirectory, acknowledged: int, reference: RunDirectory, notes: list[str]) -> _Killed:
    name = run_.path.name
    had_trace = run_.trace_path.exists() and run_.trace_path.stat().st_size > 0
    opened, last, chain_holds = False, None, False
    if had_trace:
        try:
            with Trace(run_.trace_path) as trace:
                opened, last = True, trace.last_step()
        except ReprotuiError as error:
            notes.append(f"{name}: the trace does not open: {error}")
        verified = verify_trace(run_.trace_path) if opened else None
        chain_holds = verified is not None and verified.problem is None
        if verified is not None and verified.problem:
            notes.append(f"{name}: {verified.problem}")
    lost = max(0, acknowledged - (-1 if last is None else last))
    if lost:
        notes.append(f"{name}: step {acknowledged} was acknowledged, the trace ends at {last}")
    state, expected = run_.state(), "killed" if run_.manifest().process else "created"
    if state != expected:
        notes.append(f"{name}: its state is {state}, not {expected}")
    verdict = compare_runs(open_run(reference.path, "A"), open_run(run_.path, "B"))
    if had_trace and verdict.kind != "incomplete":
        notes.append(f"{name}: {verdict.headline}")
    return _Killed(had_trace, opened, lost, chain_holds, state == expected, verdict.kind, last, tuple(notes))


def _row(label: str, kills: list[_Killed]) -> dict[str, Any]:
    steps = [kill.step for kill in kills if kill.step is not None]
    return {
        "moment": label,
        "kills": len(kills),
        "opened": sum(kill.opened for kill in kills),
        "lost acknowledged steps": sum(kill.lost for kill in kills),
        "chain holds": sum(kill.chain_holds for kill in kills),
        "state right": sum(kill.state_right for kill in kills),
        "verdict incomplete": sum(kill.verdict == "incomplete" for kill in kills),
        "mean last step": sum(steps) / len(steps) if steps else "–",
    }
