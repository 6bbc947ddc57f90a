"""What the observers of one process share: the run, who sets the pace of its steps, what no record holds, and the end.

Of 500 calls of `train` with `--every 10`, the last 50 of them in a phase of its own that nobody recorded, the manifest keeps:

    {"calls": {"train": {"made": 500, "recorded": 45, "sampled_out": 405}}, "gaps": ["finetune hands on ..."], "notes": []}

What was not recorded cannot be called equal. A gap means that the runs may have differed unseen; a note only says what else
there was.
"""

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from reprotui.errors import ReprotuiError
from reprotui.observation import Options
from reprotui.observe.checks import Checks
from reprotui.observe.explaining import Explaining
from reprotui.observe.generators import Generators
from reprotui.observe.ledger import Ledger
from reprotui.observe.unfound import Seen, help_for, what_was_seen
from reprotui.record.session import Session, StopTraining

if TYPE_CHECKING:
    from reprotui.record.assembly import Part

T = TypeVar("T")


class Coverage:
    """What of a training is recorded.

    Attributes:
        captured: what functions captured and records hold, by function; None where that is not known.
        gaps: reasons why records do not tell all.
        notes: what was left out without that.
    """

    def __init__(self) -> None:
        self._made: Counter[str] = Counter()
        self._recorded: Counter[str] = Counter()
        self._sampled_out: Counter[str] = Counter()
        self.captured: dict[str, list[str]] | None = None
        self.gaps: dict[str, None] = {}
        self.notes: dict[str, None] = {}

    def add(self, names: Iterable[str], recorded: bool) -> None:
        """Count calls that lie in a record, or in a step that was not to be recorded (`--every`)."""
        (self._recorded if recorded else self._sampled_out).update(names)

    def made(self, calls: Iterable[tuple[str, int]]) -> None:
        """Say how often functions were called in all; those of one name are counted together."""
        self._made.clear()
        for name, count in calls:
            self._made[name] += count

    def gap(self, text: str) -> None:
        """Note why the records do not tell all."""
        self.gaps[text] = None

    def note(self, text: str) -> None:
        """Note what was left out, where that leaves nothing unseen that trains."""
        self.notes[text] = None

    def to_json(self) -> Mapping[str, Any]:
        """Return what the manifest of the run keeps as `result.coverage`."""
        calls = {
            name: {"made": made, "recorded": self._recorded[name], "sampled_out": self._sampled_out[name]}
            for name, made in self._made.items()
        }
        captured = {} if self.captured is None else {"captured": self.captured}
        return {"calls": calls, "gaps": list(self.gaps), "notes": list(self.notes), **captured}


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
        self.checks = Checks(self, options.check) if options.check and options.record else None
        self.seen: list[Seen] = []
        self.times: list[float] = []
        self.ledger: Ledger | None = None
        self.generators: Generators | None = None
        self.explaining = Explaining(Path(options.explain)) if options.explain else None
        self.guarding = 0
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
            self._assembly.told = None if self.explaining is None else self.explaining.leaves
        return self._assembly

    def active(self, observer: Any) -> bool:
        """Say whether an observer still has something to do: no other one sets the pace, and no Recorder of the script's own."""
        return self.owner in (None, observer) and (self.recording or not self.options.record)

    def guard(self, action: Callable[[], T]) -> T | None:
        """Run what only observes: an error in it ends the observation, never the training."""
        self.guarding += 1
        try:
            return action()
        except StopTraining:
            raise
        except Exception as error:
            self.give_up(error)
            return None
        finally:
            self.guarding -= 1

    def claim(self, owner: Any, description: str, devices: dict[str, Any]) -> bool:
        """Let an observer set the pace of the steps; the first one does, and keeps it."""
        if self.owner is None:
            self.owner = owner
            if self.explaining is not None:
                self.explaining.claimed(owner)
            if self.session is not None:
                self.session.begin(devices, description)
                if self.checks is not None:
                    from reprotui.record import spikes

                    spikes.watch(self.session.writer)
        return self.owner is owner

    def due(self, step: int) -> bool:
        """Say whether a step is to be recorded."""
        assert self.session is not None
        return step % self.session.recording.every == 0

    def put(self, step: int, parts: Sequence[Any], calls: str | None = None) -> None:
        """Record a step; `calls` says how many calls of which functions lie in it, as JSON."""
        assert self.session is not None
        if not self.session.ended:
            self.write_chance()
            self.session.step = max(step, self.session.step)
            self.assembly.put(step, parts, calls)
            self.session.recorded(step)
            if self.explaining is not None:
                self.explaining.put(step, self.flush)

    def take_generators(self) -> "Part | None":
        """Take the states of the generators that something seeded, as a part of a record."""
        return None if self.generators is None else self.generators.part(self.assembly)

    def write_chance(self) -> None:
        """Write down where chance entered since the last time."""
        if self.ledger is not None and self.ledger.fresh and self.session is not None and not self.session.ended:
            found, self.ledger.fresh = self.ledger.fresh, []
            for chance in found:
                self.session.writer.chance(chance)
        if self.ledger is not None and self.ledger.problem:
            text, self.ledger.problem = self.ledger.problem, ""
            self.event("ledger-ended", f"where chance enters is not noted any more: {text}")

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

    def over(self, step: int) -> None:
        """Note that a step may be over: what comes from now on belongs to the next one, or is still part of this one."""
        if self.explaining is not None:
            self.explaining.over(step)

    def stands(self, step: int) -> bool:
        """Say whether the step after this one will not be taken at once: the run is paused, or is to stop."""
        return self.session is not None and not self.session.ended and self.session.control.stands(step)

    def wait(self, step: int) -> None:
        """Stand still after a step while the run is paused; raise StopTraining where it is to stop."""
        if self.session is not None and not self.session.ended:
            self.session.wait(step)

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
        with contextlib.suppress(ReprotuiError):  # it is told with the end of the run
            self.write_chance()
        digest = self._final_digest()
        if self.options.final:
            steps = {"digest": digest, "times": self.times, "candidates": self.candidates}
            Path(self.options.final).write_text(json.dumps(steps), encoding="utf-8")
        if self.session is None or Session.current is not self.session:
            return
        if self.owner is None and (error is None or isinstance(error, SystemExit)) and not isinstance(error, StopTraining):
            text = what_was_seen(self.seen)
            self.unseen("nothing-observed", text)
            print(f"reprotui: {text}\n{help_for(self.seen)}", file=sys.stderr)
        result = {"coverage": self.coverage.to_json(), **({"digests": {"state": digest}} if digest else {})}
        if self.checks is not None:
            result["watched"] = self.checks.to_json(self.session.step)
        self.session.finish(error, result)

    def _final_digest(self) -> str | None:
        from reprotui.integrity import digest_state

        leaves = self.final() if self.final is not None else []
        return digest_state(leaves).root if leaves else None
