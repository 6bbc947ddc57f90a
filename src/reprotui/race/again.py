"""A script's run taken again up to a step, to be read: its recorded command in its folder, held against its record on the way."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reprotui.environment import compare_environments
from reprotui.errors import BadInputError, CannotTellError, ReprotuiError, WorkerFailedError
from reprotui.manifest import Launch, RunManifest, to_json
from reprotui.observation import Options
from reprotui.race.launch import LocalWorker, start_worker
from reprotui.race.prepare import Request
from reprotui.race.scripts import Command, ScriptMember, prepare_scripts
from reprotui.race.versions import Version
from reprotui.replay.replay import Unfaithful
from reprotui.replay.running import LOG_LINES, workspace
from reprotui.run_directory import RunDirectory, read_json, this_process, write_json
from reprotui.trace import StepRow, Trace
from reprotui.trace.phases import differing_phases
from reprotui.trust import need_trust
from reprotui.variables import environment_of_script

Say = Callable[[str], object]
"""Called with what is being done; what it raises ends it."""
FRAMEWORKS = {"torch cpu": "torch", "cpu": "jax"}
"""By what a run says that it trains on."""
READERS = {"torch": "reprotui.observe.torch_operations", "jax": "reprotui.explain.jax_reader"}
"""What reads the step in the script's process, by its framework."""
LOOK_SECONDS = 0.1
LEAVES_NAMED = 50
_NO_STATISTICS = 1 << 62
_OWN_RECORDER = "its steps are recorded by a Recorder of its own, and explain reads those that reprotui observes"


@dataclass(frozen=True)
class ScriptPlan:
    """A step of a script's run that can be taken again: its label, the run, how it is started, and what reads it.

    `function` is what the run recorded as its train step, where its framework is jax.
    """

    label: str
    run: RunDirectory
    manifest: RunManifest
    launch: Launch
    step: int
    framework: str
    function: str


def plan_script(label: str, run: RunDirectory, step: int, trusted: bool) -> ScriptPlan:
    """Look whether a step of a script's run can be taken again.

    Raises:
        BadInputError: there is no such step, the run was started by hand, or its folder is gone.
        CannotTellError: what its operations give cannot be read, or the script is another one by now.
        UntrustedError: it would run code of somebody else's, and is not `trusted`.
    """
    manifest = run.manifest()
    launch, world, backend = manifest.launch, manifest.world_size or 1, str(manifest.devices.get("backend", ""))
    if step < 1:
        raise BadInputError(f"explain takes a training step again: step {step} is none")
    if launch is None:
        raise BadInputError(
            f"{run.path} was started by hand, and its manifest does not say how: race -- COMMAND starts it itself"
        )
    if manifest.parts or manifest.interrupted or manifest.restore is not None:
        raise CannotTellError(f"{run.path} went on from a checkpoint: explain takes runs again that begin at the beginning")
    if world > 1:
        raise CannotTellError(f"{run.path} is a training of {world} processes: explain reads the operations of one")
    if backend not in FRAMEWORKS:
        raise CannotTellError(
            f"{run.path} trained on {backend or 'nothing'}: explain reads torch and jax, on the CPU alone so far"
        )
    if Options.from_text(launch.options).inside:
        raise CannotTellError(f"{run.path} has iterations inside of calls as its steps (--inside): explain reads whole calls")
    if not Path(launch.directory).is_dir():
        raise BadInputError(f"{run.path} ran in {launch.directory}, which is gone")
    need_trust(run.path, manifest, trusted)  # before files that the manifest names are looked at
    if changed := changed_sources(manifest):
        raise CannotTellError(f"{changed} since {run.path} ran: what it would do now says nothing of what it did")
    if not run.trace_path.is_file():
        raise CannotTellError(f"{run.path} has no trace: nothing says whether its steps come out as they did")
    with Trace(run.trace_path) as trace:
        last = trace.last_step()
        row = trace.row(step)
        told = next((event.text for event in trace.events() if event.kind == "compiled"), "")
    if last is None or step > last:
        raise BadInputError(f"{run.path} has records of steps 0 to {last or 0}, not of {step}")
    if row is None:
        raise CannotTellError(f"{run.path} has no record of step {step}: whether it comes out as it did cannot be checked")
    function = told.removeprefix("train step: ").partition(", with ")[0]
    return ScriptPlan(label, run, manifest, launch, step, FRAMEWORKS[backend], function)


def changed_sources(manifest: RunManifest) -> str:
    """Say which of a script's files are not what they were; empty where all are, as far as the run recorded them."""
    script = manifest.experiment
    if script.path is None:
        return ""
    root = Path(script.path).parent
    recorded = script.sources or {Path(script.path).name: script.source_digest}
    for name, digest in recorded.items():
        path = root / name
        if not path.is_file():
            return f"{path} is gone"
        if digest is not None and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return f"{path} was changed"
    return ""


class Again:
    """One run that is taken again: what it read, and its values as long as it waits.

    Attributes:
        trace: of the run that is taken again.
        compared: how many records were held against those of the run.
        as_recorded: whether the step that need not be the same is so.
    """

    def __init__(self, plan: ScriptPlan, directory: Path, scratch: RunDirectory, worker: LocalWorker) -> None:
        self.plan, self.trace, self.compared = plan, scratch.trace_path, 0
        self._directory, self._scratch, self._worker = directory, scratch, worker
        self._through, self.as_recorded = -1, False

    def follow(self, say: Say, *, through: int | None = None) -> dict[str, Any] | Unfaithful:
        """Wait until the step is taken; return what was read, or where the run left its record.

        Args:
            say: see `Say`.
            through: the last step whose record must be the same; None for the step itself.

        Raises:
            CannotTellError: its operations cannot be read.
            WorkerFailedError: the script failed.
        """
        step, label = self.plan.step, self.plan.label
        through = step if through is None else through
        say(f"{label}: starting")
        while True:
            ended = self._worker.poll() is not None
            read = (self._directory / "read.json").exists()
            if (found := self._compare(through)) is not None:
                return found
            if read:
                return self._result()
            if self._through > step or (ended and self._through == step):
                raise CannotTellError(f"{self.plan.run.path}: {_OWN_RECORDER}")
            if ended:
                raise self._failure()
            say(f"{label}: step {max(self._through, 0)} of {step}")
            time.sleep(LOOK_SECONDS)

    def value(self, number: int, output: int) -> np.ndarray | None:
        """Ask for what an operation gave; None where it was not kept. It is asked once."""
        write_json(self._directory / "question.json", {"number": number, "output": output})
        while not (self._directory / "value.npy").exists():
            if (self._directory / "none.json").exists() or self._worker.poll() is not None:
                return None
            time.sleep(LOOK_SECONDS / 5)
        return np.load(self._directory / "value.npy", allow_pickle=False)

    def rows(self) -> tuple[int, Mapping[str, tuple[StepRow, dict[tuple[str, Any], int]]]]:
        """Return how many roots the step's record has, and the records of the step before it and of itself, with their leaves.

        `before` is missing where that step is not recorded.
        """
        found, step = {}, self.plan.step
        with Trace(self.trace) as trace:
            for name, number in (("before", step - 1), ("step", step)):
                row = trace.row(number)
                checksums = None if row is None else trace.leaf_checksums(number)
                if row is not None and checksums is not None:
                    table = trace.table(row.version)
                    leaves = zip(zip(table.phases, table.specs, strict=True), checksums.tolist(), strict=True)
                    found[name] = row, dict(leaves)
        roots = len({phase for phase, _ in found["step"][1]}) if "step" in found else 0
        return roots, found

    def _result(self) -> dict[str, Any]:
        result = read_json(self._directory / "read.json")
        if "refused" in result:
            raise CannotTellError(f"{self.plan.run.path}: {result['refused']}")
        if result["framework"] != self.plan.framework:
            raise CannotTellError(f"{self.plan.run.path}: taken again, it trains with {result['framework']}")
        if result["framework"] == "jax":
            return result
        if result["compiled"]:
            said = "parts of it are compiled (torch.compile), and what happens within these is not read"
            raise CannotTellError(f"{self.plan.run.path}: {said}; take them out of torch.compile to have a step explained")
        if not result["operations"]:
            raise CannotTellError(
                f"{self.plan.run.path}: no operation of step {self.plan.step} was seen: it trains on another thread"
            )
        return result

    def _compare(self, through: int) -> Unfaithful | None:
        """Hold the records that are new against those of the run."""
        try:
            with Trace(self.trace) as now, Trace(self.plan.run.trace_path) as then:
                rows = list(now.rows(after=self._through))
                recorded = then.rows(after=self._through)
                for row in rows:
                    expected = next(recorded, None)
                    self._through = row.step
                    if row.step > through:
                        self.as_recorded = expected is not None and _difference(row, expected, now, then) is None
                        continue
                    difference = _difference(row, expected, now, then)
                    if difference is not None:
                        return self._unfaithful(row.step, *difference)
                    self.compared += 1
        except ReprotuiError:
            if self.trace.exists() and self._worker.poll() is not None:
                raise
        return None

    def _unfaithful(self, step: int, phases: tuple[str, ...], leaves: tuple[tuple[str, str], ...]) -> Unfaithful:
        then, now = self.plan.manifest, self._scratch.manifest()
        reasons = [
            f"devices.{name}: {then.devices.get(name)} → {value}"
            for name, value in now.devices.items()
            if then.devices.get(name) != value
        ]
        reasons += [str(item) for item in compare_environments(then.environment, now.environment)]
        return Unfaithful(self.plan.run, self.plan.step, step, phases, leaves, None, self.compared, tuple(reasons), None, True)

    def _failure(self) -> ReprotuiError:
        manifest = self._scratch.manifest()
        result, through = manifest.result, max(self._through, 0)
        if result is not None and not result.error:
            return CannotTellError(
                f"{self.plan.run.path}: taken again, it ended after step {through}, before step {self.plan.step}"
            )
        said = (result.error if result else "") or " / ".join(self._scratch.log_tail(LOG_LINES)) or "without a word"
        return WorkerFailedError(f"{self.plan.run.path}, taken again, failed after step {through}: {said}")


@contextlib.contextmanager
def taken_again(plan: ScriptPlan, wanted: tuple[int, int] | None = None, times: int = 1) -> Generator[Again]:
    """Start a run again in a folder of its own, gone at the end with the process.

    Args:
        plan: the run and its step.
        wanted: the operation and output whose value is kept; None keeps what fits.
        times: how often the step is computed; of torch, once.
    """
    with workspace(None) as directory:
        launch = plan.launch
        asked = replace(
            Options.from_text(launch.options), record=True, explain=str(directory), check=None, interrupt_at=None, final=None
        )
        request = {
            "step": plan.step, "wanted": wanted, "caller": to_json(this_process()), "readers": READERS, "function": plan.function,
            "times": times,
        }  # fmt: skip
        write_json(directory / "request.json", request)
        own = plan.manifest.recording
        recording = replace(own, enabled=True, leaves_every=1, statistics_every=_NO_STATISTICS, local_seconds=None)
        asked_of = Request(directory, "again", plan.manifest.command, recording)
        command = Command(launch.words, {name: str(value) for name, value in launch.variables.items()})
        member = ScriptMember("run", command, Version(Path(launch.directory)))
        _, (scratch,) = prepare_scripts(asked_of, [member], asked)
        try:
            worker = start_worker(scratch, environment_of_script(plan.manifest))
        except OSError as error:
            raise WorkerFailedError(f"{plan.run.path} cannot be started again: {error.strerror or error}") from None
        try:
            yield Again(plan, directory, scratch, worker)
        finally:
            worker.kill()
            worker.wait()


def _difference(
    row: StepRow, expected: StepRow | None, now: Trace, then: Trace
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]] | None:
    """Return the phases and leaves of a record that are not as they were recorded; None where all are."""
    if expected is None or expected.step != row.step:
        return (), ()
    table, recorded = now.table(row.version), then.table(expected.version)
    if row.roots == expected.roots and table.digest == recorded.digest:
        return None
    found, known = now.leaf_checksums(row.step), then.leaf_checksums(row.step)
    leaves: list[tuple[str, str]] = []
    if found is not None and known is not None:
        before = dict(zip(zip(recorded.phases, recorded.specs, strict=True), known.tolist(), strict=True))
        after = dict(zip(zip(table.phases, table.specs, strict=True), found.tolist(), strict=True))
        leaves = [(phase, spec.path) for (phase, spec), value in after.items() if before.get((phase, spec)) != value]
    return differing_phases(row.roots, expected.roots), tuple(leaves[:LEAVES_NAMED])
