"""The level `replay` of verification: resume from the checkpoint and hold what follows against the recorded trace."""

from reprotui.checkpoints.verify import Subject
from reprotui.errors import ReprotuiError, UntrustedError
from reprotui.integrity.status import Finding, Status
from reprotui.manifest import Restore
from reprotui.replay.plan import Plan
from reprotui.replay.replay import Unfaithful, check_forward
from reprotui.trace import Trace

STEPS = 10
"""Recorded steps that must follow equal: every component of the state has entered the numbers after the first."""
_FILE = "trace.db"


def check_replay(subject: Subject, *, trusted: bool = False) -> list[Finding]:
    """Check the level; with `trusted`, code that comes with a run of somebody else's may be run."""
    run, manifest = subject.run, subject.manifest
    if run is None or manifest is None or manifest.identity.step is None:
        return [Finding(Status.UNCHECKED, _FILE, "the checkpoint lies in no run, so there is nothing that followed it")]
    step = manifest.identity.step
    try:
        with Trace(run.trace_path) as trace:
            following = [row.step for row in trace.rows(after=step, limit=STEPS)]
        if not following:
            return [Finding(Status.UNCHECKED, _FILE, f"no step after {step} was recorded: nothing to hold a replay against")]
        restore = Restore(str(subject.path.absolute()), step)
        found = check_forward(Plan(run, run.manifest(), following[-1], following[-1], restore), trusted=trusted)
    except UntrustedError as error:
        return [Finding(Status.UNCHECKED, _FILE, str(error))]
    except ReprotuiError as error:
        return [Finding(Status.UNREADABLE, subject.path.name, f"cannot be resumed: {error}")]
    if isinstance(found, Unfaithful):
        because = f" ({'; '.join(found.reasons)})" if found.reasons else ""
        said = f"resumed from step {step}, {found.headline.removeprefix('replay ')}{because}"
        return [Finding(Status.CORRUPT, _FILE, said)]
    subject.notes.append(f"resumed from step {step}: {found} recorded steps, up to {following[-1]}, are equal to the bit")
    return []
