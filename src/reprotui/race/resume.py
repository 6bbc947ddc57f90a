"""Go on from a checkpoint: the same run, or a branch with another config, always in a run directory of its own.

The directory that was interrupted stays as it is, evidence included. The new run's trace begins with the records of the old
one up to the checkpoint, so that it can be compared with an uninterrupted run from record 0 to the end, chain and all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reprotui.checkpoints.origin import Origin, find_origin
from reprotui.errors import BadInputError, WorkerFailedError
from reprotui.experiments.config import Perturbation
from reprotui.experiments.discovery import recorded_experiment, resolve_configs
from reprotui.integrity.files import Progress
from reprotui.integrity.manifest import identity_of_run
from reprotui.manifest import Restore, assignment
from reprotui.race.launch import Worker, start_worker
from reprotui.race.prepare import Request, write_run
from reprotui.run_directory import RunDirectory
from reprotui.trust import directory_of, made_here, need_trust


@dataclass(frozen=True)
class Resumed:
    """A run that goes on from a checkpoint: its directory and its worker."""

    path: Path
    process: Worker


def prepare_resumed(
    request: Request, origin: Origin, overrides: Mapping[str, Any], *, omit: Sequence[str] = (), trusted: bool = False
) -> RunDirectory:
    """Create the directory of a run that goes on from a checkpoint.

    Args:
        request: where. A name is made from the old one and the step; recording and saving are those of the old run (with a
            directory of checkpoints of its own).
        origin: the checkpoint, see `find_origin`.
        overrides: what its config has other than the old one; nothing for the same run.
        omit: components of the state that are deliberately not restored, see `reprotui.manifest.COMPONENTS`.
        trusted: what was not recorded here may be run, see `reprotui.trust`.

    Raises:
        UntrustedError: it would run code of somebody else's, and is not `trusted`.
        BadInputError: a config, the name or the place is unfit, or no step is left to train.
    """
    old, step = origin.manifest, origin.step
    reference = recorded_experiment(old.experiment)
    need_trust(origin.checkpoint, old, trusted)
    config = resolve_configs(reference, [{**old.config, **overrides}])[0]
    changed = tuple(sorted(key for key, value in config.values.items() if old.config.get(key) != value))
    steps = config.values["steps"]
    if steps <= step:
        raise BadInputError(f"the checkpoint is of step {step} and the run ends at {steps}: give more, such as steps={2 * step}")
    if "perturb" in changed and config.values["perturb"] and Perturbation.parse(config.values["perturb"]).step <= step:
        raise BadInputError(f"perturb={config.values['perturb']}: the run goes on from step {step}, that step is over")
    recording = request.recording or old.recording
    checkpointing = request.checkpointing or replace(old.checkpointing, directory=None, at=())
    checkpointing.check(steps, step)
    trace = None if origin.run is None else origin.run.trace_path
    # A run without its step counter counts from 1 again: the old records would stand in its way.
    with_history = trace is not None and trace.is_file() and recording.enabled and "step" not in omit
    restore = Restore(
        str(origin.checkpoint), step, content=origin.content, name=old.name,
        run=None if origin.run is None else str(origin.run.path.absolute()), run_id=identity_of_run(old, step).run_id,
        history=str(trace.absolute()) if with_history and trace else None, changed=changed, omit=tuple(omit),
        source_changed=reference.source_digest != old.experiment.source_digest,
    )  # fmt: skip
    stem = f"{(old.name or reference.name).replace('/', '-')}-from-{step}"
    # A relative path in the config was relative to where the old run was started; one that is given now, to here.
    working = directory_of(old) if made_here(old) and "text" not in overrides else None
    asked = replace(request, recording=recording, checkpointing=checkpointing)
    return write_run(asked, reference, config, stem, restore, working)


def start_resumed(
    request: Request, path: Path, step: int | None, overrides: Mapping[str, Any], progress: Progress | None = None, *,
    trusted: bool = False,
) -> Resumed:  # fmt: skip
    """Verify a checkpoint and start a run that goes on from it; the run outlives this process.

    Args:
        request, overrides, trusted: see `prepare_resumed`.
        path, step: see `find_origin`.
        progress: called with bytes hashed or read.

    Raises:
        BadInputError, UntrustedError, CannotTellError, IntegrityError: see `find_origin` and `prepare_resumed`; nothing is
            left behind.
        WorkerFailedError: the system refuses another process.
    """
    run = prepare_resumed(request, find_origin(path, step, progress), overrides, trusted=trusted)
    try:
        return Resumed(run.path, start_worker(run))
    except OSError as error:
        raise WorkerFailedError(f"the worker of {run.path} cannot be started: {error.strerror or error}") from None


def resume_command(path: Path, step: int, overrides: Mapping[str, Any]) -> list[str]:
    """Return the command line that goes on from a run's checkpoint."""
    pairs = [assignment(key, value) for key, value in overrides.items()]
    return ["reprotui", "checkpoint", "restore", str(path), "--step", str(step), *pairs]
