"""Gradients of functions: `torch.func.grad(f)` and `grad_and_value(f)` called on tensors are a step's backward pass.

gradients, loss = grad_and_value(f)(params, x, y)     params/weight …, batch/x, batch/y, loss, grads/weight …
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reprotui.observe.names import parameter_names
from reprotui.observe.torch_calls import tensors_in

if TYPE_CHECKING:
    from reprotui.observe.torch_steps import TorchObserver


class Gradients(NamedTuple):
    """What a call of such a function gives, by name: parameters, batch, gradients, and the loss where it gives that."""

    params: list[tuple[str, Any]]
    batch: list[tuple[str, Any]]
    read: Callable[[Any], tuple[list[tuple[str, Any]], Any]]


def observe_transforms(torch: Any, observer: "TorchObserver") -> None:
    """Let the functions that `grad` and `grad_and_value` make tell of their calls."""
    for name in ("grad", "grad_and_value"):
        setattr(torch.func, name, _observed(torch, observer, getattr(torch.func, name), with_value=name != "grad"))


def _observed(torch: Any, observer: "TorchObserver", real: Callable[..., Any], with_value: bool) -> Callable[..., Any]:
    nested = torch._C._functorch.peek_interpreter_stack

    @functools.wraps(real)
    def transform(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Any:
        inner = real(func, argnums, has_aux)

        @functools.wraps(inner)
        def call(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or observer.passing or nested() is not None:
                return inner(*args, **kwargs)
            return observer.differentiated(
                lambda: _described(torch.Tensor, func, args, kwargs, (argnums, has_aux, with_value)),
                lambda: inner(*args, **kwargs),
            )

        return call

    return transform


def _described(
    tensor: type, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any],
    how: tuple[int | tuple[int, ...], bool, bool],
) -> Gradients:  # fmt: skip
    argnums, has_aux, with_value = how
    numbers = [number % len(args) for number in ((argnums,) if isinstance(argnums, int) else argnums)]
    names = parameter_names(func)
    called = [names[number] if number < len(names) else str(number) for number in range(len(args))]

    def named(values: Sequence[Any]) -> list[tuple[str, Any]]:
        # A single argument that holds many parameters names them by itself; several are told apart.
        found = []
        for number, value in zip(numbers, values, strict=True):
            alone = len(numbers) == 1 and not isinstance(value, tensor)
            found += list(tensors_in("" if alone else called[number], value, tensor))
        return found

    def read(result: Any) -> tuple[list[tuple[str, Any]], Any]:
        gradients = result[0] if with_value or has_aux else result
        loss = (result[1][0] if has_aux else result[1]) if with_value else None
        return named([gradients] if isinstance(argnums, int) else gradients), loss

    others = [(name, value) for number, (name, value) in enumerate(zip(called, args, strict=True)) if number not in numbers]
    batch = [item for name, value in (*others, *kwargs.items()) for item in tensors_in(name, value, tensor)]
    return Gradients(named([args[number] for number in numbers]), batch, read)
