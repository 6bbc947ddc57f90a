"""One step of a training, whoever drives it: a worker that records, a replay that compares."""

import difflib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checksum.leaves import is_key, to_numpy
from reprotui.errors import BadInputError
from reprotui.experiments.config import Perturbation
from reprotui.experiments.protocol import State, StepOutput
from reprotui.worker.program import Program
from reprotui.worker.start import Start, state_leaves


class Step(NamedTuple):
    """A step that was taken: what it was given, what it showed, and where the training stands after it."""

    batch: Any
    key: Any
    shown: StepOutput
    after: Start

    @property
    def number(self) -> int:
        """Return the number of the step, from 1 on."""
        return self.after.position.step

    def trees(self) -> dict[str, Any]:
        """Return what a record of the step covers, by the names of `reprotui.trace.phases.STEP`."""
        return {"batch": self.batch, "rng": self.key, **self.shown._asdict(), **self.after.state._asdict()}


def step_inputs(program: Program, before: Start) -> tuple[Any, Any]:
    """Return the batch and the key of the step that follows."""
    position = before.position.next()
    return program.batch(position.batches), program.key(position.draws, position.key)


def take_step(program: Program, before: Start, perturbation: Perturbation | None) -> Step:
    """Dispatch the step that follows; it takes the buffers of the state before it."""
    position = before.position.next()
    batch, key = step_inputs(program, before)
    state, shown = program.step(before.state, batch, key)
    return Step(batch, key, shown, Start(position, perturbed(state, position.step, perturbation)))


def perturbed(state: State, step: int, perturbation: Perturbation | None) -> State:
    """Return the state after a step, with one bit of one element inverted where a perturbation names this step.

    Elements are counted in C order; bit 0 is the least significant.
    """
    if perturbation is None or perturbation.step != step:
        return state
    paths = [path for path, _ in state_leaves(state)]
    leaves, structure = jax.tree.flatten(state)
    position = paths.index(perturbation.leaf)
    leaf = leaves[position]
    array = to_numpy(leaf).copy()
    raw = array.reshape(-1).view(np.uint8)
    raw[perturbation.index * array.itemsize + perturbation.bit // 8] ^= np.uint8(1 << perturbation.bit % 8)
    if is_key(leaf):
        leaves[position] = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    else:
        # An array that was free to move stays so: placing it would compile the step anew, in the middle of the run.
        leaves[position] = jax.device_put(array, leaf.sharding) if leaf.committed else jnp.asarray(array)
    return jax.tree.unflatten(structure, leaves)


def check_perturbation(perturbation: Perturbation, state: State, steps: int) -> None:
    """Raise BadInputError where a perturbation names a step, leaf, element or bit that does not exist."""
    leaves = dict(state_leaves(state))
    what = f"perturb={':'.join(map(str, perturbation))}"
    if perturbation.step > steps:
        raise BadInputError(f"{what}: step {perturbation.step} is after the last one, {steps}")
    if perturbation.leaf not in leaves:
        close = difflib.get_close_matches(perturbation.leaf, leaves, n=3) or list(leaves)[:3]
        raise BadInputError(f"{what}: there is no leaf {perturbation.leaf!r}; there is {', '.join(close)}")
    array = to_numpy(leaves[perturbation.leaf])
    if perturbation.index >= array.size:
        raise BadInputError(f"{what}: {perturbation.leaf} has {array.size} elements, index {perturbation.index} is past its end")
    if perturbation.bit >= 8 * array.itemsize:
        raise BadInputError(
            f"{what}: an element of {perturbation.leaf} has {8 * array.itemsize} bits, there is no bit {perturbation.bit}"
        )
