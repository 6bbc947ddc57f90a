"""jax without `jit`: gradients that a script takes, and loops that it runs, on arrays that are there.

    loss, grads = jax.value_and_grad(loss_fn)(params, x, y)      # is observed as a call of value_and_grad(loss_fn)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)

What is differentiated is the parameters. The same call while jax traces another function, such as a jitted step, is a part of
that one: it goes to jax as it is. A function that is made anew at each step, such as a lambda, is the same by its code.
"""

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

from reprotui.observe.captured import captured, codes, innermost
from reprotui.observe.jax_bodies import Body
from reprotui.observe.jax_inside import Replay
from reprotui.observe.jax_signature import Function, TreeSignature
from reprotui.observe.names import function_name

DIFFERENTIATED = "_reprotui_differentiated"
"""What a gradient carries: the numbers of the arguments that it is taken of, for whoever jits it."""
CAPTURED = "captured"
"""The name of the argument that holds what a function captured."""


class Made(NamedTuple):
    """How a call is made.

    Attributes:
        run: makes it.
        gave: returns what is shown of its result; None where that is all.
        stacked: returns which of its outputs a loop inside gave element by element, with the number of elements.
        loop: returns the loop that it ran inside, None where there was none.
        replay: returns what computes it once more iteration by iteration, or the reason why nothing does.
        again: makes it with other arguments, where nothing of the script runs then; None where there is no such way.
        captured: returns what its program captured that none before it did, with names, given the signature of its arguments.
    """

    run: Callable[[], Any]
    gave: Callable[[Any], Any] | None = None
    stacked: Callable[[], Mapping[int, int]] | None = None
    loop: Callable[[], Body | None] | None = None
    replay: Callable[[Any], Replay | str] | None = None
    captured: Callable[[TreeSignature], list[tuple[str, Any]]] | None = None
    again: Callable[..., Any] | None = None


class Described(NamedTuple):
    """A call: of what function, and its (args, kwargs) as they are shown."""

    function: Function
    arguments: Any


class Observer(Protocol):
    """What takes in the calls of functions."""

    def own(self, describe: Callable[[], Described | None]) -> Described | None:
        """Return what a call that is made now is, where it is one of the script's own; an error in that ends the observation."""
        ...

    def add(self, function: Function) -> None:
        """Know one more function."""
        ...

    def observe(self, called: Described, made: Made) -> Any:
        """Make a call."""
        ...

    def keeps_unchanged(self) -> bool:
        """Say whether what is the same object as in the call before need not be read again."""
        ...


class EagerFunctions:
    """Functions that are called without `jit`, known by what is done with them and by their code."""

    def __init__(self, observer: Observer, not_observed: tuple[str, ...]) -> None:
        self._observer, self._not_observed = observer, not_observed
        self._functions: dict[Any, Function] = {}
        self._before: dict[Function, dict[str, Any]] = {}

    def find(self, kind: str, fun: Any, real: Any) -> Function | None:
        """Return the function that `kind` (grad, scan …) of a script's function is; None for a function of jax's own."""
        key = kind, codes(fun)
        if key not in self._functions:
            inner = innermost(fun)
            module = str(getattr(inner, "__module__", None) or "")
            if f"{module}.".startswith(self._not_observed):
                return None
            self._functions[key] = function = Function(real, f"{kind}({function_name(inner)})", module)
            self._observer.add(function)
        return self._functions[key]

    def captured(self, function: Function, fun: Any) -> dict[str, Any]:
        """Return what a function captured, as an argument; without arrays of jax that are the same as in the call before."""
        found = captured(fun)
        before = self._before.get(function, {}) if self._observer.keeps_unchanged() else {}
        arrays = {name: value for name, value in found.items() if isinstance(value, jax.Array)}
        self._before[function] = {name: weakref.ref(value) for name, value in arrays.items()}
        new = {name: value for name, value in found.items() if name not in before or before[name]() is not value}
        return {CAPTURED: new} if new else {}


def install(module: Any, observer: Observer, not_observed: tuple[str, ...]) -> EagerFunctions:
    """Observe gradients from now on."""
    functions = EagerFunctions(observer, not_observed)
    for kind in ("grad", "value_and_grad"):
        setattr(module, kind, _observed_gradient(kind, getattr(module, kind), functions, observer))
    module.vjp = _observed_vjp(module.vjp, functions, observer)
    return functions


def _observed_gradient(kind: str, transform: Any, functions: EagerFunctions, observer: Observer) -> Any:
    @functools.wraps(transform)
    def made(*args: Any, **kwargs: Any) -> Any:
        real = transform(*args, **kwargs)
        fun = args[0] if args else kwargs.get("fun")
        return _observed(kind, real, fun, (args, kwargs), functions, observer) if fun is not None else real

    return made


def _observed(kind: str, real: Any, fun: Any, given: Any, functions: EagerFunctions, observer: Observer) -> Any:
    """Return the gradient of a function, whose calls are observed."""
    argnums = given[1].get("argnums", given[0][1] if len(given[0]) > 1 else 0)
    numbers = tuple(argnums) if isinstance(argnums, Iterable) else (argnums,)

    @functools.wraps(real)
    def call(*args: Any, **kwargs: Any) -> Any:
        def described() -> Described | None:
            function = functions.find(kind, fun, real)
            if function is None:
                return None
            if function.differentiated is None:
                function.differentiate(numbers)
            return Described(function, (args, {**kwargs, **functions.captured(function, fun)}))

        run, called = functools.partial(real, *args, **kwargs), observer.own(described)
        if called is None:
            return run()
        return observer.observe(called, Made(run, lambda result: without(result, called.arguments)))

    setattr(call, DIFFERENTIATED, numbers)
    return call


def without(result: Any, arguments: Any) -> Any:
    """Return a result without the arrays that were arguments: libraries hand them through."""
    given = {id(leaf) for leaf in jax.tree.leaves(arguments)}
    return jax.tree.map(lambda leaf: None if id(leaf) in given else leaf, result)


def _observed_vjp(vjp: Any, functions: EagerFunctions, observer: Observer) -> Any:
    """Return a `vjp` whose pullbacks are observed: called with a cotangent, they give the gradients of what vjp was given."""
    taken: weakref.WeakKeyDictionary[Any, tuple[Any, tuple[Any, ...], Any]] = weakref.WeakKeyDictionary()
    classes: set[type] = set()

    def observe_class(kind: Any) -> None:
        real = kind.__call__
        classes.add(kind)

        @functools.wraps(real)
        def pull(self: Any, *cotangents: Any) -> Any:
            def described() -> Described | None:
                fun, primals, _ = taken.get(self, (None, (), None))
                function = None if fun is None else functions.find("vjp", fun, fun)
                if function is None or _gone(primals):
                    return None
                if function.differentiated is None:
                    function.differentiate(range(len(primals)))
                return Described(function, (primals, {"cotangent": cotangents, **functions.captured(function, fun)}))

            run, called = functools.partial(real, self, *cotangents), observer.own(described)
            if called is None:
                return run()
            value = taken[self][2]
            return observer.observe(called, Made(run, lambda grads: (value, grads)))

        kind.__call__ = pull

    @functools.wraps(vjp)
    def made(fun: Any, *primals: Any, **kwargs: Any) -> Any:
        result = vjp(fun, *primals, **kwargs)

        def noted() -> None:
            pullback = result[1]
            if type(pullback) not in classes and type(pullback).__module__.startswith("jax."):
                observe_class(type(pullback))
            if type(pullback) in classes:
                taken[pullback] = fun, primals, result[0]

        observer.own(noted)
        return result

    return made


def _gone(tree: Any) -> bool:
    """Say whether the memory of some arrays was given away."""
    return any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(tree))
