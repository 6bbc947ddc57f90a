"""`jax.jit` as an observed script sees it: the same functions, whose calls are noticed before and after they are made.

Until the train step is found (`jax_choice`) all calls are kept, and what they give is read at once. From then on the calls of
the training become records (`jax_steps`), and other functions are looked at for a few calls (`jax_choice.Elsewhere`).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from reprotui.checksum.leaves import spec_of, to_numpy
from reprotui.observe import jax_eager, jax_loops
from reprotui.observe.explaining import Reader
from reprotui.observe.jax_bodies import Program, opened
from reprotui.observe.jax_calls import Call, Captured, Provenance, outputs_of
from reprotui.observe.jax_captured import named_constants
from reprotui.observe.jax_checks import JaxChecks
from reprotui.observe.jax_choice import DECIDING_CALLS, StepSearch, state_by_hand
from reprotui.observe.jax_compiled import observe_compiled
from reprotui.observe.jax_eager import DIFFERENTIATED, Described, Made
from reprotui.observe.jax_elsewhere import Elsewhere
from reprotui.observe.jax_inside import Loops, kept
from reprotui.observe.jax_jitted import NOT_OBSERVED, observed_jit
from reprotui.observe.jax_program import is_tracing, traced
from reprotui.observe.jax_reading import reading
from reprotui.observe.jax_signature import Function
from reprotui.observe.jax_steps import StepBuilder
from reprotui.observe.unfound import Seen
from reprotui.observe.watch import Watch
from reprotui.record.frameworks import describe_jax, jax_process


def install(jax: Any, watch: Watch) -> None:
    """Observe `jax.jit`, `jax.pmap`, `jax.shard_map` and what is compiled ahead of its calls from now on."""
    observer = JaxObserver(watch)
    watch.finishers.append(observer.finish)
    observer.reader = None if watch.explaining is None else watch.explaining.read_with("jax", watch, observer)
    jax.jit = observed_jit(jax.jit, observer.register)
    for name, register in (("pmap", observer.register), ("shard_map", observer.register_called)):
        if (made := getattr(jax, name, None)) is not None:
            setattr(jax, name, observed_jit(made, register))
    observe_compiled(jax.stages, observer.register)
    functions = jax_eager.install(jax, observer, NOT_OBSERVED)
    jax_loops.install(jax, observer, functions)


class JaxObserver:
    """The observer of one process's jitted functions."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._functions: list[Function] = []
        self._provenance = Provenance()
        self._search = StepSearch(watch, self._functions)
        self._builder: StepBuilder | None = None
        self._elsewhere = Elsewhere()
        self._inside = False
        self._checks = None if watch.checks is None else JaxChecks(watch.checks)
        self.reader: Reader | None = None
        self.step_function: Function | None = None
        self._by_iteration = watch.options.inside and watch.options.record

    def register(self, real: Any, static: frozenset[str] = frozenset()) -> Callable[..., Any]:
        """Return what the calls of a jitted function go through."""
        function, loops = Function(real), Loops()
        function.static = static
        numbers = getattr(getattr(real, "__wrapped__", None), DIFFERENTIATED, None)
        if numbers is not None:
            function.differentiate(numbers)
        self.add(function)

        def call(args: Any, kwargs: Any) -> Any:
            if self._inside or not self._interesting(function):
                return real(*args, **kwargs)
            program = functools.partial(_program, real, args, kwargs)
            made = Made(
                functools.partial(real, *args, **kwargs), None,
                stacked=lambda: {} if (found := program()) is None else found.stacked(),
                loop=lambda: None if (found := program()) is None else found.body,
                replay=lambda call: loops.replay(call, program),
                captured=lambda arguments: named_constants(real, function.programs.look(arguments, args, kwargs)),
                again=real,
            )  # fmt: skip
            return self._observe(function, (args, kwargs), made)

        return call

    def register_called(self, real: Any, static: frozenset[str]) -> Callable[..., Any]:
        """Return the same of a function that is mostly called where jax traces another one: it counts from its first own call."""
        known: list[Callable[..., Any]] = []

        def call(args: Any, kwargs: Any) -> Any:
            if self._inside or is_tracing(args):
                return real(*args, **kwargs)
            known.extend([] if known else [self.register(real, static)])
            return known[0](args, kwargs)

        return call

    def add(self, function: Function) -> None:
        """Know one more function."""
        self._functions.append(function)

    def own(self, describe: Callable[[], Described | None]) -> Described | None:
        """Describe a call that is one of the script's own: not inside another one, not while jax traces; None for others."""
        if self._inside or not self._watch.active(self) or is_tracing(()):
            return None
        return self._watch.guard(describe)

    def observe(self, called: Described, made: Made) -> Any:
        """Make a call that is none of a jitted function."""
        return self._observe(*called, made) if self._interesting(called.function) else made.run()

    def keeps_unchanged(self) -> bool:
        """Say whether what is the same object as in the call before need not be read again: it lies in each record before."""
        return self._watch.session is not None and self._watch.session.recording.every == 1

    def finish(self) -> None:
        """Record what is open; choose now where the process ends before a choice was made."""
        if not self._watch.active(self):
            return
        if self._builder is None:
            self._choose(None)
        if self._builder is not None:
            self._builder.finish()
            if self._checks is not None:
                self._checks.settle()
            training = self._builder.training.functions
            self._watch.coverage.made((item.name, item.calls) for item in self._functions if item in training)
            self._elsewhere.report(self._watch)
            self._say_captured()
        else:
            self._watch.seen += [Seen(item.name, item.calls, self._why_not(item), item.parameters) for item in self._functions]
        self._watch.candidates.update({item.step.name: item.step.calls for item in self._search.candidates()})

    def _why_not(self, function: Function) -> str:
        """Say why a function is not taken for the train step."""
        asked = self._watch.options.step_function
        if not function.calls:
            return "it was not called by itself: it was lowered, or is part of another function"
        if asked is not None:
            return f"another one was named, {asked}"
        return "it gave no array whose bits can be compared"

    def _say_captured(self) -> None:
        """Tell what the functions of the training captured, where all their programs could be looked at."""
        assert self._builder is not None
        observed = [item for item in self._functions if item in self._builder.training.observed]
        if not any(item.programs.unread for item in observed):
            self._watch.coverage.captured = {item.name: item.captured for item in observed if item.captured}

    def _interesting(self, function: Function) -> bool:
        if not self._watch.active(self):
            return False
        if not self._apart(function):
            return True
        assert self._builder is not None
        self._builder.between(function)
        if self._elsewhere.curious(function):
            return True
        function.calls += 1
        return False

    def _apart(self, function: Function) -> bool:
        """Say whether the training was found, and a function is no part of it."""
        return self._builder is not None and function not in self._builder.training.observed

    def _observe(self, function: Function, arguments: Any, made: Made) -> Any:
        self._inside = True
        try:
            call = self._watch.guard(lambda: self._before(function, arguments))
            checks = self._checks if call is not None and call.step else None  # of a call that is part of a step
            copies = None if checks is None or call is None else checks.before(call, arguments)
            result = made.run() if self.reader is None else self.reader.call(function, arguments, made)
            if call is not None:
                self._watch.guard(lambda: self._after(call, result, made))
            if checks is not None and call is not None and copies is not None and self._builder is not None:
                checks.after(call, made.again, copies, self._builder.training)
        finally:
            self._inside = False
        return result

    def _before(self, function: Function, given: Any) -> Call | None:
        values, structure = jax.tree.flatten(given)
        if is_tracing(values):
            return None
        function.calls += 1
        arguments = function.arguments.signature(given, values, structure)
        values = arguments.comparable(values)
        if self._apart(function):
            return self._elsewhere.begin(function, arguments, values, self._provenance)
        call = self._provenance.call(function, arguments, values)
        call.kept = kept(values) if self._by_iteration else ()
        if self._builder is not None:
            self._builder.begin(call)
            return call
        call.unchanging = tuple(
            (index, id(values[index]))
            for index, (argument, output) in enumerate(call.signature.pairs)
            if argument.is_float_array and (output is None or output.function is not function)
        )
        if self._watch.options.record:
            # What came out of an observed function has its checksum already; the rest may be donated by this call.
            new = reading(call.signature, tuple(sorted(call.signature.new)), None)
            call.before = new.take(self._watch.assembly, values)
        return call

    def _after(self, call: Call, result: Any, made: Made) -> None:
        function = call.function
        if made.captured is not None:
            self._note_captured(call, made.captured(call.signature.arguments))
        if function.calls == 1 and made.loop is not None:
            function.loop = made.loop()
        function.stacked = made.stacked
        outputs = call.outputs = outputs_of(call, result if made.gave is None else made.gave(result))
        function.stacked = None
        if self._apart(function):
            self._elsewhere.end(call, outputs, self._provenance)
            return
        if self._by_iteration:
            call.replay, call.kept = "it is no call of a jitted function" if made.replay is None else made.replay(call), ()
        self._provenance.gave(function, outputs)
        if self._builder is not None:
            self._builder.end(call)
            return
        if not state_by_hand(call):  # who changes state owns what it hands back with it
            self._provenance.pass_on(call, call.signature.provenance, outputs)
        if self._watch.options.record:
            given = reading(call.signature, (), outputs.signature)
            call.after = outputs.taken = given.take(self._watch.assembly, (), outputs.values)
            call.generators = self._watch.take_generators()
        function.final = outputs.signature, outputs.values
        self._search.calls.append(call)
        if call.number >= DECIDING_CALLS:
            self._choose(call)
        call.release()

    def _note_captured(self, call: Call, found: list[tuple[str, Any]]) -> None:
        """Record what the program of a call captured, where it is another one than before."""
        function = call.function
        if found and self._watch.options.record and not self._apart(function):
            names, values = zip(*found, strict=True)
            function.captured += names
            specs = tuple(spec_of(name, value) for name, value in zip(names, values, strict=True))
            call.captured = Captured(specs, self._watch.assembly.take(list(values)))

    def _choose(self, newest: Call | None) -> None:
        """Choose the training if it can be told by now, or where no call is the newest one because the process ends."""
        likeliest = self._search.likeliest(newest)
        if not likeliest:
            return
        training, calls = likeliest[0], list(self._search.calls)
        also = ", ".join(item.name for item in self._functions if item in training.functions and item is not training.step)
        if not self._watch.claim(self, f"train step: {training.step.name}{f', with {also}' if also else ''}", describe_jax()):
            return
        process, processes = jax_process()
        if processes > 1 and (self._watch.session is None or self._watch.session.manifest.rank is None):
            text = (
                f"process {process} of {processes} is recorded; of arrays that are spread over processes, the part that it holds"
            )
            self._watch.event("one-process", text)
            self._watch.coverage.note(text)
        others = [f"{item.step.name} ({item.step.calls} calls)" for item in likeliest[1:] if item.step not in training.observed]
        self._elsewhere.learn((call for call in calls if call.function not in training.observed), training.observed)
        if others and self._watch.options.step_function is None:
            text = f"{training.step.name} is taken for the train step; {', '.join(others)} could be: --step-function NAME chooses"
            self._watch.event("candidates", text)
        loop = training.step.loop
        if loop is not None and newest is not None:
            self._watch.event("loop-inside", f"{training.step.name}: {loop.told(self._watch.options.inside)}")
        self._watch.final = self._final_leaves
        self._builder, self.step_function = StepBuilder(self._watch, training), training.step
        self._builder.replay([call for call in calls if call.function in training.observed])
        if self._checks is not None:
            self._checks.missed(self._builder.number)
        self._search.calls.clear()
        for function in self._functions:
            if function is not training.step and function not in self._builder.training.owners:
                function.final = None  # only the state of the training is kept alive to the end

    def _final_leaves(self) -> list[tuple[Any, np.ndarray]]:
        assert self._builder is not None
        leaves = []
        for function in self._builder.training.owners or [self._builder.training.step]:
            outputs, values = function.final or (None, ())
            for leaf, value in zip(outputs.leaves if outputs else (), values, strict=True):
                if isinstance(value, jax.Array) and value.is_deleted():
                    continue
                leaves.append((spec_of(leaf.path, value), to_numpy(value)))
        return leaves


def _program(real: Any, args: Any, kwargs: Any) -> Program | None:
    """Return the program of a jitted call; asked after the call, which traced it."""
    closed = traced(real, args, kwargs)
    return None if closed is None else opened(closed)
