"""Observe an unmodified PyTorch script: optimizers' steps, backward passes and the calls of models tell a `TorchObserver`."""

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reprotui.observe.hooks import after_import
from reprotui.observe.torch_epochs import Epochs
from reprotui.observe.torch_functional import observe_transforms
from reprotui.observe.torch_graph import SavedHooks
from reprotui.observe.torch_steps import TorchObserver
from reprotui.observe.watch import Watch


def install(torch: Any, watch: Watch) -> None:
    """Observe torch from now on: by its global hooks around `Optimizer.step`, and by calls that pass everything on."""
    observer = TorchObserver(torch, watch)
    watch.finishers.append(observer.finish)
    if watch.explaining is not None:
        watch.explaining.read_with("torch", watch, observer)

    optimizers = importlib.import_module("torch.optim.optimizer")  # torch.optim hides it as an attribute
    optimizers.register_optimizer_step_pre_hook(observer.before_step)
    optimizers.register_optimizer_step_post_hook(observer.after_step)
    _observe_calls(torch, observer)
    _observe_passes(torch, observer)
    observe_transforms(torch, observer)
    _before(torch.optim.Optimizer, "__init__", None, observer.made)
    _before(torch.nn.Module, "__setstate__", None, observer.copied)
    _before(torch.nn.parallel.DistributedDataParallel, "__init__", None, observer.ranks.wrapped)
    epochs = Epochs(watch, lambda: observer.steps_taken)
    after_import("torch.utils.data", lambda data: _before(data.DataLoader, "__iter__", epochs.begins, None))
    _before(torch.cuda.CUDAGraph, "capture_begin", lambda _: observer.before_capture(), None)

    def hooks_in_use(_: Any) -> None:
        SavedHooks.in_use = True

    _before(torch.autograd.graph.saved_tensors_hooks, "__enter__", hooks_in_use, None)


def _before(kind: Any, name: str, before: Callable[[Any], None] | None, after: Callable[[Any], None] | None) -> None:
    """Let a method tell what it is called on, before it does anything or after it."""
    real = getattr(kind, name)

    @functools.wraps(real)
    def observed(self: Any, *args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(self)
        result = real(self, *args, **kwargs)
        if after is not None:
            after(self)
        return result

    setattr(kind, name, observed)


def _observe_calls(torch: Any, observer: TorchObserver) -> None:
    forward, nested = torch.nn.Module.__call__, torch._C._functorch.peek_interpreter_stack

    @functools.wraps(forward)
    def observed_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A compiler that traces the model must see torch's own call only; within a transform there are no values to read.
        if observer.inside or torch.compiler.is_compiling() or nested() is not None:
            return forward(self, *args, **kwargs)
        observer.inside = True
        try:
            return observer.called(self, args, kwargs, forward)
        finally:
            observer.inside = False

    torch.nn.Module.__call__ = observed_call


def _observe_passes(torch: Any, observer: TorchObserver) -> None:
    method, function, grad = torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad

    def passes_on() -> bool:
        return observer.passing or torch.compiler.is_compiling()

    @functools.wraps(method)
    def observed_method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if passes_on():
            return method(self, *args, **kwargs)
        listed, named = _kept(args, kwargs)
        given = listed[3] if len(listed) > 3 else named.get("inputs")
        return observer.passed([self], _listed(given), lambda: method(self, *listed, **named))

    @functools.wraps(function)
    def observed_function(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if passes_on():
            return function(tensors, *args, **kwargs)
        listed, named = _kept((tensors, *args), kwargs)
        given = listed[5] if len(listed) > 5 else named.get("inputs")
        return observer.passed(_listed(listed[0]) or [], _listed(given), lambda: function(*listed, **named))

    @functools.wraps(grad)
    def observed_grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Gradients that have a graph of their own are part of a loss.
        part = kwargs.get("create_graph") or kwargs.get("is_grads_batched") or any(map(bool, args[2:3]))
        if passes_on():
            return grad(outputs, inputs, *args, **kwargs)
        if part:
            before, observer.inside = observer.inside, True  # what a pass computes anew is no call of its own
            try:
                return grad(outputs, inputs, *args, **kwargs)
            finally:
                observer.inside = before
        listed, named = _kept((outputs, inputs, *args), kwargs)
        return observer.passed(_listed(listed[0]) or [], _listed(listed[1]), lambda: grad(*listed, **named), apart=True)

    torch.Tensor.backward = observed_method
    torch.autograd.backward = observed_function
    torch.autograd.grad = observed_grad


def _kept(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments with lists in place of iterators, such as `model.parameters()`: looking at one would use it up."""
    listed = [list(value) if hasattr(value, "__next__") else value for value in (*args, *kwargs.values())]
    return listed[: len(args)], dict(zip(kwargs, listed[len(args) :], strict=True))


def _listed(tensors: Any) -> list[Any] | None:
    """Return tensors as a list, None where none are given; of an edge of the graph nothing is known."""
    if tensors is None:
        return None
    if isinstance(tensors, Mapping):
        return _listed(list(tensors.values()))
    found = tensors if isinstance(tensors, Sequence) else [tensors]
    return [tensor for tensor in found if hasattr(tensor, "grad_fn")]
