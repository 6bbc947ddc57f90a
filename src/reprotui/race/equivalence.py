"""Prove that a resumed run is the uninterrupted one, and that the proof would notice if a component were missing."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from reprotui.checkpoints.origin import Origin, find_origin
from reprotui.compare import compare_runs, open_run
from reprotui.compare.agreement import agreement
from reprotui.errors import CANNOT_TELL, DIFFERS, SAME, BadInputError, WorkerFailedError
from reprotui.experiments.discovery import ExperimentReference
from reprotui.manifest import COMPONENTS, RunState
from reprotui.race.launch import start_worker
from reprotui.race.prepare import Request, prepare_run
from reprotui.race.resume import prepare_resumed
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Checkpointing
from reprotui.trace import Trace

COMPUTED = ("forward", "grads", "optimizer", "params")
"""Phases in which a component shows that it matters; keys and batches are inputs."""
UNINTERRUPTED, SAVED, RESUMED = "uninterrupted", "saved", "resumed"


@dataclass(frozen=True)
class ControlResult:
    """A run resumed without one component.

    `step` and `phase` are the first difference from the uninterrupted run in what was computed; None where the component
    is not exercised: its omission changes nothing.
    """

    component: str
    exercised: bool
    step: int | None
    phase: str | None
    present: bool = True

    @property
    def sentence(self) -> str:
        """Say what was found."""
        what = f"without {COMPONENTS[self.component]}"
        if not self.present:
            return f"{what}: this experiment has none"
        if self.exercised:
            return f"{what}: diverges at step {self.step} · {self.phase}"
        return f"{what}: not exercised, leaving it out changes nothing that is computed"


@dataclass(frozen=True)
class Equivalence:
    """The verdict of a resume check.

    Attributes:
        path: the directory of the runs.
        at, steps: where it was interrupted, and the last step.
        headline: of the comparison of the resumed run with the uninterrupted one.
        saving: the same for the run that saved and went on: saving must change nothing.
        equivalent: whether both are identical in every record, history included.
        controls: one for each component.
    """

    path: Path
    at: int
    steps: int
    headline: str
    saving: str
    equivalent: bool
    controls: tuple[ControlResult, ...]

    @property
    def verdict(self) -> Literal["equivalent", "not equivalent", "cannot tell"]:
        """Say whether the resumed run is the uninterrupted one; where no control diverged, nobody can tell."""
        if not self.equivalent:
            return "not equivalent"
        return "equivalent" if any(control.exercised for control in self.controls) else "cannot tell"

    @property
    def exit_code(self) -> int:
        """Return 0 equivalent, 1 not, 3 cannot tell."""
        return {"equivalent": SAME, "not equivalent": DIFFERS, "cannot tell": CANNOT_TELL}[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        controls = [{**asdict(control), "sentence": control.sentence} for control in self.controls]
        return {
            "verdict": self.verdict, "exit_code": self.exit_code, "at": self.at, "steps": self.steps, "runs": str(self.path),
            "resumed": self.headline, "saving": self.saving, "controls": controls,
        }  # fmt: skip


def check_resume(
    path: Path,
    reference: ExperimentReference,
    overrides: dict[str, Any],
    at: int,
    command: list[str],
    progress: Callable[[str], None] = lambda text: None,
    components: Sequence[str] = tuple(COMPONENTS),
) -> Equivalence:
    """Train without interruption, with a save at a step, resumed from it, and resumed without one component each.

    Every run is a process of its own and they follow each other, so that all have the whole machine.

    Args:
        path: an existing directory for the runs.
        reference, overrides: what is trained.
        at: the step to save and resume at.
        command: the command line that repeats this.
        progress: called with the name of each run as it begins.
        components: for which of them a control is trained.

    Raises:
        BadInputError: a config is unfit, or `at` is not before the last step.
        WorkerFailedError: a run failed.
    """

    def train(run: RunDirectory) -> RunDirectory:
        progress(run.path.name)
        _finish(run)
        return run

    first = prepare_run(Request(path, UNINTERRUPTED, command), reference, overrides)
    steps = first.manifest().config["steps"]
    if not 0 < at < steps:
        raise BadInputError(f"--at {at}: a run of {steps} steps can be interrupted at 1 to {steps - 1}")
    train(first)
    saved = train(prepare_run(Request(path, SAVED, command, checkpointing=Checkpointing(at=(at,))), reference, overrides))
    origin = find_origin(saved.path, at)

    def resumed(name: str, omit: Sequence[str]) -> RunDirectory:
        request = Request(path, name, command, checkpointing=Checkpointing())
        return train(prepare_resumed(request, origin, {}, omit=omit))

    views = [open_run(run.path, run.path.name) for run in (first, resumed(RESUMED, ()), saved)]
    verdicts = [compare_runs(views[0], view) for view in views[1:]]
    same_history = len(agreement(views)) == 1
    controls = []
    for component in components:
        if not _has(origin, component):
            controls.append(ControlResult(component, False, None, None, present=False))
            continue
        control = resumed(f"without-{component}", (component,))
        step, phase = _first_computed_difference(first, control)
        controls.append(ControlResult(component, step is not None, step, phase))
    return Equivalence(
        path, at, steps, verdicts[0].headline, verdicts[1].headline,
        same_history and all(verdict.kind == "identical" for verdict in verdicts), tuple(controls),
    )  # fmt: skip


def _finish(run: RunDirectory) -> None:
    process = start_worker(run)
    try:
        process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    manifest = run.manifest()
    state, result = run.state(manifest), manifest.result
    if state is not RunState.FINISHED:
        said = result.error if result else run.why(RunState.KILLED, manifest)
        error = said or " / ".join(run.log_tail(3)) or "it ended without a word"
        raise (BadInputError if result and result.bad_input else WorkerFailedError)(f"{run.path.name}: {error}")


def _has(origin: Origin, component: str) -> bool:
    """Say whether a checkpoint holds anything of a component."""
    from reprotui.integrity.manifest import manifest_path, read_manifest

    content = read_manifest(manifest_path(origin.checkpoint))[0].content
    return content is not None and any(leaf.spec.path.split("/")[0] == component for leaf in content.leaves)


def _first_computed_difference(a: RunDirectory, b: RunDirectory) -> tuple[int | None, str | None]:
    """Return the first step and phase at which something computed differs, in the records that both have."""
    with ExitStack() as stack:
        of_a, of_b = (stack.enter_context(Trace(run.trace_path)) for run in (a, b))
        for row in of_b.rows():
            other = of_a.row(row.step)
            if other is None or row.step == 0:
                continue
            phase = next((phase for phase in COMPUTED if row.root(phase) != other.root(phase)), None)
            if phase is not None:
                return row.step, phase
    return None, None
