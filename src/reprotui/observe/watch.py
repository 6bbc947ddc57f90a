"""What the observers of one process share: the run, who sets the pace of its steps, and what is left at the end."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reprotui.errors import ReprotuiError
from reprotui.observe.coverage import Coverage
from reprotui.observe.options import Options
from reprotui.record.session import Session, StopTraining


class Watch:
    """The observation of this process.

    Args:
        options: what was asked for.
        session: the run; None where nothing is recorded.
        open_session: opens the run at the first thing that is observed, where it is not known yet whether this process
            is the one that trains; gives None where another process does.
    """

    def __init__(
        self, options: Options, session: Session | None, open_session: Callable[[], Session | None] | None = None
    ) -> None:
        self.options, self.session = options, session
        self._open = open_session
        self.owner: Any = None
        self.finishers: list[Callable[[], None]] = []
        self.final: Callable[[], list[tuple[Any, Any]]] | None = None
        self.candidates: dict[str, int] = {}
        self.coverage = Coverage()
        self.times: list[float] = []
        self._assembly: Any = None

    @property
    def recording(self) -> bool:
        """Say whether steps are to be recorded: not where the script has its own Recorder, and not in a child."""
        if self._open is not None:
            self.session, self._open = self._open(), None
            Session.current = self.session
        session = self.session
        return session is not None and not session.ended and not session.alien and Session.current is session

    @property
    def assembly(self) -> Any:
        """Return what puts records together; loads numpy on first use."""
        if self._assembly is None:
            assert self.session is not None
            from reprotui.record.assembly import Assembly

            self._assembly = Assembly(self.session.writer, self.session.recording)
        return self._assembly

    def claim(self, owner: Any, description: str, devices: dict[str, Any]) -> bool:
        """Let an observer set the pace of the steps; the first one does, and keeps it."""
        if self.owner is None:
            self.owner = owner
            if self.session is not None:
                self.session.begin(devices, description)
        return self.owner is owner

    def due(self, step: int) -> bool:
        """Say whether a step is to be recorded."""
        assert self.session is not None
        return step % self.session.recording.get("every", 1) == 0

    def put(self, step: int, parts: Sequence[Any], calls: str | None = None) -> None:
        """Record a step; `calls` says how many calls of which functions lie in it, as JSON."""
        assert self.session is not None
        if not self.session.ended:
            self.session.step = max(step, self.session.step)
            self.assembly.put(step, parts, calls)

    def event(self, kind: str, text: str) -> None:
        """Write an event."""
        if self.session is not None:
            self.session.event(kind, text)

    def unseen(self, kind: str, text: str) -> None:
        """Write an event about something that no record holds: the records do not tell all."""
        self.coverage.gap(text)
        self.event(kind, text)

    def flush(self) -> None:
        """Wait until what was put is computed and committed."""
        if self.session is not None and not self.session.ended:
            self.session.writer.flush()

    def tick(self) -> None:
        """Note that a step begins."""
        self.times.append(time.perf_counter())

    @property
    def stands(self) -> bool:
        """Say whether the next step will not be taken at once: the run is paused, or is to stop."""
        return self.session is not None and not self.session.ended and self.session.control.stands()

    def wait(self) -> None:
        """Stand still while the run is paused; raise StopTraining where it is to stop."""
        if self.session is not None and not self.session.ended:
            self.session.wait()

    def give_up(self, error: Exception) -> None:
        """Observe nothing more: the training goes on whatever becomes of its observation."""
        self.owner = self  # nobody else's
        self.final = None  # what was seen last is not what the training ends on
        step = self.session.step if self.session is not None else 0
        self.coverage.gap(f"observing ended after step {step}: {type(error).__name__}: {error}")
        print(f"reprotui: observing ended: {type(error).__name__}: {error}", file=sys.stderr)
        with contextlib.suppress(ReprotuiError):  # what failed may be the trace itself, on a full disk
            self.event("observing-failed", f"{type(error).__name__}: {error}")

    def finish(self, error: BaseException | None) -> None:
        """End the observation with the process: what is open is recorded, the final state is digested."""
        if self.session is not None and self.session.alien:
            return
        for finisher in self.finishers:
            try:
                finisher()
            except Exception as problem:
                self.give_up(problem)
        digest = self._final_digest()
        if self.options.final:
            steps = {"digest": digest, "times": self.times, "candidates": self.candidates}
            Path(self.options.final).write_text(json.dumps(steps), encoding="utf-8")
        if self.session is None or Session.current is not self.session:
            return
        if self.owner is None and (error is None or isinstance(error, SystemExit)) and not isinstance(error, StopTraining):
            text = "no jitted function was called twice with its own outputs, and no torch optimizer took a step"
            self.event("nothing-observed", text)
            print(f"reprotui: nothing was observed: {text}; use reprotui.Recorder in the loop", file=sys.stderr)
        result = {"coverage": self.coverage.to_json(), **({"digests": {"state": digest}} if digest else {})}
        self.session.finish(error, result)

    def _final_digest(self) -> str | None:
        from reprotui.integrity import digest_state

        leaves = self.final() if self.final is not None else []
        return digest_state(leaves).root if leaves else None
