"""What a training hands on: which outputs of its functions are state, and under which names records have them.

A generative adversarial pair, `d = d_step(d, g, x)` and then `g = g_step(g, d, z)` in each round:

    step        g_step, whose calls end the steps
    carried     d and g of d_step, g of g_step: what a step starts from, each the output that it was in the step before
    within      d of g_step: it comes out of d_step in the same step
    by hand     none; where gradients come out and the script moves parameters itself, those are

All that is known is an immutable value: who learns something gets a new one, and what was worked out from the former one
(see `functools.cache` in this room: a plan is a function of its arguments and of nothing else) is not asked for any more.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from reprotui.observe.jax_calls import Call
from reprotui.observe.jax_signature import CallSignature, Function, Leaf, TreeSignature
from reprotui.observe.names import ShapeDtype, by_argument, looks_like_state, state_path


class Output(NamedTuple):
    """An output of a function."""

    function: Function
    path: str


class State(NamedTuple):
    """State that a function hands on: the path by which it goes into a function, and the name that records give it."""

    path: str
    name: str

    @property
    def argument(self) -> str:
        return self.path.split("/", 1)[0]

    @classmethod
    def of(cls, argument: Leaf, output: Leaf) -> "State":
        """Name the state that comes out as one leaf and goes in as another."""
        in_optimizer = argument.in_optimizer or output.in_optimizer
        return cls(argument.path, state_path(argument.path, argument.aval, in_optimizer))


@dataclass(frozen=True, eq=False)
class Training:
    """Functions that hand the state of a training round, and what is known of the state.

    Attributes:
        step: the function whose calls end the steps.
        functions: those that hand state round, the step among them.
        feeders: others whose results go into them along the way.
        carried_over: state that goes from step to step, by the output that it is.
        within: the same, from function to function of one step.
        received: the arguments of each function that training functions were seen to give.
        carried: those of them that a step starts from, each with the output that it was in the step before.
        new_each_step: arguments that come from training functions now and then only.
        evaluations: functions that write into the state along the way, and take no step.
    """

    step: Function
    functions: frozenset[Function]
    feeders: frozenset[Function] = frozenset()
    carried_over: Mapping[Output, State] = field(default_factory=dict)
    within: Mapping[Output, State] = field(default_factory=dict)
    received: Mapping[Function, frozenset[str]] = field(default_factory=dict)
    carried: Mapping[Function, Mapping[str, Output]] = field(default_factory=dict)
    new_each_step: frozenset[tuple[Function, str]] = frozenset()
    evaluations: frozenset[Function] = frozenset()

    @functools.cached_property
    def observed(self) -> frozenset[Function]:
        """Return all functions whose calls make up the steps."""
        return self.functions | self.feeders

    def learn(self, call: Call) -> "Training":
        """Note which arguments of a call training functions gave, in this step or the one before."""
        function = call.function
        if function not in self.functions:
            return self
        received, carried = set(self.received.get(function, ())), dict(self.carried.get(function, {}))
        carried_over, within = dict(self.carried_over), dict(self.within)
        learnt = False
        for argument, output in call.signature.pairs:
            if output is None or output.function not in self.functions:
                continue
            learnt = True
            received.add(argument.path)
            given = Output(output.function, output.path)
            before = call.sources[output.function].step < call.step
            if before:
                carried[argument.path] = given
            known = carried_over if before else within
            # A function's own argument is the best name of what it gives.
            if given not in known or output.function is function:
                known[given] = State.of(argument, output)
        if not learnt:
            return self
        return replace(
            self,
            carried_over=carried_over,
            within=within,
            received={**self.received, function: frozenset(received)},
            carried={**self.carried, function: carried} if carried else self.carried,
        )

    def learn_new(self, call: Call) -> "Training":
        """Note which arguments of a call did not come from training functions, where they were seen to do so."""
        if call.step <= 1:
            return self
        new = {argument.path for argument, output in call.signature.pairs if output is None}
        found = {(call.function, path) for path in new & self.received.get(call.function, frozenset())}
        return replace(self, new_each_step=self.new_each_step | found) if found else self

    def follow(self, argument: Leaf, output: Leaf) -> "Training":
        """Take an argument of the step for state that an output follows, where no second call shows it."""
        step, given = self.step, Output(self.step, output.path)
        return replace(
            self,
            carried_over={**self.carried_over, given: State.of(argument, output)},
            received={**self.received, step: self.received.get(step, frozenset()) | {argument.path}},
            carried={**self.carried, step: {**self.carried.get(step, {}), argument.path: given}},
        )

    @functools.cached_property
    def keeps_parameters(self) -> bool:
        """Say whether parameters come back by themselves: if not, the script may update them elsewhere."""
        return any(state.name.startswith("params/") for state in self.carried_over.values())

    @functools.cached_property
    def owners(self) -> tuple[Function, ...]:
        """Return the functions that give state, in the order in which they were found."""
        passing = [output.function for output in self.within if self._passed_on(output) is not None]
        return tuple(dict.fromkeys([*passing, *(output.function for output in self.carried_over)]))

    def usually_received(self, function: Function) -> set[str]:
        """Return the arguments that training functions usually give, in this step or the one before."""
        return {path for path in self.received.get(function, ()) if (function, path) not in self.new_each_step}

    def carried_by(self, function: Function) -> Mapping[str, Output]:
        """Return the arguments that a step starts from, each with the output that it was in the step before."""
        return self.carried.get(function, {})

    def state(self, output: Output) -> State | None:
        """Return what an output is as state: what the next step starts from, or what another function of this one changes on."""
        return self.carried_over.get(output) or self._passed_on(output)

    def name(self, output: Output) -> str:
        """Return the name of state in records: with what tells it apart where a function has several, or several have some."""
        state = self.state(output)
        assert state is not None
        first, _, rest = state.name.partition("/")
        alike = {
            other.argument
            for known in (self.carried_over, self.within)
            for (owner, _), other in known.items()
            if owner is output.function and other.name.startswith(f"{first}/") and other.argument not in other.name.split("/")
        }
        named = f"{first}/{state.argument}/{rest}" if state.argument in alike and len(alike) > 1 else state.name
        return self.within_function(output.function, named)

    def within_function(self, function: Function, path: str) -> str:
        """Put the name of a function behind a path's first part, where several functions give state."""
        if len(self.owners) < 2 or function not in self.owners:
            return path
        first, _, rest = path.partition("/")
        return f"{first}/{function.name}/{rest}"

    def _passed_on(self, output: Output) -> State | None:
        # What a function got from the step before, and another one gets from it by the same name: state on its way.
        state = self.within.get(output)
        return state if state is not None and state.path in self.carried_by(output.function) else None


@functools.cache
def replaced_arguments(training: Training, signature: CallSignature) -> tuple[int, ...]:
    """Return the arguments of a call that should have come out of a training function, and did not."""
    usual = training.usually_received(signature.function)
    foreign = outside(training, signature)
    return tuple(index for index in foreign if signature.arguments.leaves[index].path in usual)


@functools.cache
def outside(training: Training, signature: CallSignature) -> tuple[int, ...]:
    """Return the arguments of a call that no function of a training gave: new ones, and what others made of its state."""
    known = training.observed
    return tuple(index for index, (_, output) in enumerate(signature.pairs) if output is None or output.function not in known)


# State that the script updates by itself, outside of jitted functions: it shows only as what goes into the next call.

Network = tuple[tuple[str, ShapeDtype], ...]
"""The leaves of an argument that is such state."""


class StateByHand:
    """Which arguments of a training's functions are state of the script's own keeping."""

    def __init__(self) -> None:
        self._paths: dict[Function, frozenset[str]] = {}
        self._networks: dict[str, Network] = {}
        self._noted: set[tuple[CallSignature, frozenset[str]]] = set()

    @property
    def several(self) -> bool:
        """Say whether there are several networks of it: then the argument's name tells them apart."""
        return len(set(self._networks.values())) > 1

    def arguments(self, training: Training, call: Call) -> frozenset[int]:
        """Return the arguments of a call that are such state: none where parameters come back by themselves."""
        signature = call.signature
        if training.keeps_parameters and signature.function.differentiated is None:
            return frozenset()
        if call.outputs is not None:
            paths = _paths_by_hand(training, signature, call.outputs.signature)
            self._paths[call.function] = paths
            if (signature, paths) not in self._noted:
                self._noted.add((signature, paths))
                foreign = _foreign(training, signature)
                self._networks.update(by_argument((path, aval) for path, aval in foreign.items() if path in paths))
        # Before a call its outputs are not there: what was state in the call before is state now.
        paths = self._paths.get(call.function, frozenset())
        return _arguments_by_hand(training, signature, paths, frozenset(self._networks.items()))


def name_by_hand(path: str, several: bool) -> str:
    """Return the name of such state in records; with the argument's, where there are several networks."""
    first, _, rest = path.partition("/")
    return f"params/{path}" if several else f"params/{rest or first}"


@functools.cache
def _foreign(training: Training, signature: CallSignature) -> Mapping[str, ShapeDtype]:
    """Return the arguments that are no output of the functions of a step."""
    own = training.usually_received(signature.function)
    return {
        argument.path: argument.aval
        for argument, output in signature.pairs
        if argument.path not in own and not (output is not None and output.function in training.observed)
    }


@functools.cache
def _paths_by_hand(training: Training, signature: CallSignature, outputs: TreeSignature) -> frozenset[str]:
    return frozenset(
        changed_like_state(signature.arguments, signature.function.may_be_parameters(_foreign(training, signature)), outputs)
    )


def changed_like_state(arguments: TreeSignature, chosen: Mapping[str, ShapeDtype], outputs: TreeSignature) -> dict[str, str]:
    """Return those of some arguments that look like state which outputs change, each with its output (see `looks_like_state`)."""
    handed_back = {arguments.number(position) for _, position in outputs.passed}
    unchanged = {leaf.path for number, leaf in enumerate(arguments.leaves) if number in handed_back}
    changed = {leaf.path: leaf.aval for leaf in outputs.leaves if not leaf.passed}
    return looks_like_state({path: aval for path, aval in chosen.items() if path not in unchanged}, changed)


@functools.cache
def _arguments_by_hand(
    training: Training, signature: CallSignature, paths: frozenset[str], networks: frozenset[tuple[str, Network]]
) -> frozenset[int]:
    foreign = _foreign(training, signature)
    # The parameters of another network go into a function too, under the name that they have in their own.
    shared = {path for network in by_argument(foreign.items()).items() if network in networks for path, _ in network[1]}
    known = (paths | shared) & foreign.keys()
    return frozenset(index for index, leaf in enumerate(signature.arguments.leaves) if leaf.path in known)
