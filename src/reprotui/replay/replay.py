"""Replay a step: start the process that does it, follow it, judge what it found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reprotui.environment import compare_environments
from reprotui.errors import BadInputError, CannotTellError, WorkerFailedError
from reprotui.experiments.discovery import recorded_experiment
from reprotui.integrity.manifest import identity_of_run
from reprotui.manifest import RunManifest
from reprotui.replay.plan import Plan, plan_replay
from reprotui.replay.running import Progress, run_plan, workspace
from reprotui.replay.stored import DIRECTORY, VERSION, ReplayedState, find_cached, keep, open_state
from reprotui.run_directory import RunDirectory, read_json, write_json
from reprotui.trace import Trace
from reprotui.trust import need_trust


@dataclass(frozen=True)
class RepeatOutcome:
    """One step, taken many times from the same state: how many outcomes were the recorded one, how many were different."""

    step: int
    count: int
    as_recorded: int
    distinct: int

    @property
    def verdict(self) -> str:
        """Say what that means."""
        if self.distinct > 1:
            return f"flaky: {self.distinct} different outcomes in {self.count} repetitions"
        if self.as_recorded == self.count:
            return f"deterministic: {self.count} of {self.count} repetitions give the recorded bits"
        return f"systematic: {self.count} of {self.count} repetitions give the same bits, which are not the recorded ones"


@dataclass(frozen=True)
class Unfaithful:
    """A replay that did not give what was recorded: the computation is not deterministic, or something changed since.

    Attributes:
        run: the run.
        wanted: the step that was asked for.
        step: the first recorded step that differs.
        phases, leaves: what differs there, in causal order; leaves as (phase, path), where leaf rows were recorded.
        started_from: the step of the checkpoint that the replay began with, None for init.
        compared: how many recorded steps agreed before.
        reasons: what is different from when the run was made: source, program, devices, environment; may be empty.
        repeats: with `repeat`, what the step gave when it was taken again and again.
        of_script: a script of somebody's was run again, which replays have no state of.
    """

    run: RunDirectory
    wanted: int
    step: int
    phases: tuple[str, ...]
    leaves: tuple[tuple[str, str], ...]
    started_from: int | None
    compared: int
    reasons: tuple[str, ...]
    repeats: RepeatOutcome | None = None
    of_script: bool = False

    @property
    def advice(self) -> str:
        """Return what to do where nothing recorded explains it."""
        again = f"reprotui explain RUN --step {max(self.step, 1)} --repeat 5" if self.of_script else "--repeat 20"
        return f"nothing recorded explains it: likely the computation is not deterministic; try {again}"

    @property
    def headline(self) -> str:
        """Return the finding in one line."""
        return f"replay not faithful from step {self.step} · {', '.join(self.phases) or 'set of leaves'}"


def replay_step(
    run: RunDirectory,
    step: int,
    progress: Progress | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    fresh: bool = False,
    trusted: bool = False,
) -> ReplayedState | Unfaithful:
    """Rebuild the exact state at a step.

    A state that was replayed before is returned at once, if record and config are still the same.

    Args:
        run: a finished, dead or running run with a trace.
        step: 0 for the state after init.
        progress: see `Progress`.
        environment: of the replaying process; None for the one that the run recorded.
        fresh: replay even where the state is kept.
        trusted: what was not recorded here may be run, see `reprotui.trust`.

    Raises:
        BadInputError: there is no such step, or the experiment cannot be found any more.
        UntrustedError: it would run code of somebody else's, and is not `trusted`.
        CannotTellError: nothing to check against, or nothing to begin with.
        IntegrityError: the checkpoint to begin with was damaged in the meantime.
        WorkerFailedError: the process failed; the message ends its log.
    """
    plan = plan_replay(run, step)
    proof = _proof(plan)
    if not fresh and (cached := find_cached(run, step, proof)) is not None:
        return cached
    need_trust(run.path, plan.manifest, trusted)
    return _replay(plan, proof, progress, environment, 1)[0]


def repeat_step(
    run: RunDirectory,
    step: int,
    count: int,
    progress: Progress | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    trusted: bool = False,
) -> tuple[ReplayedState | Unfaithful, RepeatOutcome | None]:
    """Replay to a step and take it many times from the same state; of an unfaithful replay, the step that first differs.

    The outcome is None where init itself differs: then there is no step to take.

    Args:
        count: repetitions, 2 or more.
        run, step, progress, environment, trusted: see `replay_step`, which also says what is raised; step 0 cannot be repeated.
    """
    plan = plan_replay(run, step)
    if step == 0:
        raise BadInputError("--repeat takes a training step again and again: step 0 is none")
    need_trust(run.path, plan.manifest, trusted)
    return _replay(plan, _proof(plan), progress, environment, count)


def check_forward(plan: Plan, progress: Progress | None = None, *, trusted: bool = False) -> Unfaithful | int:
    """Replay a plan without keeping the state; return how many recorded steps agreed, or what did not."""
    need_trust(plan.run.path, plan.manifest, trusted)
    with workspace(None) as directory:
        result = run_plan(plan, directory, progress, None, 1)
        return result["compared"] if result["faithful"] else unfaithful(plan, result, None)


def _proof(plan: Plan) -> dict[str, Any]:
    """Return what a kept state must have been replayed under to be taken again."""
    with Trace(plan.run.trace_path) as trace:
        row = trace.recorded(plan.until)
    identity = identity_of_run(plan.manifest, plan.step)
    return {"until": plan.until, "chain": row.chain.hex(), "config": identity.config_digest, "run": identity.run_id}


def _replay(
    plan: Plan, proof: dict[str, Any], progress: Progress | None, environment: Mapping[str, str] | None, repeat: int
) -> tuple[ReplayedState | Unfaithful, RepeatOutcome | None]:
    place = plan.run.path / DIRECTORY
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise BadInputError(f"{place} cannot be written: {error.strerror}; replay a copy of the run") from None
    with workspace(place) as directory:
        result = run_plan(plan, directory, progress, environment, repeat)
        repeats = None if result["repeats"] is None else RepeatOutcome(**result["repeats"])
        if not result["faithful"]:
            return unfaithful(plan, result, repeats), repeats
        if not result["compared"]:
            raise CannotTellError(f"{plan.run.path}: no record lies between the beginning of the replay and step {plan.step}")
        (directory / "request.json").unlink()
        (directory / "result.json").unlink()
        (directory / "log").unlink()
        value = {
            **read_json(directory / "state.json"), "version": VERSION, "step": plan.step, "compared": result["compared"],
            "started_from": None if plan.restore is None else plan.start, "proof": proof,
            "notes": [*_reasons(plan.manifest, result), *plan.passed_over],
        }  # fmt: skip
        write_json(directory / "state.json", value)
        state = open_state(plan.run, keep(plan.run, directory, plan.step))
    if state is None:
        raise WorkerFailedError(f"the replayed state of step {plan.step} in {place} is gone: another replay took its place")
    return state, repeats


def unfaithful(plan: Plan, result: dict[str, Any], repeats: RepeatOutcome | None) -> Unfaithful:
    """Return what a process found that could not repeat what was recorded."""
    found = result["difference"]
    return Unfaithful(
        plan.run, plan.step, found["step"], tuple(found["phases"]),
        tuple((leaf["phase"], leaf["path"]) for leaf in found["leaves"]), None if plan.restore is None else plan.start,
        result["compared"], (*_reasons(plan.manifest, result), *plan.passed_over), repeats,
    )  # fmt: skip


def _reasons(manifest: RunManifest, result: dict[str, Any]) -> list[str]:
    """Say in what the replay's surroundings are not those of the run, what matters most first."""
    named = manifest.experiment
    reasons = []
    if named.source_digest != recorded_experiment(named).source_digest:
        reasons.append(f"the source of {named.name} was changed since")
    if manifest.data_digest != result["data_digest"]:
        reasons.append("the data are other ones")
    for function in ("init", "step"):
        before, now = manifest.program.get(function) or {}, result["program"][function]
        # The first stage that differs says where it comes from: the traced function, its lowering, or the compiler.
        stage = next((name for name in ("jaxpr", "stablehlo", "optimized_hlo") if before.get(name) != now.get(name)), None)
        if stage is not None:
            reasons.append(f"the compiled program is another one: {function}, from {stage} on")
    reasons += [
        f"devices.{name}: {manifest.devices.get(name)} → {value}"
        for name, value in result["devices"].items()
        if manifest.devices.get(name) != value
    ]
    return reasons + [str(item) for item in compare_environments(manifest.environment, result["environment"])]
