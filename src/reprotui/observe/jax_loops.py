"""Loops of jax that a script runs without `jit`: one call of `lax.scan`, `fori_loop` or `while_loop` is one call of a function.

(params, opt_state), losses = jax.lax.scan(update, (params, opt_state), X)    # observed as scan(update)

arguments    X               by the variable that holds them, else by the parameter of `update`
             c/0/w
             captured/y      what `update` captured
outputs      0/0/w, 1        the last state, the losses of all iterations
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import primitives

from reprotui.observe.jax_bodies import Body, Operation, Program
from reprotui.observe.jax_eager import CAPTURED, Described, EagerFunctions, Made, Observer
from reprotui.observe.jax_inside import Loops, Places, Replay
from reprotui.observe.jax_signature import Function
from reprotui.observe.names import parameter_names, variable_of

HERE = "reprotui."
STATE, STACKED = "carry", "ys"
"""What the outputs of a loop are called: the state that it ends with, and what its iterations gave."""


class Loop(NamedTuple):
    """A loop that jax ran for a call: the operation, what went into it, and how that is divided."""

    primitive: Any
    params: Mapping[str, Any]
    given: tuple[Any, ...]
    body: Body

    @property
    def constants(self) -> tuple[Any, ...]:
        """Return the values that the loop's function captured."""
        return self.given[: self.body.constants]

    def program(self, results: int) -> Program:
        """Return the call as a program of this one operation, with so many results."""
        inputs = tuple(range(len(self.given)))
        outputs = tuple(range(len(inputs), len(inputs) + results))
        return Program({}, inputs, (Operation(self.primitive, self.params, inputs, outputs),), outputs)


class Kind(NamedTuple):
    """A loop of jax's: its name, the parameters that are its function and its state, and what its arguments are shown as."""

    name: str
    body: str
    state: str
    shown: Callable[[Mapping[str, Any], tuple[str, ...]], dict[str, Any]]


def install(module: Any, observer: Observer, functions: EagerFunctions) -> None:
    """Observe the loops of `jax.lax` from now on."""
    room = _Room(observer, functions, _Ran())
    for kind in KINDS:
        setattr(module.lax, kind.name, _observed(kind, getattr(module.lax, kind.name), room))


class _Room(NamedTuple):
    observer: Observer
    functions: EagerFunctions
    ran: "_Ran"


class _Ran:
    """The loops that jax runs while a call is observed, with the constants that they were given."""

    def __init__(self) -> None:
        self._loops: list[Loop] | None = None
        for primitive in (primitives.scan_p, primitives.while_p):
            primitive.impl = self._noting(primitive)

    def noting(self, run: Callable[[], Any], loops: list[Loop]) -> Any:
        """Make a call, and put the loops that jax runs for it into a list."""
        self._loops = loops
        try:
            return run()
        finally:
            self._loops = None

    def _noting(self, primitive: Any) -> Callable[..., Any]:
        real = primitive.impl

        @functools.wraps(real)
        def run(*args: Any, **params: Any) -> Any:
            body = None if self._loops is None else Body.of(primitive.name, params, len(args))
            if self._loops is not None and body is not None:
                self._loops.append(Loop(primitive, params, args, body))
            return real(*args, **params)

        return run


def _of_scan(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return dict(zip(_two(names, "xs"), (given["init"], given["xs"]), strict=True))


def _of_while(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {names[0] if names else "state": given["init_val"]}


def _of_fori(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {_two(names, "state")[1]: given["init_val"], "lower": given["lower"], "upper": given["upper"]}


def _two(names: tuple[str, ...], second: str) -> tuple[str, str]:
    """Return what the two parameters of a loop's function are called."""
    return (names[0], names[1]) if len(names) > 1 and names[0] != names[1] else ("carry", second)


KINDS = (
    Kind("scan", "f", "init", _of_scan),
    Kind("while_loop", "body_fun", "init_val", _of_while),
    Kind("fori_loop", "body_fun", "init_val", _of_fori),
)


def _observed(kind: Kind, real: Any, room: _Room) -> Any:
    """Return a loop of jax's whose calls are observed."""
    signature = inspect.signature(real)
    variables: dict[Function, dict[str, str]] = {}
    loops: dict[Function, Loops] = {}

    @functools.wraps(real)
    def loop(*args: Any, **kwargs: Any) -> Any:
        def described() -> Described | None:
            given = _bound(signature, args, kwargs)
            function = None if given is None else room.functions.find(kind.name, given[kind.body], real)
            if given is None or function is None:
                return None
            inputs = kind.shown(given, parameter_names(given[kind.body]))
            if function not in variables:
                variables[function] = {name: variable_of(value, HERE) or name for name, value in inputs.items()}
                at = next(name for name, value in inputs.items() if value is given[kind.state])
                function.handed_on = variables[function][at], STATE
            named = {variables[function][name]: value for name, value in inputs.items()}
            return Described(function, ((), named | room.functions.captured(function, given[kind.body])))

        run, called = functools.partial(real, *args, **kwargs), room.observer.own(described)
        if called is None:
            return run()
        function, (_, arguments) = called
        ran: list[Loop] = []

        def gave(result: Any) -> Any:
            outputs.update({STATE: result[0], STACKED: result[1]} if kind.name == "scan" else {STATE: result})
            outputs.update(_constants(ran, arguments))
            return outputs

        def stacked() -> Mapping[int, int]:
            # Trees of dictionaries are flattened in the order of their keys.
            before = sum(len(jax.tree.leaves(tree)) for name, tree in outputs.items() if name < STACKED)
            length = ran[-1].body.length if ran else None
            found = range(len(jax.tree.leaves(outputs.get(STACKED))))
            return {} if length is None else {before + number: length for number in found}

        outputs: dict[str, Any] = {}

        def replay(call: Any) -> Replay | str:
            return _replay(loops[function], call, ran[-1]) if ran else "jax ran no loop"

        loops.setdefault(function, Loops())
        made = Made(lambda: room.ran.noting(run, ran), gave, stacked, lambda: ran[-1].body if ran else None, replay)
        return room.observer.observe(called, made)

    return loop


def _bound(signature: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any] | None:
    """Return the arguments of a call by name; None where jax is going to say what is wrong with them."""
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    return bound.arguments


def _constants(ran: Sequence[Loop], arguments: Any) -> dict[str, Any]:
    """Return what a loop captured and no variable was found for: what was computed from variables on the way, for one."""
    known = {id(leaf) for leaf in jax.tree.leaves(arguments)}
    unknown = [value for value in (ran[-1].constants if ran else ()) if id(value) not in known]
    return {CAPTURED: {f"constant_{number}": value for number, value in enumerate(unknown, 1)}} if unknown else {}


def _replay(loops: Loops, call: Any, ran: Loop) -> Replay | str:
    """Return what computes a loop once more, or the reason why nothing does."""
    begins, _ = call.function.handed_on
    arguments, outputs = call.signature.arguments.leaves, call.outputs.signature.leaves
    state = [at for at, leaf in enumerate(arguments) if leaf.path.partition("/")[0] == begins]
    through = [at for at, leaf in enumerate(arguments) if leaf.path.partition("/")[0] not in (begins, CAPTURED)]
    ends = [at for at, leaf in enumerate(outputs) if leaf.path.partition("/")[0] == STATE]
    stacked = [at for at, leaf in enumerate(outputs) if leaf.path.partition("/")[0] == STACKED]
    body, results = ran.body, ran.body.carried + len(stacked)
    # A loop over numbers carries the number too, before the state.
    first = body.constants + body.carried - len(state)
    entering = dict(zip(range(first, len(ran.given)), state + (through if body.length is not None else []), strict=False))
    leaving = dict(zip(range(body.carried - len(ends), results), ends + stacked, strict=False))
    inside = loops.find((call.signature.arguments, str(ran.params)), lambda: (ran.program(results), Places(entering, leaving)))
    return inside if isinstance(inside, str) else Replay(inside, list(ran.given))
