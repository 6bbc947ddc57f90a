"""What the record of a step is made of: the phase and the path of each leaf of its calls, and where its checksum is.

One call of `params, loss = train(params, batch, key)` is the record of a step:

    batch    batch/batch/x   checksum 0 taken before or after the call
    rng      rng/key
    forward  loss
    params   params/w

The composition is a plan: worked out once for all steps whose calls have the same shapes.
"""

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from reprotui.observe.jax_calls import Call, CallShape, Checksum
from reprotui.observe.jax_signature import Leaf
from reprotui.observe.jax_training import Output, Training, name_by_hand, outside, replaced_arguments
from reprotui.observe.names import ShapeDtype, gradient_path, is_gradient, is_key, loss_path
from reprotui.record.assembly import Assembly, Part, Selection
from reprotui.trace.phases import CAPTURED, REPLACED


class RecordLeaf(NamedTuple):
    """A leaf of a record."""

    phase: str
    path: str
    leaf: Leaf
    checksum: Checksum


class RecordPart(NamedTuple):
    """Leaves of a record that lie in one reading of one call."""

    call: int
    reading: int
    selection: Selection


Plan = tuple[RecordPart, ...]


def parts_of(plan: Plan, calls: Sequence[Call]) -> list[Part]:
    """Return what a record is put together from: the checksums of these calls as a plan selects them."""
    return [(calls[part.call].lanes(part.reading), part.selection) for part in plan]


@functools.cache
def plan_init(assembly: Assembly, training: Training, several_by_hand: bool, shapes: tuple[CallShape, ...]) -> Plan:
    """Say what the state is that the first step's calls started from."""
    found: dict[Any, RecordLeaf] = {}
    for call, shape in enumerate(shapes):
        carried = training.carried_by(shape.signature.function)
        for index, (argument, output) in enumerate(shape.signature.pairs):
            if index in shape.by_hand:
                key = name = name_by_hand(argument.path, several_by_hand)
            elif argument.path in carried and (output is None or output.function not in training.functions):
                key, name = carried[argument.path], training.name(carried[argument.path])
            else:
                continue
            checksum = shape.argument(call, index)
            if checksum is not None:
                found.setdefault(key, RecordLeaf("init", name, argument, checksum))
    return _plan(assembly, found.values())


@functools.cache
def plan_step(assembly: Assembly, training: Training, loss: str | None, first: bool, shapes: tuple[CallShape, ...]) -> Plan:
    """Say what the record of a step is, the leaves of a phase in the order in which they were computed.

    Args:
        assembly: what puts records together.
        training: what its functions hand on.
        loss: the name of the loss, where the user gave one.
        first: it is the first step, whose state stands in the record before.
        shapes: those of its calls.
    """
    outputs = [
        _Output(call, index, leaf)
        for call, shape in enumerate(shapes)
        for index, leaf in enumerate(shape.outputs.leaves if shape.outputs else ())
        if not leaf.passed and training.state(Output(leaf.function, leaf.path)) is None
    ]
    follows = _follows(training, shapes)
    loss_output = _loss([output for output in outputs if follows[output.call] is None], loss) or _loss(outputs, loss)
    states = {
        argument.aval
        for shape in shapes
        for index, argument in enumerate(shape.signature.arguments.leaves)
        if argument.path in training.carried_by(shape.signature.function) or index in shape.by_hand
    }
    leaves = [leaf for call, shape in enumerate(shapes) for leaf in _arguments(training, first, call, shape)]
    for call, shape in enumerate(shapes):
        for output in outputs:
            checksum = shape.output(call, output.index) if output.call == call else None
            if checksum is None:
                continue
            if loss_output is not None and (output.call, output.leaf.path) == (loss_output.call, loss_output.leaf.path):
                phase, path = "forward", "loss"
            else:
                phase, path = _phase_and_path(training, output.leaf, states)
                path = training.within_function(output.leaf.function, path)
            leaves.append(RecordLeaf(follows[call] or phase, path, output.leaf, checksum))
        leaves += _state(training, call, shape, follows[call])
    return _plan(assembly, leaves)


@functools.cache
def plan_late(
    assembly: Assembly, training: Training, several_by_hand: bool, shape: CallShape, recorded: tuple[Selection, ...]
) -> Plan:
    """Say what a call shows of the step before: the state that the script updated between them, where that record lacks it."""
    known = {spec.path for selection in recorded for _, spec, _ in selection.entries}
    leaves = []
    for index in sorted(shape.by_hand):
        argument, checksum = shape.signature.arguments.leaves[index], shape.argument(0, index)
        path = name_by_hand(argument.path, several_by_hand)
        if checksum is not None and path not in known:
            leaves.append(RecordLeaf(phase_of_state(path), path, argument, checksum))
    return _plan(assembly, leaves)


def captured_parts(assembly: Assembly, training: Training, calls: Iterable[Call]) -> list[Part]:
    """Return what functions were seen to capture at these calls; a function's name stands before it where there are several."""
    parts = []
    for call in calls:
        assert call.captured is not None
        folder = CAPTURED if len(training.observed) == 1 else f"{CAPTURED}{call.function.name}/"
        specs = [spec._replace(path=folder + spec.path) for spec in call.captured.leaves]
        selection = assembly.select([("batch", spec, index) for index, spec in enumerate(specs)])
        parts.append((call.captured.lanes, selection))
    return parts


class _Output(NamedTuple):
    """An output that is no state."""

    call: int
    index: int
    leaf: Leaf


def _plan(assembly: Assembly, leaves: Iterable[RecordLeaf]) -> Plan:
    """Return leaves as parts: one for each run of them that lie in the same reading."""
    found = []
    for (call, reading), run in itertools.groupby(leaves, key=lambda leaf: leaf.checksum[:2]):
        entries = [
            (leaf.phase, leaf.leaf.spec._replace(path=f"{leaf.path}{leaf.leaf.part}"), leaf.checksum.index) for leaf in run
        ]
        found.append(RecordPart(call, reading, assembly.select(entries)))
    return tuple(found)


def _loss(outputs: Sequence[_Output], asked: str | None) -> _Output | None:
    """Return the output that is the loss: that of the last call which gave one."""
    path = loss_path({output.leaf.path: output.leaf.each for output in outputs}, asked)
    return next((output for output in reversed(outputs) if output.leaf.path == path), None)


def _phase_and_path(training: Training, leaf: Leaf, states: set[ShapeDtype]) -> tuple[str, str]:
    """Say what an output is that is no state; `states` are shapes and dtypes of what is."""
    function, path = leaf.function, leaf.path
    if path.startswith(CAPTURED):
        return "batch", path
    gives_no_state = function is not training.step and function not in training.owners
    if leaf.each.is_scalar:
        return "forward", f"metrics/{path}"
    if gives_no_state and leaf.aval not in states and not is_gradient(path):
        # Made along with each step, but not of a parameter's kind: augmented data, for one.
        return "batch", f"batch/{path}"
    if gives_no_state or is_gradient(path) or not training.owners:
        return "grads", gradient_path(path)
    if any(other not in training.owners for other in training.observed):
        # The gradients come from a function of their own; what this one gives besides its state are the updates.
        return "optimizer", f"updates/{path}"
    return "forward", f"extra/{path}"


def _arguments(training: Training, first: bool, call: int, shape: CallShape) -> list[RecordLeaf]:
    """Return what enters a step with a call: batch, keys, and state that the script replaced."""
    signature, carried = shape.signature, training.carried_by(shape.signature.function)
    # The first step starts from what the script made.
    replaced = () if first else replaced_arguments(training, signature)
    leaves = []
    for index in outside(training, signature):
        argument, checksum = signature.arguments.leaves[index], shape.argument(call, index)
        if checksum is None or index in shape.by_hand or (first and argument.path in carried):
            continue
        phase = "rng" if is_key(argument.path, argument.aval) else "batch"
        path = argument.path if argument.path.startswith(CAPTURED) else f"{phase}/{argument.path}"
        if index in replaced:
            state = training.name(carried[argument.path]) if argument.path in carried else argument.path
            # An optimizer's state enters where it is used; all other state enters with the batch.
            phase, path = "optimizer" if state.startswith("opt_state/") else "batch", f"{REPLACED}{state}"
        leaves.append(RecordLeaf(phase, path, argument, checksum))
    return leaves


def phase_of_state(path: str) -> str:
    """Return the phase of new state, by its path."""
    return "optimizer" if _is_optimizer(path) else "params"


def _follows(training: Training, shapes: tuple[CallShape, ...]) -> list[str | None]:
    """Return for each call the phase of what state was given before it in the same step: all of it can differ because of that.

    None before the first of it. After the first parameters it is `params`, whatever comes, so that causes stand before effects.
    """
    found: list[str | None] = []
    after: str | None = None
    for shape in shapes:
        found.append(after)
        names = [name for _, _, name in _new_state(training, shape)]
        if shape.signature.function not in training.owners or (after is None and _of_forward(names)):
            continue
        of_optimizer = bool(names) and all(map(_is_optimizer, names))
        after = "optimizer" if of_optimizer and after != "params" else "params"
    return found


def _new_state(training: Training, shape: CallShape) -> list[tuple[int, Leaf, str]]:
    """Return the outputs of a call that are state: their place among all, and their names in records."""
    return [
        (index, leaf, training.name(output))
        for index, leaf in enumerate(shape.outputs.leaves if shape.outputs else ())
        if training.state(output := Output(leaf.function, leaf.path)) is not None
    ]


def _is_optimizer(path: str) -> bool:
    return path.startswith("opt_state")


def _of_forward(names: Sequence[str]) -> bool:
    """Say whether a call gave state that a forward pass changes, such as batch statistics, and moved nothing."""
    return bool(names) and all(name.startswith("extra/") for name in names)


def _state(training: Training, call: int, shape: CallShape, follows: str | None) -> list[RecordLeaf]:
    """Return the state that a call gave: the optimizer's before the parameters that it moves."""
    new = _new_state(training, shape)
    forward = follows is None and _of_forward([name for _, _, name in new])
    found = []
    for index, leaf, name in new:
        phase = "forward" if forward else "params" if follows == "params" else phase_of_state(name)
        if (checksum := shape.output(call, index)) is not None:
            found.append(RecordLeaf(phase, name, leaf, checksum))
    return sorted(found, key=lambda leaf: not _is_optimizer(leaf.path))
