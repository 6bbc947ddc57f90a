"""Jitted calls of a step made once more, on inputs that were copied before the call could destroy them: the same bits again?

    kept = copies of (state, batch)      step 37 is drawn
    state, loss = train(state, batch)    the script's own call
    again = train(*kept)                 must have the checksums that were recorded

Before that the state is read again: it must have the checksums with which it came out of the step before. The script's Python
never runs a second time: jax is forbidden to trace, and a program that calls back into Python is left alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from reprotui.checksum.host_form import Table
from reprotui.observe.checks import REPEATS, STATE_EACH_STEP, Checks
from reprotui.observe.jax_calls import Call
from reprotui.observe.jax_inside import acts, kept
from reprotui.observe.jax_program import traced
from reprotui.observe.jax_records import phase_of_state
from reprotui.observe.jax_signature import CallSignature, Leaf
from reprotui.observe.jax_training import Output, Training
from reprotui.observe.names import gradient_path, is_gradient
from reprotui.record import lanes
from reprotui.record.frameworks import jax_process
from reprotui.record.lanes import Lanes
from reprotui.trace.phases import PHASE_INDEX

NOT_KNOWN = "the train step was not known yet"


class _Look(NamedTuple):
    """State that was read again before a call: its checksums now, those that it came out with, and where these stand there."""

    step: int
    paths: tuple[str, ...]
    now: np.ndarray
    before: list[tuple[Lanes, int]]


class _State(NamedTuple):
    """The arguments of calls that look alike which came out of calls before."""

    indices: tuple[int, ...]
    size: int
    table: Table | None


class JaxChecks:
    """The checks of one process's jitted calls."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._states: dict[CallSignature, _State] = {}
        self._looks: list[_Look] = []
        self._why_not: dict[Any, str] = {}
        self._programs: dict[Any, Callable[..., Any]] = {}

    def missed(self, through: int) -> None:
        """Note that the steps up to this one were taken before it was known what a step is."""
        for step in filter(self._checks.due, range(1, through + 1)):
            self._checks.left_out(step, "the step", NOT_KNOWN)

    def before(self, call: Call, given: Any) -> Any:
        """Read the state again; return copies of all that a call is given where it is to be made once more, else None."""
        due = self._checks.due(call.step)
        try:
            self.settle(call.step)
            self._look(call, due)
            if not due:
                return None
            if jax_process()[1] > 1:
                self._checks.left_out(call.step, call.function.name, "several processes compute it together")
                return None
            leaves, structure = jax.tree.flatten(given)
            return jax.tree.unflatten(structure, kept(leaves))
        except Exception as error:  # no memory for copies, for one: the step itself is taken all the same
            self._checks.left_out(call.step, call.function.name, _told(error))
            return None

    def after(self, call: Call, again: Callable[..., Any] | None, given: Any, training: Training) -> None:
        """Make a call once more, from what `before` gave, and hold what comes out against what was recorded."""
        try:
            if why := self._unfit(call, again, given):
                self._checks.left_out(call.step, call.function.name, why)
                return
            assert again is not None
            self._repeat(call, again, given, training)
        except Exception as error:
            self._checks.left_out(call.step, call.function.name, _told(error))

    def settle(self, step: int | None = None) -> None:
        """Tell what became of the state that was read before steps that are over; without a step, of all."""
        over = [look for look in self._looks if step is None or look.step < step]
        self._looks = self._looks[len(over) :]
        for number in dict.fromkeys(look.step for look in over):
            changed = []
            for look in over:
                if look.step == number:
                    results = {id(taken): taken.result().lanes for taken, _ in look.before}
                    then = np.array([results[id(taken)][at] for taken, at in look.before])
                    changed += [path for path, same in zip(look.paths, (look.now == then).all(axis=1), strict=True) if not same]
            self._checks.state(number, list(dict.fromkeys(changed)))

    def _unfit(self, call: Call, again: Callable[..., Any] | None, given: Any) -> str:
        if again is None:
            return "it is no call of a jitted function"
        key = call.function, call.signature.arguments
        if key not in self._why_not:
            program = traced(again, *given)
            if program is None:
                self._why_not[key] = "jax does not tell its program"
            else:
                inner = any(acts(equation.primitive, equation.params) for equation in program.jaxpr.eqns)
                self._why_not[key] = "it calls back into Python, and that once more would be another thing" if inner else ""
        return self._why_not[key]

    def _repeat(self, call: Call, again: Callable[..., Any], given: Any, training: Training) -> None:
        outputs = call.outputs
        assert outputs is not None
        if outputs.taken is None:
            self._checks.left_out(call.step, call.function.name, "the step is not recorded (--every)")
            return
        recorded = outputs.taken.lanes.result().lanes[len(outputs.taken.reading.arguments) :]

        def computed(values: Any) -> np.ndarray:
            with jax.no_tracing():
                result = again(*values[0], **values[1])
            return lanes.take(list(outputs.signature.comparable(jax.tree.leaves(result)))).result().lanes

        found = computed(_copied(given))
        wrong = np.flatnonzero((found != recorded).any(axis=1))
        name, leaves = call.function.name, outputs.signature.leaves
        if wrong.size:
            places = sorted((_place(training, leaves[index]) for index in wrong), key=lambda place: PHASE_INDEX[place[0]])
            repeats = [bool(np.array_equal(found, computed(_copied(given)))) for _ in range(REPEATS)]
            self._checks.unequal(call.step, places[0][0], [path for _, path in places], repeats)
            return
        self._checks.equal(call.step, name, len(leaves))
        other = _other_device(given)
        if other is None:
            return
        try:
            results = self._elsewhere(call, again, given)(*jax.tree.leaves(_copied(given, other)))
            elsewhere = lanes.take(list(outputs.signature.comparable(results))).result().lanes
        except Exception as error:
            self._checks.left_out(call.step, f"{name} on another device", _told(error))
            return
        if np.array_equal(elsewhere, recorded):
            self._checks.equal(call.step, f"{name} on {other}", len(leaves))
        else:
            wrong = np.flatnonzero((elsewhere != recorded).any(axis=1))
            self._checks.elsewhere(call.step, f"{name} on {other}", [_place(training, leaves[index])[1] for index in wrong])

    def _elsewhere(self, call: Call, again: Callable[..., Any], given: Any) -> Callable[..., Any]:
        """Return the program of a call as a function of ours: the script's would be traced again for another device.

        Raises:
            ValueError: some of its arguments are no inputs of the program.
        """
        key = call.function, call.signature.arguments
        if key not in self._programs:
            closed = traced(again, *given)
            if len(closed.jaxpr.invars) != len(jax.tree.leaves(given)):
                raise ValueError("it has static arguments")
            self._programs[key] = jax.jit(jaxpr_as_fun(closed))
        return self._programs[key]

    def _look(self, call: Call, due: bool) -> None:
        """Read the state that a call is given, where it is small or the step is drawn."""
        state = self._state(call)
        values = [call.arguments[index] for index in state.indices]
        if not values or not (due or (state.table is not None and state.size <= STATE_EACH_STEP)):
            return
        if due:
            jax.block_until_ready(values)
        elif not all(value.is_ready() for value in values):
            return  # reading would wait for the step before, which the script did not
        shape = call.shape(frozenset())
        places = [shape.argument(0, index) for index in state.indices]
        known = [at for at, place in enumerate(places) if place is not None]
        before = [(call.lanes(place.reading), place.index) for place in places if place is not None]
        if not before:
            return
        if state.table is not None:
            now = state.table.read([value.unsafe_buffer_pointer() for value in values], False).lanes
        else:
            now = lanes.take(values).result().lanes
        paths = tuple(call.signature.arguments.leaves[state.indices[at]].path for at in known)
        self._looks.append(_Look(call.step, paths, np.array(now[known]), before))

    def _state(self, call: Call) -> _State:
        signature = call.signature
        if signature not in self._states:
            found = [at for at, output in enumerate(signature.provenance) if output is not None]
            values = [call.arguments[at] for at in found]
            plain = all(_is_plain(value) for value in values)
            table = Table([np.dtype(value.dtype) for value in values], [value.size for value in values]) if plain else None
            self._states[signature] = _State(tuple(found), sum(value.nbytes for value in values) if plain else 0, table)
        return self._states[signature]


def _is_plain(value: Any) -> bool:
    """Say whether an array lies in the host's memory as it is, in one piece."""
    if not isinstance(value, jax.Array) or jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
        return False
    devices = value.devices()
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"


def _copied(given: Any, device: Any = None) -> Any:
    """Return copies once more, because a call may be given their memory; on a device where one is named."""
    leaves, structure = jax.tree.flatten(given)
    copies: Sequence[Any] = kept(leaves)
    if device is not None:
        copies = [jax.device_put(value, device) if isinstance(value, jax.Array) else value for value in copies]
    return jax.tree.unflatten(structure, copies)


def _other_device(given: Any) -> Any:
    """Return another device of the same kind than the one that holds all that a call is given; None where there is none."""
    found = {device for value in jax.tree.leaves(given) if isinstance(value, jax.Array) for device in value.devices()}
    if len(found) != 1:
        return None
    (own,) = found
    others = [device for device in jax.local_devices(backend=own.platform) if device != own]
    return next((device for device in others if device.device_kind == own.device_kind), None)


def _place(training: Training, leaf: Leaf) -> tuple[str, str]:
    """Return phase and path of an output, as records have them."""
    output = Output(leaf.function, leaf.path)
    if training.state(output) is not None:
        name = training.name(output)
        return phase_of_state(name), name
    if leaf.each.is_scalar or not (is_gradient(leaf.path) or leaf.function not in training.owners):
        return "forward", leaf.path
    return "grads", gradient_path(leaf.path)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
