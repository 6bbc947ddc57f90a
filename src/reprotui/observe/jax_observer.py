"""Find the train step among the calls of jitted functions: it is the one whose outputs come back as its inputs."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from reprotui.observe.elsewhere import Elsewhere
from reprotui.observe.jax_calls import Call, Function, Leaves, kinds, take
from reprotui.observe.jax_functions import is_tracing, observed_jit
from reprotui.observe.jax_loop import Loop, feeders, find_loops, gets_constants, last_called, loop_around, size_of
from reprotui.observe.jax_origins import Origins
from reprotui.observe.jax_steps import StepBuilder
from reprotui.observe.roles import outside_state
from reprotui.observe.watch import Watch
from reprotui.record.frameworks import describe_jax
from reprotui.record.lanes import to_numpy
from reprotui.record.session import StopTraining

DECIDING_CALLS = 3
"""Calls of one function after which the train step is chosen: two came back, and a function called once each time
before and after it has been seen as often."""
PATIENT_CALLS = 17
"""The same, where arrays that stay what they are go into that function, and another has not been called yet: it may give them
once for several calls, as an update does for sixteen gradients that are summed."""
REMEMBERED_CALLS = 256
"""Calls that are kept until the train step is chosen, so that its first steps are recorded too."""


def install(jax: Any, watch: Watch) -> None:
    """Observe `jax.jit` from now on."""
    observer = JaxObserver(watch)
    watch.finishers.append(observer.finish)
    jax.jit = observed_jit(jax.jit, observer.register)


class JaxObserver:
    """The observer of one process's jitted functions."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._functions: list[Function] = []
        self._origins = Origins()
        self._calls: deque[Call] = deque(maxlen=REMEMBERED_CALLS)
        self._builder: StepBuilder | None = None
        self._elsewhere = Elsewhere()
        self._inside = False

    def register(self, real: Any) -> Callable[..., Any]:
        """Return what the calls of a jitted function go through."""
        function = Function.of(real)
        self._functions.append(function)

        def call(args: Any, kwargs: Any) -> Any:
            if self._inside or not self._interesting(function):
                return real(*args, **kwargs)
            return self._observe(function, args, kwargs)

        return call

    def finish(self) -> None:
        """Record what is open; choose now where the process ends before a choice was made."""
        if self._watch.owner not in (None, self) or not self._active:
            return
        if self._builder is None:
            self._choose()
        if self._builder is not None:
            self._builder.finish()
            self._watch.coverage.made((item.name, item.calls) for item in self._functions if item in self._builder.loop.training)
            self._elsewhere.report(self._watch)
        self._watch.candidates.update({loop.step.name: loop.step.calls for loop in self._candidates()})

    @property
    def _active(self) -> bool:
        return self._watch.recording if self._watch.options.record else True

    def _interesting(self, function: Function) -> bool:
        if self._watch.owner not in (None, self) or not self._active:
            return False
        if self._builder is None or function in self._builder.loop.functions or self._elsewhere.curious(function):
            return True
        function.calls += 1
        return False

    def _observe(self, function: Function, args: Any, kwargs: Any) -> Any:
        self._inside = True
        try:
            call = self._guard(lambda: self._before(function, args, kwargs))
            result = function.real(*args, **kwargs)
            if call is not None:
                self._guard(lambda: self._after(call, result))
        finally:
            self._inside = False
        return result

    def _guard(self, action: Callable[[], Any]) -> Any:
        """Run what only observes: an error in it ends the observation, never the training."""
        try:
            return action()
        except StopTraining:
            raise
        except Exception as error:
            self._watch.give_up(error)
            return None

    def _before(self, function: Function, args: Any, kwargs: Any) -> Call | None:
        import jax

        values, structure = jax.tree.flatten((args, kwargs))
        if is_tracing(values):
            return None
        function.calls += 1
        side = function.inputs(args, kwargs, values, structure)
        inputs = Leaves(side, side.leaves(values))
        if self._builder is not None and function not in self._builder.loop.functions:
            return self._elsewhere.begin(function, inputs, self._origins.find(inputs.values))
        look = function.look(side, inputs.values, self._origins)
        sources = self._origins.results(look.sources)
        call = Call(function, function.calls, look, inputs, sources, Leaves(side, inputs.values))
        if self._builder is not None:
            self._builder.begin(call)
            return call
        origins = look.origins
        found = enumerate(zip(side.places, origins, strict=True))
        numbers = [
            index for index, (place, origin) in found if place.is_numbers and (origin is None or origin.function is not function)
        ]
        call.constants = tuple((index, id(inputs.values[index])) for index in numbers)
        if self._watch.options.record:
            # What came out of an observed function has its checksum already; the rest may be donated by this call.
            wanted = tuple(index for index, origin in enumerate(origins) if origin is None)
            take(self._watch.assembly, (inputs, wanted))
        return call

    def _after(self, call: Call, result: Any) -> None:
        outputs = call.outputs = call.function.outputs(result)
        if self._builder is not None and call.function not in self._builder.loop.functions:
            self._elsewhere.end(call)
            return
        self._origins.replace(call.function, outputs)
        if self._builder is not None:
            self._builder.end(call)
            return
        if self._watch.options.record:
            take(self._watch.assembly, (outputs, outputs.side.everything))
        call.function.last = outputs.side, outputs.values
        self._calls.append(call)
        if call.number >= DECIDING_CALLS:
            self._choose(call)
        call.release()

    def _candidates(self) -> list[Loop]:
        """Return what could be the training, the likeliest first."""
        loops = find_loops(self._calls)
        newest = {call.function: call for call in self._calls}
        inside = {function for loop in loops for function in loop.training}
        outside = [item for item, call in newest.items() if item not in inside and item.calls > 1 and _outside_state(call)]
        outside.sort(key=lambda item: -item.calls)
        if outside:
            # Gradients of several networks belong to one step where they are taken equally often.
            often = [item for item in outside if item.calls >= outside[0].calls - 1]
            loops.append(Loop(last_called(often, self._calls), often))
            loops += [Loop(item, {item}) for item in outside[len(often) :]]
        return loops

    def _choose(self, newest: Call | None = None) -> None:
        """Choose the training if it can be told by now, or where no call is the newest one because the process ends."""
        candidates = self._asked(newest is None) if self._watch.options.step_function else self._candidates()
        if newest is None and not candidates and not self._watch.options.step_function:
            candidates = self._hidden_loop()
        if not candidates or (newest is not None and self._unsure(candidates[0], newest)):
            return
        loop = candidates[0]
        loop.functions |= feeders(loop, self._calls)
        also = ", ".join(item.name for item in self._functions if item in loop.training and item is not loop.step)
        if not self._watch.claim(self, f"train step: {loop.step.name}{f', with {also}' if also else ''}", describe_jax()):
            return
        others = [f"{item.step.name} ({item.step.calls} calls)" for item in candidates[1:] if item.step not in loop.functions]
        self._elsewhere.learn((call for call in self._calls if call.function not in loop.functions), loop.functions)
        if others and self._watch.options.step_function is None:
            text = f"{loop.step.name} is taken for the train step; {', '.join(others)} could be: --step-function NAME chooses"
            self._watch.event("candidates", text)
        self._watch.final = self._final_leaves
        self._builder = StepBuilder(self._watch, loop)
        self._builder.replay([call for call in self._calls if call.function in loop.functions])
        self._calls.clear()
        for function in self._functions:
            if function is not loop.step and function not in loop.owners:
                function.last = None  # only the state of the training is kept alive to the end

    def _asked(self, final: bool) -> list[Loop]:
        """Return the loop around the function that the user named, if it was called."""
        asked = self._watch.options.step_function
        named = [item for item in self._functions if asked in (item.name, item.name.rpartition(".")[2]) and item.calls]
        if not named and final:
            known = ", ".join(dict.fromkeys(item.name for item in self._functions if item.calls)) or "none"
            self._watch.event("no-step-function", f"no jitted function is called {asked}; called were: {known}")
        if not named or (named[0].calls < DECIDING_CALLS and not final):
            return []
        return [loop_around(item, self._calls) for item in named if any(call.function is item for call in self._calls)]

    def _unsure(self, loop: Loop, newest: Call) -> bool:
        """Say whether more calls could show that other functions are part of a loop."""
        if len(self._calls) == REMEMBERED_CALLS:
            return False
        if any(function.calls == 1 for function in loop.training):
            return True
        if newest.number >= PATIENT_CALLS or not gets_constants(loop.step, self._calls):
            return False
        return any(not function.calls and function.module == loop.step.module for function in self._functions)

    def _hidden_loop(self) -> list[Loop]:
        """Return the function that took and gave most, where none was called with its own outputs."""
        calls = [call for call in self._calls if call.outputs is not None and call.outputs.side.places]
        if not calls:
            return []
        call = min(calls, key=lambda call: (not _outside_state(call), -_size(call)))
        function, loop = call.function, Loop(call.function, {call.function})
        inputs = {place.path: place for place in call.look.inputs.places}
        outputs = {place.path: place for place in call.outputs.side.places} if call.outputs else {}
        for path, output in _outside_state(call).items():
            loop.feed(inputs[path], outputs[output])
        text = (
            f"{function.name} was called {'once' if function.calls == 1 else 'without its own outputs'}: if its loop is inside "
            "(scan, fori_loop, while_loop), only what goes in and what comes out can be observed"
        )
        self._watch.event("loop-hidden", text)
        return [loop]

    def _final_leaves(self) -> list[tuple[Any, np.ndarray]]:
        import jax
        import jax.numpy as jnp

        builder = self._builder
        assert builder is not None
        leaves = []
        for function in builder.loop.owners or [builder.loop.step]:
            side, values = function.last or (None, ())
            for place, value in zip(side.places if side else (), values, strict=True):
                if isinstance(value, jax.Array) and value.is_deleted():
                    continue
                key = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
                leaves.append((place.spec, to_numpy(jax.random.key_data(value) if key else value)))
        return leaves


def _outside_state(call: Call) -> dict[str, str]:
    return outside_state(kinds(call.look.inputs), kinds(call.outputs.side if call.outputs else None))


def _size(call: Call) -> int:
    sides = [call.look.inputs, *([call.outputs.side] if call.outputs else [])]
    return sum(size_of(side.places) for side in sides)
