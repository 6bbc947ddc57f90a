"""The training loop of a worker."""

import collections
import contextlib
from typing import Any

import jax
import numpy as np

from reprotui.checkpoints.save import Saver
from reprotui.checksum import jax_form
from reprotui.checksum.leaves import spec_of, to_numpy
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.experiments.config import ExperimentConfig, Perturbation, read_config
from reprotui.experiments.discovery import load_experiment_class, recorded_experiment
from reprotui.experiments.protocol import State, StepOutput
from reprotui.integrity import digest_state
from reprotui.manifest import RunManifest
from reprotui.record.control import Control
from reprotui.record.engine import Engine
from reprotui.record.frameworks import describe_jax
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Recording
from reprotui.trace import TraceWriter
from reprotui.worker.program import Program
from reprotui.worker.start import Start, initial, restored, state_leaves
from reprotui.worker.steps import check_perturbation, perturbed, take_step

STEPS_IN_FLIGHT = 8
"""Steps that are dispatched ahead of the device: bounds how long a stop takes and how many batches are alive."""


def train(run: RunDirectory, manifest: RunManifest, writer: TraceWriter, control: Control) -> dict[str, Any]:
    """Train to the last step or to a stop; return the manifest's `result`.

    Raises:
        BadInputError: the config asks for something that cannot be.
        WorkerFailedError: the trace cannot be written.
    """
    program, config = load_program(manifest)
    start = None
    if restore := manifest.restore:
        start = restored(program, restore)
        changed = ", whose source was changed since" if restore.source_changed else ""
        writer.event("restored", f"step {restore.step} of {restore.name}{changed}")
    data_digest = getattr(program.experiment, "data_digest", None)
    run.update_manifest(devices=describe_jax(), program=program.description, data_digest=data_digest)
    writer.event("compiled", program.compilation)
    saver = Saver(run, manifest, writer.flush, writer.event)
    try:
        result = run_loop(program, config, manifest.recording, writer, control, saver, start)
    except BaseException:
        with contextlib.suppress(ReprotuiError):  # what was asked for before is still saved; the first error is the one to tell
            saver.close()
        raise
    saver.close()
    saver.read_back()
    return result


def load_program(manifest: RunManifest) -> tuple[Program, ExperimentConfig]:
    """Return the compiled experiment that a run's manifest names, and its config."""
    experiment_class = load_experiment_class(recorded_experiment(manifest.experiment))
    config = read_config(experiment_class.Config, manifest.config, experiment_class.__name__)
    if config.matmul_precision != "default":
        jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    return prepare(experiment_class, config), config


def prepare(experiment_class: Any, config: ExperimentConfig) -> Program:
    """Construct an experiment and compile it; what the class itself raises for its config is bad input."""
    try:
        experiment = experiment_class(config)
    except BadInputError:
        raise
    except (ValueError, FileNotFoundError) as error:
        raise BadInputError(f"{experiment_class.__name__} refuses its config: {error}") from error
    return Program(experiment, config)


def run_loop(
    program: Program, config: ExperimentConfig, recording: Recording, writer: TraceWriter, control: Control,
    saver: Saver | None = None, start: Start | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Take the steps of a program. Kept apart from `train` so that many runs can share one compiled program.

    Args:
        program: what is trained.
        config: its config.
        recording: what is recorded.
        writer: of the trace.
        control: what the outside asks for.
        saver: saves checkpoints; without it none are.
        start: where a resumed run goes on; None begins with the initial state.
    """
    at = start or initial(program)
    perturbation = None if config.perturb is None else Perturbation.parse(config.perturb)
    if perturbation is not None:
        check_perturbation(perturbation, at.state, config.steps)
    if start is None:
        at = at._replace(state=perturbed(at.state, 0, perturbation))
    recorder = None
    if recording.enabled:
        recorder = Engine(writer, recording, order=program.order, records=writer.history.records)
        if at.position.step == 0 and writer.history.last_step is None:
            recorder.init(**at.state._asdict())

    def announce(kind: str) -> None:
        writer.event(kind, f"after step {at.position.step}")
        writer.flush()

    def save() -> None:
        if saver is not None:
            saver.save(at.position, state_leaves(at.state))

    step = None
    in_flight: collections.deque[Any] = collections.deque()
    while at.position.step < config.steps and control.may_step(at.position.step, announce, save):
        step = take_step(program, at, perturbation)
        at = step.after
        if recorder:
            recorder.step(step.number, force=step.number == config.steps, **step.trees())
        if saver is not None:
            saver.check()
            if saver.policy.due(step.number, config.steps):
                save()
        in_flight.append(step.shown.loss)
        if len(in_flight) > STEPS_IN_FLIGHT:
            jax.block_until_ready(in_flight.popleft())
    finished = at.position.step == config.steps
    if saver is not None and saver.policy.at_end and not finished and (step is not None or start is None):
        save()  # stopped: this is where it can go on
    return {
        "state": "finished" if finished else "stopped",
        "last_step": at.position.step,
        "final": _final(program, at.state, None if step is None else step.shown),
        "digests": {"params": state_digest(State(at.state.params, ())), "state": state_digest(at.state)},
    }


def state_digest(state: State) -> str:
    """Return the content digest (SHA-256) of a training state; paths begin with params/, opt_state/, extra/."""
    return digest_state((spec_of(path, leaf), to_numpy(leaf)) for path, leaf in state_leaves(state)).root


def _final(program: Program, state: State, shown: StepOutput | None) -> dict[str, Any]:
    final: dict[str, Any] = {"loss": None, "metrics": {}}
    if shown is not None:
        loss = np.asarray(shown.loss)
        final = {
            "loss": _number(loss),
            "loss_bits": loss.tobytes()[::-1].hex(),
            "metrics": {path: _number(value) for path, value in jax_form.named_leaves(shown.metrics)},
        }
    evaluate = getattr(program.experiment, "evaluate", None)
    if callable(evaluate):
        final["evaluation"] = {name: _number(value) for name, value in dict(evaluate(state)).items()}
    return final


def _number(value: Any) -> float | str:
    number = float(np.asarray(value))
    return number if np.isfinite(number) else str(number)
