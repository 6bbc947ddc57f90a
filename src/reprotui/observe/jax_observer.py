"""Find the train step among the calls of jitted functions: it is the one whose outputs come back as its inputs."""

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from reprotui.observe.jax_calls import Call, Function, Leaves, Origins, fed_size, kinds, only_keys, take
from reprotui.observe.jax_functions import is_tracing, observed_jit
from reprotui.observe.jax_steps import StepBuilder
from reprotui.observe.roles import outside_state
from reprotui.observe.watch import Watch
from reprotui.record.frameworks import describe_jax
from reprotui.record.lanes import to_numpy
from reprotui.record.session import StopTraining

DECIDING_CALLS = 3
"""Calls of one function after which the train step is chosen: two came back, and a function called once each time
before and after it has been seen as often."""
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
            self._choose(final=True)
        if self._builder is not None:
            self._builder.finish()
        self._watch.candidates.update({item.name: item.calls for item in self._candidates()})

    @property
    def _active(self) -> bool:
        return self._watch.recording if self._watch.options.record else True

    def _interesting(self, function: Function) -> bool:
        if self._watch.owner not in (None, self) or not self._active:
            return False
        if self._builder is None or function in self._builder.functions:
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
        origins, sources = self._origins.find(inputs.values)
        call = Call(function, function.calls, function.look(side, origins), inputs, sources, Leaves(side, inputs.values))
        if self._builder is not None:
            self._builder.begin(call)
        elif self._watch.options.record:
            # What came out of an observed function has its checksum already; the rest may be donated by this call.
            wanted = tuple(index for index, origin in enumerate(origins) if origin is None)
            take(self._watch.assembly, (inputs, wanted))
        return call

    def _after(self, call: Call, result: Any) -> None:
        outputs = call.outputs = call.function.outputs(result)
        self._origins.replace(call.function, outputs)
        if self._builder is not None:
            self._builder.end(call)
            return
        if self._watch.options.record:
            take(self._watch.assembly, (outputs, tuple(range(len(outputs.values)))))
        call.function.last = outputs.side, outputs.values
        self._calls.append(call)
        if call.number >= DECIDING_CALLS or (call.number == 2 and self._watch.options.step_function):
            self._choose()
        call.release()

    def _candidates(self) -> list[Function]:
        """Return the functions that could be the train step, the likeliest first."""
        newest = {call.function: call for call in self._calls}
        fed = [item for item in newest if item.fed and not only_keys(item, newest[item])]
        fed.sort(key=lambda item: (-item.calls, -fed_size(item, newest[item])))
        outside = [
            item for item, call in newest.items() if item not in fed and not item.fed and item.calls > 1 and _outside_state(call)
        ]
        return fed + sorted(outside, key=lambda item: -item.calls)

    def _choose(self, final: bool = False) -> None:
        asked = self._watch.options.step_function
        candidates = self._candidates()
        if asked is not None:
            named = [item for item in self._functions if asked in (item.name, item.name.rpartition(".")[2]) and item.calls]
            if not named and final:
                known = ", ".join(dict.fromkeys(item.name for item in self._functions if item.calls)) or "none"
                self._watch.event("no-step-function", f"no jitted function is called {asked}; called were: {known}")
            if not named or (named[0].calls < 2 and not final):
                return
            candidates = [item for item in named if any(call.function is item for call in self._calls)]
        if not candidates and final:
            candidates = self._hidden_loop()
        if not candidates or not self._watch.claim(self, f"train step: {candidates[0].name}", describe_jax()):
            return
        step = candidates[0]
        example = next(call for call in reversed(self._calls) if call.function is step)
        companions = {
            origin.function
            for call in self._calls
            if call.function is step
            for origin in call.look.origins
            if origin is not None and _is_called_along(origin.function, step)
        }
        others = [f"{item.name} ({item.calls} calls)" for item in candidates[1:] if item not in companions]
        if others and asked is None:
            text = f"{step.name} is taken for the train step; {', '.join(others)} could be: --step-function NAME chooses"
            self._watch.event("candidates", text)
        self._builder = StepBuilder(self._watch, step, companions | {step}, example)
        self._watch.final = self._final_leaves
        for call in self._calls:
            if call.function in self._builder.functions:
                self._builder.replay(call)
        self._calls.clear()
        for function in self._functions:
            if function is not step:
                function.last = None  # only the state of the train step is kept alive to the end

    def _hidden_loop(self) -> list[Function]:
        """Return the function that took and gave most, where none was called with its own outputs."""
        calls = [call for call in self._calls if call.outputs is not None and call.outputs.side.places]
        if not calls:
            return []
        ranked = sorted(calls, key=lambda call: (not _outside_state(call), -_size(call)))
        name = ranked[0].function.name
        for path, output in _outside_state(ranked[0]).items():
            ranked[0].function.feed(path, output)
        text = (
            f"{name} was called {'once' if ranked[0].function.calls == 1 else 'without its own outputs'}: if its loop is inside "
            "(scan, fori_loop, while_loop), only what goes in and what comes out can be observed"
        )
        self._watch.event("loop-hidden", text)
        return [ranked[0].function]

    def _final_leaves(self) -> list[tuple[Any, np.ndarray]]:
        import jax
        import jax.numpy as jnp

        builder = self._builder
        assert builder is not None
        leaves = []
        side, values = builder.step.last or (None, ())
        for place, value in zip(side.places if side else (), values, strict=True):
            if isinstance(value, jax.Array) and value.is_deleted():
                continue
            key = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
            leaves.append((place.spec, to_numpy(jax.random.key_data(value) if key else value)))
        return leaves


def _outside_state(call: Call) -> dict[str, str]:
    return outside_state(kinds(call.look.inputs), kinds(call.outputs.side if call.outputs else None))


def _is_called_along(function: Function, step: Function) -> bool:
    """Say whether a function is called with each step, rather than once before the first (an initialisation)."""
    return function is not step and function.calls >= step.calls - 1 and function.calls > 1


def _size(call: Call) -> int:
    sides = [call.look.inputs, *([call.outputs.side] if call.outputs else [])]
    return sum(math.prod(place.kind[0]) for side in sides for place in side.places)
