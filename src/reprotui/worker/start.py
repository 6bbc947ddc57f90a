"""Where a run begins: at the initial state, or at a checkpoint."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checkpoints.restore import Loaded, check_structure, load_checkpoint
from reprotui.checkpoints.save import Position
from reprotui.checksum import LeafSpec, jax_form
from reprotui.checksum.leaves import spec_of
from reprotui.errors import BadInputError
from reprotui.experiments.protocol import State
from reprotui.manifest import Restore
from reprotui.worker.program import Program


class Start(NamedTuple):
    """A position and the training state there."""

    position: Position
    state: State


def initial(program: Program) -> Start:
    """Return the start of a run from nothing; the program's own arrays are copied, because steps donate theirs."""
    return Start(Position(0, 0, program.root, 0), jax.tree.map(jnp.copy, program.initial))


def restored(program: Program, restore: Restore) -> Start:
    """Return the start at a checkpoint, which is verified as it is loaded.

    Args:
        program: gives the structure that the checkpoint must have, leaf by leaf.
        restore: which one, and what of it is left out.

    Raises:
        BadInputError: the checkpoint has other leaves than the experiment.
        IntegrityError: the checkpoint is not VALID.
    """
    path = Path(restore.checkpoint)
    loaded = load_checkpoint(path)
    start = initial(program)
    named = state_leaves(start.state)
    key_spec = spec_of("rng/key", program.root)
    scalars = {name: LeafSpec(name, "int64", ()) for name in ("step", "data/position", "rng/position")}
    empty = {spec.path: spec for spec in (LeafSpec(name, dtype, tuple(shape)) for name, dtype, shape in _empty(loaded))}
    expected = {name: spec_of(name, leaf) for name, leaf in named} | {"rng/key": key_spec} | scalars
    check_structure({**loaded.specs, **empty}, expected, path)
    step, batches, draws = (int(loaded.arrays[name]) for name in ("step", "data/position", "rng/position"))
    if step != loaded.identity.step:
        raise BadInputError(f"{path} holds step {step}, its manifest names step {loaded.identity.step}")
    omit = restore.omit
    leaves = [
        leaf if name.split("/")[0] in omit or name in empty else _to_device(loaded.arrays[name], expected[name])
        for name, leaf in named
    ]
    key = program.root if "rng" in omit else _to_device(loaded.arrays["rng/key"], key_spec)
    position = Position(0 if "step" in omit else step, 0 if "data" in omit else batches, key, 0 if "rng" in omit else draws)
    return Start(position, jax.tree.unflatten(jax.tree.structure(start.state), leaves))


def state_leaves(state: State) -> list[tuple[str, Any]]:
    """Return the leaves of a training state with their paths, which begin with params/, opt_state/ and extra/."""
    return [item for name in State._fields for item in jax_form.named_leaves(getattr(state, name), name)]


def _empty(loaded: Loaded) -> list[Any]:
    found = loaded.meta.get("empty")
    return found if isinstance(found, list) else []


def _to_device(array: np.ndarray, spec: LeafSpec) -> jax.Array:
    if spec.dtype.startswith("key<"):
        tag = spec.dtype.removeprefix("key<").removesuffix(">")
        names = {"fry": "threefry2x32", "urbg": "unsafe_rbg"}
        return jax.random.wrap_key_data(jnp.array(array), impl=names.get(tag, tag))
    # A copy: a buffer that jax shares with numpy cannot be donated, and the first step would be another program.
    leaf = jnp.array(array, copy=True)
    if leaf.dtype != array.dtype:
        raise BadInputError(f"{spec.path} is {array.dtype} and would become {leaf.dtype} here: set JAX_ENABLE_X64 as it was")
    return leaf
