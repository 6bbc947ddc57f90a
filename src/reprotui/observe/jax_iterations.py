"""Records of the iterations inside the calls of a training (`--inside`): what each took, gave and handed on, with its name.

Of `params, losses = epoch(params, X)`, called twice with a scan over 20 batches, the records are 1 to 40:

    batch    batch/X      X[i]; with the first iteration of a call, all else that the call was given
    forward  loss         losses[i]
    params   params/w     after the iteration

Records of a call wait until its own outputs have proven them. Where they do not, the call is one record, numbered as its last
iteration would be, so that the records of two runs still stand beside each other.
"""

import functools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from reprotui.observe.jax_calls import Call
from reprotui.observe.jax_inside import MOST_ITERATIONS, Inside, Iteration, Replay
from reprotui.observe.jax_records import Plan, RecordPart, parts_of, phase_of_state
from reprotui.observe.jax_signature import CallSignature, Leaf, TreeSignature
from reprotui.observe.jax_training import Output, State, Training
from reprotui.observe.names import ShapeDtype, is_key, loss_path, state_path
from reprotui.observe.watch import Watch
from reprotui.record.assembly import Assembly, Part

Names = tuple[tuple[str, str], ...]
"""Phase and path of leaves."""


class IterationNames(NamedTuple):
    """What the leaves of an iteration are called; those that it handed on in the order `order`, an optimizer's first."""

    slices: Names
    given: Names
    carried: Names
    order: tuple[int, ...]

    def parts(self, assembly: Assembly, iteration: Iteration) -> list[Part]:
        """Take the checksums of an iteration."""
        carried = [iteration.carried[number] for number in self.order]
        found = ((self.slices, iteration.slices), (self.given, iteration.given), (self.carried, carried))
        return [assembly.part(names, leaves) for names, leaves in found if names]


class Iterations:
    """The iterations that were recorded so far, and those of the next call.

    Attributes:
        total: the number of the last of them.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.total = 0

    def record(self, training: Training, calls: Sequence[Call], plan: Plan, captured: Sequence[Part]) -> int | None:
        """Record the iterations of a step's last call.

        Args:
            training: what its functions hand on.
            calls: those of the step.
            plan: what the record of the step would be.
            captured: what its functions were seen to capture.

        Returns:
            None; the number under which the step is to be recorded as one, where its iterations cannot be.
        """
        call = calls[-1]
        replay, call.replay = call.replay, None
        if not isinstance(replay, Replay) or call.outputs is None:
            return self._whole(call, str(replay or "what it was given is not kept"), 1)
        names = iteration_names(training, replay.inside, call.signature, call.outputs.signature, self._watch.options.loss)
        records: list[list[Part]] = []
        outcome: list[Any] = []
        try:
            for iteration in replay.inside.run(replay.given, outcome):
                records.append(names.parts(self._watch.assembly, iteration))
                if len(records) > MOST_ITERATIONS:
                    return self._whole(call, f"its loop has more than {MOST_ITERATIONS:,} iterations", len(records))
            proven = bool(records) and replay.inside.proves(outcome, _checksums_of_outputs(call))
        except Exception as error:  # what cannot be computed once more, for lack of memory for one, is one record
            return self._whole(call, f"{type(error).__name__}: {error}", max(1, len(records)))
        if not proven:
            text = "iteration by iteration from what it was given, it does not end on what the call gave"
            return self._whole(call, text, max(1, len(records)))
        around = parts_of(around_iterations(self._watch.assembly, plan, len(calls) - 1, names), calls)
        if call.generators is not None:
            records[-1].append(call.generators)
        counted = json.dumps({f"iteration of {call.function.name}": 1})
        for number, parts in enumerate(records):
            self.total += 1
            if self._watch.due(self.total):
                self._watch.put(self.total, [*captured, *around, *parts] if number == 0 else parts, counted)
        return None

    def _whole(self, call: Call, reason: str, iterations: int) -> int:
        """Say why a call is one record, and return its number."""
        name = call.function.name
        self._watch.event("not-inside", f"call {call.number} of {name} is recorded as one step: {reason}")
        self._watch.coverage.note(f"calls of {name} are recorded as one step each, --inside or not: {reason}")
        self.total += iterations
        return self.total


def _checksums_of_outputs(call: Call) -> Any:
    """Wait; return the checksums that were taken of what a call gave."""
    assert call.after is not None
    return call.after.lanes.result().lanes[len(call.after.reading.arguments) :]


@functools.cache
def iteration_names(
    training: Training, inside: Inside, signature: CallSignature, outputs: TreeSignature, loss: str | None
) -> IterationNames:
    """Say what the leaves of an iteration are called, after what goes into the call and what comes out of it."""
    loop, body = inside.loop, inside.body
    arguments = dict(
        zip(inside.program.arguments, map(inside.places.arguments.get, range(len(inside.program.arguments))), strict=True)
    )
    entering = [_leaf(signature.arguments, arguments.get(item) if isinstance(item, int) else None) for item in loop.inputs]
    results = {item: inside.places.results.get(at) for at, item in enumerate(inside.program.results) if isinstance(item, int)}
    leaving = [_leaf(outputs, results.get(item)) for item in loop.outputs]
    through = body.constants + body.carried
    avals = loop.params["jaxpr"].in_avals[through:] if body.length is not None else ()
    slices = tuple(_slice(number, *found) for number, found in enumerate(zip(entering[through:], avals, strict=True)))
    given = {(leaf.path if leaf else f"given_{at}"): leaf for at, leaf in enumerate(leaving[body.carried :])}
    each = {path: leaf.each if leaf else ShapeDtype((0,), "") for path, leaf in given.items()}
    of_loss = loss_path(each, loss)
    called = tuple(
        ("forward", "loss" if path == of_loss else f"{'metrics' if aval.is_scalar else 'extra'}/{path}")
        for path, aval in each.items()
    )
    pairs = zip(entering[body.constants :], leaving[: body.carried], strict=False)
    carried = [_carried(training, number, entered, left) for number, (entered, left) in enumerate(pairs)]
    order = tuple(sorted(range(len(carried)), key=lambda number: not carried[number].startswith("opt_state")))
    handed_on = tuple((phase_of_state(carried[number]), carried[number]) for number in order)
    return IterationNames(slices, called, handed_on, order)


def _leaf(tree: TreeSignature, number: int | None) -> Leaf | None:
    return None if number is None else tree.leaves[number]


def _slice(number: int, leaf: Leaf | None, aval: Any) -> tuple[str, str]:
    """Return phase and path of what an iteration takes of an array: those of the whole array, where that is an argument."""
    path = f"slice_{number}" if leaf is None else leaf.path
    phase = "rng" if is_key(path, ShapeDtype(tuple(aval.shape), str(aval.dtype))) else "batch"
    return phase, f"{phase}/{path}"


def _carried(training: Training, number: int, entered: Leaf | None, left: Leaf | None) -> str:
    """Return the name of what an iteration hands on to the next."""
    output = None if left is None else Output(left.function, left.path)
    if output is not None and training.state(output) is not None:
        return training.name(output)
    if entered is not None:
        return State.of(entered, left or entered).name
    return f"extra/carry_{number}" if left is None else state_path(left.path, left.aval, left.in_optimizer)


@functools.cache
def around_iterations(assembly: Assembly, plan: Plan, looping: int, names: IterationNames) -> Plan:
    """Return what the first iteration of a call has besides its own: what went into the call, and the calls before it.

    Args:
        assembly: what puts records together.
        plan: the record of the step as one.
        looping: the number of the call that has the loop.
        names: what the iterations show of their own.
    """
    own = set(names.slices)
    parts = []
    for part in plan:
        entries = [
            entry
            for entry in part.selection.entries
            if part.call != looping or (entry[0] in ("batch", "rng") and (entry[0], entry[1].path) not in own)
        ]
        if entries:
            parts.append(RecordPart(part.call, part.reading, assembly.select(entries)))
    return tuple(parts)
