"""The training loop of a worker."""

import collections
import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checkpoints.save import Saver
from reprotui.checksum import LeafSpec, jax_form
from reprotui.errors import BadInputError, ReprotuiError
from reprotui.experiments.config import ExperimentConfig, Perturbation, read_config
from reprotui.experiments.discovery import load_experiment_class, recorded_experiment
from reprotui.experiments.protocol import State, StepOutput
from reprotui.integrity import content_digest
from reprotui.record.control import Control
from reprotui.record.engine import Engine
from reprotui.record.frameworks import describe_jax
from reprotui.run_directory import RunDirectory
from reprotui.trace import TraceWriter
from reprotui.worker.program import Program
from reprotui.worker.start import Start, initial, restored, state_leaves

STEPS_IN_FLIGHT = 8
"""Steps that are dispatched ahead of the device: bounds how long a stop takes and how many batches are alive."""


def train(run: RunDirectory, manifest: dict[str, Any], writer: TraceWriter, control: Control) -> dict[str, Any]:
    """Train to the last step or to a stop; return the manifest's `result`.

    Raises:
        BadInputError: the config asks for something that cannot be.
        WorkerFailedError: the trace cannot be written.
    """
    program, config = load_program(manifest)
    start = None
    if restore := manifest.get("restore"):
        start = restored(program, restore)
        changed = ", whose source was changed since" if restore["source_changed"] else ""
        writer.event("restored", f"step {restore['step']} of {restore['name']}{changed}")
    data_digest = getattr(program.experiment, "data_digest", None)
    run.update_manifest(devices=describe_jax(), program=program.description, data_digest=data_digest)
    writer.event("compiled", program.compilation)
    saver = Saver(run, manifest, writer.flush, writer.event)
    try:
        result = run_loop(program, config, manifest["recording"], writer, control, saver, start)
    except BaseException:
        with contextlib.suppress(ReprotuiError):  # what was asked for before is still saved; the first error is the one to tell
            saver.close()
        raise
    saver.close()
    saver.read_back()
    return result


def load_program(manifest: dict[str, Any]) -> tuple[Program, ExperimentConfig]:
    """Return the compiled experiment that a run's manifest names, and its config."""
    experiment_class = load_experiment_class(recorded_experiment(manifest))
    config = read_config(experiment_class.Config, manifest["config"], experiment_class.__name__)
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
    program: Program, config: ExperimentConfig, recording: dict[str, Any], writer: TraceWriter, control: Control,
    saver: Saver | None = None, start: Start | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Take the steps of a program. Kept apart from `train` so that many runs can share one compiled program.

    Args:
        program: what is trained.
        config: its config.
        recording: what is recorded, as the manifest keeps it.
        writer: of the trace.
        control: what the outside asks for.
        saver: saves checkpoints; without it none are.
        start: where a resumed run goes on; None begins with the initial state.
    """
    position, state = start or initial(program)
    perturbation = None if config.perturb is None else Perturbation.parse(config.perturb)
    if perturbation is not None:
        check_perturbation(perturbation, state, config.steps)
    recorder = None
    if recording["enabled"]:
        every, leaves_every, statistics = (recording[key] for key in ("every", "leaves_every", "statistics_every"))
        recorder = Engine(
            writer, every=every, leaves_every=leaves_every, statistics_every=statistics, order=program.order,
            layouts=program.layouts, records=writer.history.records,
        )  # fmt: skip

    def perturbed(state: State, step: int) -> State:
        return flip_bit(state, perturbation) if perturbation is not None and perturbation.step == step else state

    def announce(kind: str) -> None:
        writer.event(kind, f"after step {step}")
        writer.flush()

    def save() -> None:
        if saver is not None:
            saver.save(position._replace(step=step, batches=batches, draws=draws), state_leaves(state))

    step, batches, draws = position.step, position.batches, position.draws
    if start is None:
        state = perturbed(state, 0)
    if recorder and step == 0 and writer.history.last_step is None:
        recorder.init(params=state.params, opt_state=state.opt_state, extra=state.extra)
    shown = None
    in_flight: collections.deque[Any] = collections.deque()
    while step < config.steps and control.may_step(announce, save):
        step, batches, draws = step + 1, batches + 1, draws + 1
        batch, key = program.batch(batches), program.key(draws, position.key)
        state, shown = program.step(state, batch, key)
        state = perturbed(state, step)
        if recorder:
            recorder.step(
                step, batch=batch, rng=key, loss=shown.loss, metrics=shown.metrics, extra=state.extra, grads=shown.grads,
                opt_state=state.opt_state, params=state.params, force=step == config.steps,
            )  # fmt: skip
        if saver is not None:
            saver.check()
            if saver.policy.due(step, config.steps):
                save()
        in_flight.append(shown.loss)
        if len(in_flight) > STEPS_IN_FLIGHT:
            jax.block_until_ready(in_flight.popleft())
    if saver is not None and saver.policy.at_end and step < config.steps:
        save()  # stopped: this is where it can go on
    return {
        "state": "finished" if step == config.steps else "stopped",
        "last_step": step,
        "final": _final(program, state, shown),
        "digests": {"params": state_digest(State(state.params, ())), "state": state_digest(state)},
    }


def check_perturbation(perturbation: Perturbation, state: State, steps: int) -> None:
    """Raise BadInputError where a perturbation names a step, leaf, element or bit that does not exist."""
    import difflib

    leaves = dict(state_leaves(state))
    what = f"perturb={':'.join(map(str, perturbation))}"
    if perturbation.step > steps:
        raise BadInputError(f"{what}: step {perturbation.step} is after the last one, {steps}")
    if perturbation.leaf not in leaves:
        close = difflib.get_close_matches(perturbation.leaf, leaves, n=3) or list(leaves)[:3]
        raise BadInputError(f"{what}: there is no leaf {perturbation.leaf!r}; there is {', '.join(close)}")
    array = _bits_of(leaves[perturbation.leaf])
    if perturbation.index >= array.size:
        raise BadInputError(f"{what}: {perturbation.leaf} has {array.size} elements, index {perturbation.index} is past its end")
    if perturbation.bit >= 8 * array.itemsize:
        raise BadInputError(
            f"{what}: an element of {perturbation.leaf} has {8 * array.itemsize} bits, there is no bit {perturbation.bit}"
        )


def flip_bit(state: State, perturbation: Perturbation) -> State:
    """Return the state with one bit of one element inverted: element in C order, bit 0 the least significant."""
    paths = [path for path, _ in state_leaves(state)]
    leaves, structure = jax.tree.flatten(state)
    position = paths.index(perturbation.leaf)
    leaf = leaves[position]
    array = _bits_of(leaf).copy()
    raw = array.reshape(-1).view(np.uint8)
    raw[perturbation.index * array.itemsize + perturbation.bit // 8] ^= np.uint8(1 << perturbation.bit % 8)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaves[position] = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    else:
        # An array that was free to move stays so: placing it would compile the step anew, in the middle of the run.
        leaves[position] = jax.device_put(array, leaf.sharding) if leaf.committed else jnp.asarray(array)
    return jax.tree.unflatten(structure, leaves)


def state_digest(state: State) -> str:
    """Return the content digest (SHA-256) of a training state; paths begin with params/, opt_state/, extra/."""

    def content() -> Iterator[tuple[LeafSpec, memoryview]]:
        for path, leaf in state_leaves(state):
            array = np.ascontiguousarray(_bits_of(leaf))
            yield jax_form.leaf_spec(path, leaf), array.reshape(-1).view(np.uint8).data

    return content_digest(content())


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


def _bits_of(leaf: Any) -> np.ndarray:
    """Return a host array of a leaf's elements; key data for typed keys."""
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
