"""Which function is the train step, and why: it belongs to the loop whose outputs come back as its inputs.

Of `batch = augment(x)`, `params, loss = train(params, batch)`, `mean = average(mean, params)` and `accuracy(params)`:

    train      is the step: called most often among those whose own outputs come back, and of those with most state
    augment    is observed with it: its outputs go into each of its calls
    average    could be the step too (a candidate): what it hands on is noted, and not recorded
    accuracy   hands on nothing

A step is a round of all functions that hand state to one another (a strongly connected part of what goes from call to call),
ended by the one that is called least often and last. An argument that is handed back as it was is no state of whom it passed,
and a function of which all floating-point state is changed by another one too, which changes more, is an evaluation: it writes
counters or batch statistics into the state, and takes no step.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from reprotui.observe.jax_calls import Call
from reprotui.observe.jax_signature import CallSignature, Function, Leaf, TreeSignature
from reprotui.observe.jax_training import Training, changed_like_state
from reprotui.observe.names import is_key
from reprotui.observe.watch import Watch

DECIDING_CALLS = 3
"""Calls of one function after which the train step is chosen: two came back, and a function called once each time
before and after it has been seen as often."""
PATIENT_CALLS = 17
"""The same, where arrays that stay what they are go into that function, and another has not been called yet: it may give them
once for several calls, as an update does for sixteen gradients that are summed."""
REMEMBERED_CALLS = 256
"""Calls that are kept until the train step is chosen, so that its first steps are recorded too."""


class StepSearch:
    """The search for the train step among the calls so far.

    Args:
        watch: the observation of this process.
        functions: all jitted functions; more are added as they are made.
    """

    def __init__(self, watch: Watch, functions: Sequence[Function]) -> None:
        self._watch, self._functions = watch, functions
        self.calls: deque[Call] = deque(maxlen=REMEMBERED_CALLS)

    def likeliest(self, newest: Call | None) -> list[Training]:
        """Return what could be the training, the likeliest first; nothing as long as more calls could tell better.

        Args:
            newest: the newest call; None where the process ends, and the choice is made with what there is.
        """
        if self._watch.options.step_function:
            found = self._asked(final=newest is None)
        else:
            found = self.candidates()
            if newest is None and not found:
                found = self._hidden_loop()
        if not found or (newest is not None and self._unsure(found[0], newest)):
            return []
        return [replace(found[0], feeders=frozenset(_feeders(found[0], self.calls))), *found[1:]]

    def candidates(self) -> list[Training]:
        """Return what could be the training, the likeliest first."""
        loops, counting = _apart_from(find_loops(self.calls), lambda loop: _keeps_more(loop, self.calls))
        newest = {call.function: call for call in self.calls}
        inside = {function for loop in loops + counting for function in loop.functions}
        # Gradients alone: the script moves the parameters itself.
        by_hand = [item for item, call in newest.items() if item not in inside and item.calls > 1 and _gives_gradients(call)]
        by_hand.sort(key=lambda item: -item.calls)
        if by_hand:
            # Gradients of several networks belong to one step where they are taken equally often.
            often = [item for item in by_hand if item.calls >= by_hand[0].calls - 1]
            loops.append(Training(_last_called(often, self.calls), frozenset(often)))
            loops += [Training(item, frozenset({item})) for item in by_hand[len(often) :]]
        return loops + counting

    def _asked(self, final: bool) -> list[Training]:
        """Return the loop around the function that the user named, if it was called."""
        asked = self._watch.options.step_function
        named = [item for item in self._functions if asked in item.names and item.calls]
        if not named and final:
            known = ", ".join(dict.fromkeys(item.name for item in self._functions if item.calls)) or "none"
            self._watch.event("no-step-function", f"no jitted function is called {asked}; called were: {known}")
        if not named or (named[0].calls < DECIDING_CALLS and not final):
            return []
        return [_loop_around(item, self.calls) for item in named if any(call.function is item for call in self.calls)]

    def _unsure(self, training: Training, newest: Call) -> bool:
        """Say whether more calls could show that other functions are part of a loop."""
        if len(self.calls) == REMEMBERED_CALLS:
            return False
        if any(function.calls == 1 for function in training.functions):
            return True
        if training.step.differentiated is None and _keeps_more(training, self.calls):
            return True  # what trains may be called later
        if newest.number >= PATIENT_CALLS or not (
            training.step.differentiated is not None or _gets_constants(training.step, self.calls)
        ):
            return False
        return any(not function.calls and function.module == training.step.module for function in self._functions)

    def _hidden_loop(self) -> list[Training]:
        """Return the function that took and gave most, where none was called with its own outputs."""
        calls = [call for call in self.calls if call.outputs is not None and call.outputs.signature.leaves]
        if not calls:
            return []
        call = min(calls, key=lambda call: (not state_by_hand(call), -_size_of(call)))
        function, training = call.function, Training(call.function, frozenset({call.function}))
        arguments, outputs = ({leaf.path: leaf for leaf in tree.leaves} for tree in _trees(call))
        for path, output in state_by_hand(call).items():
            training = training.follow(arguments[path], outputs[output])
        times = "once" if function.calls == 1 else "without its own outputs"
        if function.loop is None:
            text = "if its loop is inside (scan, fori_loop, while_loop), only what goes in and what comes out can be observed"
        else:
            text = function.loop.told(self._watch.options.inside)
        text = f"{function.name} was called {times}: {text}"
        self._watch.event("loop-hidden", text)
        return [training]


def find_loops(calls: Collection[Call]) -> list[Training]:
    """Return the loops among calls, the likeliest training first: the one with most calls, and of those with most state."""
    newest = {call.function: call.signature for call in calls}
    into: dict[Function, set[Function]] = {function: set() for function in newest}
    for call in calls:
        for output in call.signature.provenance:
            if output is not None and not output.passed and output.function in newest:
                into[output.function].add(call.function)
    loops, handed = [], {}
    for group in _cycles(into):
        training = Training(_last_called(group, calls), group)
        evaluations = _evaluations(group, calls)
        if evaluations:
            functions = group - evaluations
            training = Training(_last_called(functions, calls), functions, evaluations=evaluations)
        leaves = handed[training] = _handed_round(training.functions, newest)
        if not _only_keys(leaves):
            loops.append(training)
    loops.sort(key=lambda loop: (-max(item.calls for item in loop.functions), -_elements(handed[loop])))
    return loops


def _evaluations(group: Collection[Function], calls: Iterable[Call]) -> frozenset[Function]:
    """Return the functions of a group that change no floating-point state but what another one changes too, and that more."""
    changed: dict[Function, set[tuple[Function, str]]] = {function: set() for function in group}
    for call in calls:
        for argument, output in call.signature.pairs if call.function in group else ():
            if output is not None and not output.passed and output.function in group and argument.aval.is_float:
                changed[output.function].add((call.function, argument.path))
    return frozenset(function for function in group if any(changed[function] < other for other in changed.values()))


def _keeps_more(training: Training, calls: Collection[Call]) -> bool:
    """Say whether functions change fewer numbers in arrays than they leave as they are: evaluations do, with batch statistics.

    What sums up metrics changes none at all, and is given the same parameters each time, or hands them back.
    """
    changed, kept = {}, {}
    for call in calls:
        if call.function in training.functions and call.outputs is not None:
            changed.update({leaf.path: leaf for leaf in _given_by(training.functions, call.signature)})
            arguments = call.signature.arguments
            handed_back = [arguments.number(position) for _, position in call.outputs.signature.passed]
            kept.update({leaf.path: leaf for number, leaf in enumerate(arguments.leaves) if number in handed_back})
    numbers = _elements(leaf for leaf in changed.values() if leaf.is_float_array)
    left = _elements(leaf for path, leaf in kept.items() if leaf.is_float_array and path not in changed)
    return numbers < left or (not numbers and _gets_constants(training.step, calls))


def _apart_from(loops: Iterable[Training], said: Callable[[Training], bool]) -> tuple[list[Training], list[Training]]:
    """Return those of which something is not said, and those of which it is."""
    found: tuple[list[Training], list[Training]] = [], []
    for loop in loops:
        found[said(loop)].append(loop)
    return found


def _cycles(into: dict[Function, set[Function]]) -> list[frozenset[Function]]:
    """Return the groups of functions that reach one another."""
    reached = {function: _reached(function, into) for function in into}
    groups: list[frozenset[Function]] = []
    for function in into:
        if function in reached[function] and not any(function in group for group in groups):
            groups.append(frozenset(other for other in reached[function] if function in reached[other]))
    return groups


def _reached(start: Function, into: dict[Function, set[Function]]) -> set[Function]:
    found: set[Function] = set()
    left = list(into[start])
    while left:
        function = left.pop()
        if function not in found:
            found.add(function)
            left.extend(into[function])
    return found


def _loop_around(step: Function, calls: Collection[Call]) -> Training:
    """Return the loop that a function is part of, with its calls as the ends of steps."""
    found = next((loop.functions for loop in find_loops(calls) if step in loop.functions), frozenset({step}))
    return Training(step, found)


def _feeders(training: Training, calls: Iterable[Call]) -> set[Function]:
    """Return functions outside of a loop that are called with each step and whose results go into it."""
    often = min(function.calls for function in training.functions)
    given: Counter[Function] = Counter()
    for call in calls:
        if call.function in training.functions:
            sources = {output.function for output in call.signature.provenance if output is not None and not output.passed}
            given.update(sources - training.functions - training.evaluations)
    # Called once before the first step, it is an initialisation; several times, and given to one step, an evaluation.
    return {
        function for function, steps in given.items() if min(steps, function.calls) >= max(often - 1, 1) and function.calls > 1
    }


def _gets_constants(step: Function, calls: Iterable[Call]) -> bool:
    """Say whether arrays of numbers go into each call of a function unchanged: another one may give them, now and then."""
    own = [set(call.unchanging) for call in calls if call.function is step]
    return bool(own and set.intersection(*own))


def _last_called(group: Collection[Function], calls: Collection[Call]) -> Function:
    """Return the function that ends a step: of those that are called least often, the one that was called last."""
    fewest = min(function.calls for function in group)
    newest_first = reversed([call.function for call in calls])
    return next(function for function in newest_first if function in group and function.calls == fewest)


def _handed_round(group: Collection[Function], newest: dict[Function, CallSignature]) -> list[Leaf]:
    """Return what functions give each other: the arguments."""
    return [argument for function in group for argument in _given_by(group, newest[function])]


def _given_by(group: Collection[Function], signature: CallSignature) -> list[Leaf]:
    """Return the arguments of a call that functions of a group gave, and did not only hand back."""
    pairs = signature.pairs
    return [argument for argument, output in pairs if output is not None and not output.passed and output.function in group]


def _only_keys(leaves: Iterable[Leaf]) -> bool:
    """Say whether all that functions hand round are random keys and counters: a splitter of keys trains nothing."""
    return all(is_key(leaf.path, leaf.aval) or leaf.aval.is_counting for leaf in leaves)


def _elements(leaves: Iterable[Leaf]) -> int:
    return sum(math.prod(leaf.aval.shape) for leaf in leaves)


def _trees(call: Call) -> tuple[TreeSignature, TreeSignature]:
    """Return the arguments and the outputs of a call; without outputs, where it is not over, none."""
    outputs = call.outputs.signature if call.outputs else TreeSignature((), None, ())
    return call.signature.arguments, outputs


def _size_of(call: Call) -> int:
    return sum(_elements(tree.leaves) for tree in _trees(call))


def _gives_gradients(call: Call) -> bool:
    """Say whether what a call gives looks like gradients of what it was given; a loop of its own gives none."""
    return call.function.handed_on is None and bool(state_by_hand(call))


def state_by_hand(call: Call) -> dict[str, str]:
    """Return the arguments of a call that look like state which it changed, each with its output."""
    arguments, outputs = _trees(call)
    if call.function.handed_on is not None:
        begins, ends = call.function.handed_on
        found = {path: path.replace(begins, ends, 1) for path in arguments.avals if path.partition("/")[0] == begins}
        return {path: output for path, output in found.items() if output in outputs.avals}
    return changed_like_state(arguments, call.function.may_be_parameters(arguments.avals), outputs)
