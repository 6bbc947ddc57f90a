"""The loop that a training goes round in: which jitted functions it calls, and what they hand on from step to step."""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from reprotui.observe.jax_calls import Call, Function, Place
from reprotui.observe.once import Once
from reprotui.observe.roles import is_key, state_path


class Handed(NamedTuple):
    """State that a function hands on: the path by which it goes into a function, and the name that records give it."""

    path: str
    name: str

    @property
    def argument(self) -> str:
        return self.path.split("/", 1)[0]


class Loop:
    """Functions that hand the state of a training round, such as a train step, or the two of a generative adversarial pair.

    Args:
        step: the function whose calls end the steps.
        training: the functions that hand state round, the step among them.

    Attributes:
        functions: those, and others whose results go into them along the way.
        version: counts what was learnt.
    """

    def __init__(self, step: Function, training: Collection[Function]) -> None:
        self.step, self.training = step, frozenset(training)
        self.functions = self.training
        self.version = 0
        self._handed: dict[tuple[Function, str], Handed] = {}
        self._within: dict[tuple[Function, str], Handed] = {}
        self._received: dict[Function, set[str]] = {}
        self._carried: dict[Function, dict[str, tuple[Function, str]]] = {}
        self._new_each_step: set[tuple[Function, str]] = set()
        self._looks: set[object] = set()
        self._once = Once()

    def read(self, calls: Sequence[Call]) -> None:
        """Learn from the first calls of a training what its functions hand on, and number their steps."""
        number = 1
        for call in calls:
            call.number_step(number)
            number += call.function is self.step
        for call in calls:
            self.learn(call)
        for call in calls:
            missing = (place for place, origin in zip(call.look.inputs.places, call.look.origins, strict=True) if origin is None)
            if call.step > 1:
                received = self._received.get(call.function, set())
                self._new_each_step |= {(call.function, place.path) for place in missing if place.path in received}

    def learn(self, call: Call) -> None:
        """Note which inputs of a call training functions gave, in this step or the one before."""
        if call.look in self._looks or call.function not in self.training:
            return
        self._looks.add(call.look)
        before = self.version
        for place, origin in zip(call.look.inputs.places, call.look.origins, strict=True):
            if origin is None or origin.function not in self.training:
                continue
            source = call.sources[origin.function]
            self._received.setdefault(call.function, set()).add(place.path)
            given = origin.function, origin.path
            if source.step < call.step:
                self._carried.setdefault(call.function, {})[place.path] = given
                known = self._handed
            else:
                known = self._within
            # A function's own argument is the best name of what it gives.
            if given not in known or origin.function is call.function:
                known[given] = _handed(place, origin)
            self.version = before + 1

    def feed(self, place: Place, output: Place) -> None:
        """Take an input of the step for state that an output follows, where no second call shows it."""
        self._received.setdefault(self.step, set()).add(place.path)
        self._carried.setdefault(self.step, {})[place.path] = self.step, output.path
        self._handed[self.step, output.path] = _handed(place, output)
        self.version += 1

    @property
    def keeps_parameters(self) -> bool:
        """Say whether parameters come back by themselves: if not, the script may update them elsewhere."""
        return self._once(
            ("parameters", self.version), lambda: any(handed.name.startswith("params/") for handed in self._handed.values())
        )

    @property
    def owners(self) -> list[Function]:
        """Return the functions that give state, in the order in which they were found."""
        return self._once(("owners", self.version), self._owners)

    def _owners(self) -> list[Function]:
        found = dict.fromkeys(function for function, _ in self._handed)
        passing = [function for function, path in self._within if self._passed_on(function, path) is not None]
        return list(dict.fromkeys([*passing, *found]))

    def received(self, function: Function) -> set[str]:
        """Return the inputs that training functions usually give, in this step or the one before."""
        return {path for path in self._received.get(function, ()) if (function, path) not in self._new_each_step}

    def carried(self, function: Function) -> dict[str, tuple[Function, str]]:
        """Return the inputs that a step starts from, each with the output that it was in the step before."""
        return self._carried.get(function, {})

    def replaced(self, call: Call) -> tuple[int, ...]:
        """Return the inputs of a call that should have come out of a training function, and did not."""

        def replaced() -> tuple[int, ...]:
            usual = self.received(call.function)
            found = enumerate(zip(call.look.inputs.places, call.look.origins, strict=True))
            return tuple(index for index, (place, origin) in found if origin is None and place.path in usual)

        # The first step starts from what the script made.
        return () if call.step == 1 else self._once(("replaced", call.look, self.version), replaced)

    def state(self, function: Function, output: str) -> Handed | None:
        """Return what an output is as state: what the next step starts from, or what another function of this one changes on."""
        return self._handed.get((function, output)) or self._passed_on(function, output)

    def name(self, function: Function, output: str) -> str:
        """Return the name of state in records: with what tells it apart where a function has several, or several have some."""
        state = self.state(function, output)
        assert state is not None
        first, _, rest = state.name.partition("/")
        alike = {
            handed.argument
            for known in (self._handed, self._within)
            for (owner, _), handed in known.items()
            if owner is function and handed.name.startswith(f"{first}/") and handed.argument not in handed.name.split("/")
        }
        return self.within(
            function, f"{first}/{state.argument}/{rest}" if state.argument in alike and len(alike) > 1 else state.name
        )

    def within(self, function: Function, path: str) -> str:
        """Put the name of a function behind a path's first part, where several functions give state."""
        if len(self.owners) < 2 or function not in self.owners:
            return path
        first, _, rest = path.partition("/")
        return f"{first}/{function.name}/{rest}"

    def _passed_on(self, function: Function, output: str) -> Handed | None:
        # What a function got from the step before, and another one gets from it by the same name: state on its way.
        handed = self._within.get((function, output))
        return handed if handed is not None and handed.path in self._carried.get(function, {}) else None


def _handed(place: Place, output: Place) -> Handed:
    return Handed(place.path, state_path(place.path, place.kind, place.in_optimizer or output.in_optimizer))


def find_loops(calls: Sequence[Call]) -> list[Loop]:
    """Return the loops among calls, the likeliest training first: the one with most calls, and of those with most state."""
    newest = {call.function: call for call in calls}
    into: dict[Function, set[Function]] = {function: set() for function in newest}
    for call in calls:
        for origin in call.look.origins:
            if origin is not None and origin.function in newest:
                into[origin.function].add(call.function)
    groups = _cycles(into)
    loops = [Loop(last_called(group, calls), group) for group in groups if not _only_keys(group, newest)]
    loops.sort(key=lambda loop: (-max(item.calls for item in loop.training), -size_of(_round(loop.training, newest))))
    return loops


def loop_around(step: Function, calls: Sequence[Call]) -> Loop:
    """Return the loop that a function is part of, with its calls as the ends of steps."""
    found = next((loop.training for loop in find_loops(calls) if step in loop.training), frozenset({step}))
    return Loop(step, found)


def feeders(loop: Loop, calls: Sequence[Call]) -> set[Function]:
    """Return functions outside of a loop that are called with each step and whose results go into it."""
    often = min(function.calls for function in loop.training)
    return {
        origin.function
        for call in calls
        if call.function in loop.training
        for origin in call.look.origins
        # Called once before the first step, it is an initialisation.
        if origin is not None and origin.function not in loop.training and 1 < origin.function.calls >= often - 1
    }


def gets_constants(step: Function, calls: Sequence[Call]) -> bool:
    """Say whether arrays of numbers go into each call of a function unchanged: another one may give them, now and then."""
    own = [call for call in calls if call.function is step]
    if not own:
        return False
    same = set(own[0].constants)
    for call in own[1:]:
        same &= set(call.constants)
    return bool(same)


def _cycles(into: dict[Function, set[Function]]) -> list[set[Function]]:
    reach = {function: _reached(function, into.__getitem__) for function in into}
    groups: list[set[Function]] = []
    for function in into:
        if function in reach[function] and not any(function in group for group in groups):
            groups.append({other for other in reach[function] if function in reach[other]})
    return groups


def _reached(start: Function, following: Callable[[Function], set[Function]]) -> set[Function]:
    found: set[Function] = set()
    left = list(following(start))
    while left:
        function = left.pop()
        if function not in found:
            found.add(function)
            left.extend(following(function))
    return found


def last_called(group: Collection[Function], calls: Sequence[Call]) -> Function:
    """Return the function that ends a step: of those that are called least often, the one that was called last."""
    fewest = min(function.calls for function in group)
    return next(call.function for call in reversed(calls) if call.function in group and call.function.calls == fewest)


def _round(group: Collection[Function], newest: dict[Function, Call]) -> list[Place]:
    """Return what functions give each other: the places of inputs."""
    return [
        place
        for function in group
        for place, origin in zip(newest[function].look.inputs.places, newest[function].look.origins, strict=True)
        if origin is not None and origin.function in group
    ]


def _only_keys(group: Collection[Function], newest: dict[Function, Call]) -> bool:
    """Say whether all that functions hand round are random keys and counters: a splitter of keys trains nothing."""
    places = _round(group, newest)
    return all(is_key(place.path, place.kind) or place.kind[1].startswith(("int", "uint")) for place in places)


def size_of(places: Iterable[Place]) -> int:
    """Return the number of elements."""
    return sum(math.prod(place.kind[0]) for place in places)
