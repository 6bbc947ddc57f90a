"""From where a step is replayed, with which manifest, and up to which record it can be checked."""

from dataclasses import dataclass, replace
from pathlib import Path

from reprotui.checkpoints.listing import latest_good
from reprotui.errors import BadInputError, CannotTellError
from reprotui.integrity.files import Progress
from reprotui.integrity.manifest import identity_of_run, manifest_path, read_manifest
from reprotui.integrity.status import IntegrityError
from reprotui.manifest import Kind, Restore, RunManifest
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace

MOVED_TOGETHER = 2
"""Folders above a run in which what was moved along with it is looked for: the race or the runs directory, and what holds it."""
LONGEST_END = 5
"""Parts of a recorded path that are looked for there: `runs/race/a/checkpoints/5`."""


@dataclass(frozen=True)
class Plan:
    """How a step is replayed.

    Attributes:
        run: the run whose trace it is checked against.
        manifest: of the run that trained it: the run itself, or for the records that a branch inherited its parent.
        step: the step whose state is wanted.
        until: the first recorded step at or after it, up to which the replay is checked.
        restore: the checkpoint to begin with, as in the manifest of a resumed run; None begins with init.
        passed_over: newer checkpoints that do not verify, in words.
    """

    run: RunDirectory
    manifest: RunManifest
    step: int
    until: int
    restore: Restore | None
    passed_over: tuple[str, ...] = ()

    @property
    def start(self) -> int:
        """Return the step that the replay begins after."""
        return 0 if self.restore is None else self.restore.begins_after


def plan_replay(run: RunDirectory, step: int, progress: Progress | None = None) -> Plan:
    """Find the nearest checkpoint before a step that verifies; without one, the replay begins with init.

    The checkpoint of the step itself is not taken: gradients and batch of that step are wanted too.

    Args:
        run: a run with a trace, in any state.
        step: 0 for the state after init.
        progress: called with bytes hashed or read.

    Raises:
        BadInputError: the step is not one of the run's.
        CannotTellError: there is no record to check it against, or nothing to begin with.
    """
    manifest = run.manifest()
    if manifest.kind is Kind.SCRIPT:
        raise CannotTellError(f"{run.path} was recorded in a script of its own: only experiments that reprotui trains replay")
    if not run.trace_path.is_file():
        raise CannotTellError(f"{run.path} has no trace: a replay cannot be checked against anything")
    with Trace(run.trace_path) as trace:
        last = trace.last_step()
        until = next((row.step for row in trace.rows(after=step - 1, limit=1)), None)
    if last is None:
        raise CannotTellError(f"{run.path} has no record yet: a replay cannot be checked against anything")
    if step < 0 or until is None:
        raise BadInputError(f"{run.path} has records of steps 0 to {last}, not of {step}")
    return _plan(run, manifest, step, until, progress)


def _plan(run: RunDirectory, manifest: RunManifest, step: int, until: int, progress: Progress | None) -> Plan:
    restore = manifest.restore
    begins = 0 if restore is None else restore.begins_after
    if restore is not None and step <= begins:
        if not restore.changed:
            return _from_parent(run, manifest, restore, step, until, progress) or Plan(run, manifest, step, until, None)
        parent = _from_parent(run, manifest, restore, step, until, progress)
        if parent is None:
            said = f"it is of the run {restore.name}, whose directory is gone, and the config changed since"
            raise CannotTellError(f"{run.path}: step {step} cannot be replayed: {said}")
        return parent
    found, passed = (None, [])
    if step > 0:
        found, passed = latest_good(run.path, at_least=begins + 1, at_most=step - 1, progress=progress)
    skipped = tuple(f"{result.path.name}: {result.findings[0].status} {result.findings[0]}" for result in passed)
    if found is not None and found.step is not None:
        return Plan(run, manifest, step, until, Restore(str(found.path.absolute()), found.step), skipped)
    if restore is None:
        return Plan(run, manifest, step, until, None, skipped)
    if (checkpoint := _moved_checkpoint(run, restore)) is not None:
        return Plan(run, manifest, step, until, replace(restore, checkpoint=str(checkpoint)), skipped)
    if restore.changed or restore.omit:
        raise CannotTellError(f"{run.path} went on from {restore.checkpoint}, which is gone, with another config: no way to it")
    return Plan(run, manifest, step, until, None, skipped)


def _from_parent(
    run: RunDirectory, manifest: RunManifest, restore: Restore, step: int, until: int, progress: Progress | None
) -> Plan | None:
    """Plan a step that a resumed run inherited, with what the run it came from has; None where that is gone."""
    if restore.run is None:
        return None
    for place in _places(run, Path(restore.run)):
        parent = RunDirectory(place)
        if parent.manifest_path.is_file():
            of_parent = parent.manifest()
            if identity_of_run(of_parent, 0).run_id == restore.run_id:
                break
    else:
        return None
    found = _plan(parent, of_parent, step, step if until > restore.step else until, progress)
    return Plan(run, found.manifest, step, found.until, found.restore, found.passed_over)


def _moved_checkpoint(run: RunDirectory, restore: Restore) -> Path | None:
    """Return where the checkpoint that a run went on from lies now: the very one, by its content; None where it is gone."""
    for place in _places(run, Path(restore.checkpoint)):
        try:
            manifest, _ = read_manifest(manifest_path(place))
        except IntegrityError:
            continue
        if place.is_dir() and manifest.content is not None and manifest.content.root == restore.content:
            return place
    return None


def _places(run: RunDirectory, recorded: Path) -> list[Path]:
    """Return where something that a run names may lie: where it did, or beside the run, where both were moved together."""
    beside = run.path.absolute().parents[:MOVED_TOGETHER]
    parts = [part for part in recorded.parts if part != recorded.anchor]
    ends = [Path(*parts[-count:]) for count in range(1, min(len(parts), LONGEST_END) + 1)]
    return [recorded.absolute(), *(folder / end for folder in beside for end in reversed(ends))]
