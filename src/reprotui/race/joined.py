"""A run directory that is put together from runs which went on from one another: what is compared with the uninterrupted run."""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from reprotui.compare.restored import Restored, find_restored, rest_of_step
from reprotui.errors import BadInputError
from reprotui.manifest import Part, RunManifest, to_json
from reprotui.run_directory import RunDirectory, this_process
from reprotui.trace import Trace
from reprotui.trace.parts import Joined


class JoinedRun:
    """Put the records of runs together as they come.

    Args:
        run: the directory to be filled: it exists, with a manifest.
        reference: the uninterrupted run.
        first: the run that was interrupted first, which has ended.
    """

    def __init__(self, run: RunDirectory, reference: RunDirectory, first: RunDirectory) -> None:
        self._run, self._reference = run, reference
        self._parts, self._kept = [first], [Part(_named(run, first))]
        self._joined: Joined | None = None

    def add(self, part: RunDirectory, step: int | None = None) -> Restored:
        """Find where a run went on, and take what the one before had recorded by then; its own records follow with `advance`.

        Args:
            part: it has recorded its first step, or has ended.
            step: after which step it goes on, where that is known.

        Raises:
            CannotTellError: that cannot be found, or a trace is damaged.
        """
        last, before = self._kept[-1], self._parts[-1]
        known = None if step is None else step - last.offset
        with Trace(before.trace_path) as trace, Trace(part.trace_path) as own, Trace(self._reference.trace_path) as whole:
            found = find_restored(trace, own, known, whole if len(self._parts) == 1 else None)
            recorded = trace.row(found.step) is not None or len(self._parts) == 1
            end, went_on = trace.last_step() or 0, found.step + last.offset + 1
            rest = rest_of_step(whole, went_on, own, found.number + 1) if own.row(found.number + 1) is not None else ""
        if found.step > end or not recorded:
            raise BadInputError(
                f"{part.path.name} is said to go on after step {found.step + last.offset}, and {before.path.name} "
                f"{'ends at step' if found.step > end else 'has no record of it; its last one is step'} {end + last.offset}"
            )
        if self._joined is None:
            self._joined = Joined(self._run.trace_path, before.trace_path, found.step)
        else:
            self._joined.advance(found.step)
        # What is left of a step that was half done is no record of it.
        self._joined.go_on(part.trace_path, found.offset + last.offset, found.number + bool(rest))
        self._parts.append(part)
        self._kept.append(
            Part(_named(self._run, part), found.step + last.offset, found.offset + last.offset, found.other, found.missing, rest)
        )
        self._run.update_manifest(parts=tuple(self._kept))
        return replace(found, step=found.step + last.offset)

    def advance(self) -> None:
        """Take what the last run has recorded by now."""
        if self._joined is not None:
            self._joined.advance()

    def close(self) -> None:
        """Leave what there is without a seal."""
        if self._joined is not None:
            self._joined.__exit__(None, None, None)
            self._joined = None

    def finish(self) -> RunManifest:
        """Take the rest, and end as the last run ended."""
        last = self._parts[-1].manifest()
        result, seal = last.result, None
        if self._joined is not None:
            self._joined.advance()
            state = self._parts[-1].state(last)
            seal = self._joined.end(state, f"as {self._parts[-1].path.name} did", result.torn if result else ())
            self._joined = None
        entries = {
            "config": last.config, "environment": last.environment, "devices": last.devices, "experiment": last.experiment,
            "launch": last.launch, "recording": last.recording, "working_directory": last.working_directory,
        }  # fmt: skip
        document = {**self._run.manifest().document, **{key: to_json(value) for key, value in entries.items()}}
        ended = last.document.get("result")
        if isinstance(ended, dict):
            step = ended.get("last_step")
            step = step + self._kept[-1].offset if isinstance(step, int) else step
            document |= {"result": {**ended, "last_step": step}, "seal": seal}
        return self._run.write_manifest(document)


@contextmanager
def joined_runs(paths: Sequence[Path], step: int | None = None) -> Generator[Path]:
    """Hold a run directory that is put together from those of runs which went on from one another.

    Args:
        paths: the uninterrupted run, then the others in order.
        step: after which step the last one goes on; it is found from its state otherwise.

    Raises:
        BadInputError, CannotTellError: one of them is no run, or where it goes on cannot be found.
    """
    reference, first, *others = (RunDirectory(path) for path in paths)
    with TemporaryDirectory(prefix="reprotui-") as place:
        run = RunDirectory(Path(place) / "resumed")
        run.path.mkdir()
        given = [item.manifest() for item in (reference, first, *others)]
        write_joined(run, given[-1], "resumed", given[-1].command)
        joined = JoinedRun(run, reference, first)
        try:
            for number, part in enumerate(others, start=1):
                joined.add(part, step if number == len(others) else None)
            joined.finish()
        finally:
            joined.close()
        yield run.path


def write_joined(run: RunDirectory, like: RunManifest, name: str, command: Sequence[str], **entries: object) -> None:
    """Write the manifest of a run that is going to be put together from others."""
    told = {key: to_json(value) for key, value in entries.items()}
    base = RunManifest.new(like.kind, name, command, like.recording, experiment=like.experiment, process=this_process())
    run.write_manifest({**base.document, "created_ns": time.time_ns(), **told})


def _named(run: RunDirectory, part: RunDirectory) -> str:
    """Return how a part is named in the manifest: by its name where it lies beside the run."""
    return part.path.name if part.path.parent.resolve() == run.path.parent.resolve() else str(part.path.resolve())
