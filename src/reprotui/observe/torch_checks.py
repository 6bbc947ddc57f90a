"""Steps of torch computed once more, on copies: forward pass, gradients, and what the optimizer makes of them.

    out = model(x)       copies of model, x and generators first; then the copy is called: the same output?
    loss.backward()      the gradient that reached `out` is kept, and goes back through the copy: the same gradients?
    optimizer.step()     a copy of the optimizer steps on a copy of its parameters: the same parameters and state?

The script's own objects are only read. Generators are put back, and buffers are the copy's. What cannot be computed once more
without doing something to the script is left alone, and told: hooks, compiled models, generators of a model's own.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reprotui.observe.checks import REPEATS, Checks
from reprotui.observe.torch_calls import tensors_in
from reprotui.observe.torch_copying import Copier, Generators, unfit, used_elsewhere
from reprotui.record import lanes

if TYPE_CHECKING:
    from reprotui.observe.torch_tracked import Tracked

FORWARD, GRADIENTS, UPDATE = "forward", "gradients", "update"


class Recompute:
    """The step that is being computed once more.

    Attributes:
        busy: something is computed once more: whoever observes calls looks away.
    """

    def __init__(self, torch: Any, checks: Checks, tracked: "Tracked", ledger: Any) -> None:
        self._torch, self._checks, self._tracked, self._ledger = torch, checks, tracked, ledger
        self.busy = False
        self._begun = 0  # the newest step whose forward pass was taken
        self._step = 0
        self._forward: Callable[[], Any] | None = None
        self._copier = Copier(torch)
        self._outputs: list[tuple[str, Any, Any]] = []  # name, node, the copy's output
        self._received: dict[str, Any] = {}
        self._hooks: list[Any] = []
        self._before_pass: dict[int, Any] | None = None
        self._update: tuple[Any, Any] | None = None

    def call(self, step: int, module: Any, args: Any, kwargs: Any) -> None:
        """Copy what a network is called with, where its step is drawn and this is its first call."""
        if step == self._begun or not self._checks.due(step):
            return
        self._begun, self._step = step, step
        self._clear()

        def copy() -> None:
            if why := unfit(self._torch, module):
                self._checks.left_out(step, FORWARD, why)
                return
            self._copier = Copier(self._torch)
            model, given, named = self._copier.copy(module), self._copier.tree(args), self._copier.tree(kwargs)
            buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
            generators = Generators(self._torch)

            def forward() -> Any:
                now = Generators(self._torch)
                for buffer, kept in buffers:
                    buffer.data.copy_(kept)
                try:
                    generators.put_back()
                    return model(*given, **named)
                finally:
                    now.put_back()

            self._forward = forward

        self._guarded(FORWARD, copy)

    def returned(self, result: Any) -> None:
        """Call the copy, hold its outputs against what the script's call gave, and let gradients that reach it be kept."""
        forward, self._forward = self._forward, None
        if forward is None:
            return

        def compare() -> None:
            theirs = list(tensors_in("output", result, self._torch.Tensor))
            again = list(tensors_in("output", forward(), self._torch.Tensor))
            if not theirs or [path for path, _ in theirs] != [path for path, _ in again]:
                self._checks.left_out(self._step, FORWARD, "its output holds no tensors that could be compared")
                return
            steady = lambda: self._rows(tensor for _, tensor in tensors_in("output", forward(), self._torch.Tensor))  # noqa: E731
            self._compare(FORWARD, theirs, [tensor for _, tensor in again], steady)
            for (path, tensor), (_, copy) in zip(theirs, again, strict=True):
                if tensor.grad_fn is not None and copy.grad_fn is not None:
                    self._outputs.append((path, tensor.grad_fn, copy))
                    self._hooks.append(tensor.register_hook(lambda gradient, path=path: self._receive(path, gradient)))

        self._guarded(FORWARD, compare)

    def before_pass(self, roots: Sequence[Any], apart: bool) -> None:
        """Look at the pass that begins: which of the outputs it comes from, and gradients that it will be added to."""
        if not self._outputs:
            return

        def look() -> None:
            parameters = self._copier.originals
            nodes = [node for _, node, _ in self._outputs]
            why = "its gradients are given back, not added to the parameters" if apart else ""
            why = why or used_elsewhere([root.grad_fn for root in roots], nodes, parameters)
            if why:
                self._checks.left_out(self._step, GRADIENTS, why)
                self._let_outputs_go()
                return
            self._before_pass = {
                id(item): None if item.grad is None else self._copier.tensor(item.grad)
                for item in parameters
                if item.requires_grad
            }

        self._guarded(GRADIENTS, look)

    def after_pass(self) -> None:
        """Send the gradients that reached the outputs through the copy, and compare what arrives."""
        before, self._before_pass = self._before_pass, None
        if before is None:
            return

        def compare() -> None:
            ends = [(copy, self._received[path]) for path, _, copy in self._outputs if path in self._received]
            assert before is not None
            trained = [item for item in self._copier.originals if id(item) in before and item.grad is not None]
            if not ends or not trained or any(item.grad.is_sparse for item in trained):
                self._checks.left_out(self._step, GRADIENTS, "no gradient came from the output of the model's first call")
                return
            copies = [self._copier.copy_of(item) for item in trained]

            def once() -> list[Any]:
                found = self._torch.autograd.grad(
                    [copy for copy, _ in ends], copies, [gradient for _, gradient in ends], retain_graph=True, allow_unused=True
                )
                sums = []
                for item, gradient in zip(trained, found, strict=True):
                    old = before[id(item)]
                    sums.append(old if gradient is None else gradient if old is None else old + gradient)
                return [self._torch.zeros_like(item) if one is None else one for item, one in zip(trained, sums, strict=True)]

            named = [(f"grads/{self._tracked.path(item) or number}", item.grad) for number, item in enumerate(trained)]
            self._compare(GRADIENTS, named, once(), lambda: self._rows(once()))

        self._guarded(GRADIENTS, compare)
        self._let_outputs_go()

    def before_update(self, step: int, optimizer: Any, closure: bool) -> None:
        """Copy an optimizer and what it steps on."""
        if not self._checks.due(step):
            return

        def copy() -> None:
            if why := _unfit_optimizer(optimizer, closure):
                self._checks.left_out(step, UPDATE, why)
                return
            copier = Copier(self._torch)
            copied = copier.copy(optimizer, gradients=True)
            self._step, self._update = step, (optimizer, copied)

        self._guarded(UPDATE, copy)

    def after_update(self, optimizer: Any) -> None:
        """Let the copy step, and compare parameters and state."""
        found, self._update = self._update, None
        if found is None or found[0] is not optimizer:
            return

        def compare() -> None:
            copied = found[1]
            type(copied).step(copied)
            named = [
                (path, mine, theirs)
                for (path, mine), (_, theirs) in zip(self._state(optimizer), self._state(copied), strict=True)
            ]
            theirs = [(path, tensor) for path, tensor, _ in named]
            self._compare(UPDATE, theirs, [tensor for _, _, tensor in named], None)

        self._guarded(UPDATE, compare)

    def _state(self, optimizer: Any) -> list[tuple[str, Any]]:
        """Return an optimizer's state and parameters, in the order of its groups."""
        found = []
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for number, parameter in enumerate(parameters):
            state = optimizer.state.get(parameter, {})
            of_state = [(f"opt_state/{number}/{key}", value) for key, value in state.items() if self._torch.is_tensor(value)]
            found += [*of_state, (f"params/{number}", parameter)]
        return found

    def _receive(self, path: str, gradient: Any) -> None:
        if self._before_pass is not None:
            self._received[path] = self._copier.tensor(gradient.detach())

    def _compare(self, what: str, named: Sequence[tuple[str, Any]], again: Sequence[Any], repeat: Any) -> None:
        recorded, found = self._rows(tensor for _, tensor in named), self._rows(again)
        wrong = np.flatnonzero((recorded != found).any(axis=1))
        if not wrong.size:
            self._checks.equal(self._step, what, len(named))
            return
        repeats = [bool(np.array_equal(found, repeat())) for _ in range(REPEATS)] if repeat is not None else []
        self._checks.unequal(self._step, what, [named[index][0] for index in wrong], repeats)

    def _rows(self, tensors: Any) -> np.ndarray:
        return lanes.take([tensor.detach() for tensor in tensors]).result().lanes

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        """Compute something once more, unseen by whoever observes; an error only leaves it out."""
        busy, self.busy = self.busy, True
        noting = getattr(self._ledger, "busy", False)
        if self._ledger is not None:
            self._ledger.busy = True  # what is drawn once more was drawn
        try:
            action()
        except Exception as error:
            self._checks.left_out(
                self._step, what, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
            )
            self._clear()
        finally:
            self.busy = busy
            if self._ledger is not None:
                self._ledger.busy = noting

    def _clear(self) -> None:
        self._forward, self._update, self._before_pass = None, None, None
        self._let_outputs_go()

    def _let_outputs_go(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._outputs, self._received, self._hooks = [], {}, []


def _unfit_optimizer(optimizer: Any, closure: bool) -> str:
    """Return why the step of an optimizer cannot be computed once more; empty where it can."""
    if closure:
        return "the optimizer's step takes a closure"
    if not type(optimizer).__module__.startswith("torch.optim"):
        return f"{type(optimizer).__name__} is no optimizer of torch's own"
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return "the optimizer has hooks"
    if getattr(optimizer, "grad_scale", None) is not None:
        return "a gradient scaler steps within the optimizer"
    return ""
