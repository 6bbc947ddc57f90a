"""Observe an unmodified PyTorch script: its optimizers' steps, the losses it calls `backward` on, what its models are given."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from reprotui.observe.watch import Watch
from reprotui.record.frameworks import describe_torch, ready_jax
from reprotui.record.session import StopTraining

Named = list[tuple[tuple[str, str], Any]]
"""Leaves with their phase and path."""
CALLS_NAMED = 64
"""Forward calls and losses within one step that are recorded one by one: accumulation makes many."""


def install(torch: Any, watch: Watch) -> None:
    """Observe torch from now on: by its global hooks around `Optimizer.step`, and by calls that pass everything on."""
    observer = TorchObserver(torch, watch)
    watch.finishers.append(observer.finish)

    optimizers = importlib.import_module("torch.optim.optimizer")  # torch.optim hides it as an attribute
    optimizers.register_optimizer_step_pre_hook(observer.before_step)
    optimizers.register_optimizer_step_post_hook(observer.after_step)
    backward, forward = torch.Tensor.backward, torch.nn.Module.__call__

    @functools.wraps(backward)
    def observed_backward(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer.saw_loss(self)
        return backward(self, *args, **kwargs)

    @functools.wraps(forward)
    def observed_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A compiler that traces the model must see torch's own call only.
        if observer.inside or torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return forward(self, *args, **kwargs)
        observer.inside = True
        try:
            observer.saw_inputs(self, args, kwargs)
            return forward(self, *args, **kwargs)
        finally:
            observer.inside = False

    torch.Tensor.backward = observed_backward
    torch.nn.Module.__call__ = observed_call


class TorchObserver:
    """The observer of one process's optimizers. The first that takes a step sets the pace; record k is its k-th step."""

    def __init__(self, torch: Any, watch: Watch) -> None:
        self._torch, self._watch = torch, watch
        self.inside = False
        self._optimizer: Any = None
        self._known: dict[int, str] = {}
        self._calls: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._model: Any = None
        self._number = 0
        self._inputs: list[Any] = []
        self._losses: list[Any] = []
        self._gradients: list[Any] = []
        self._buffers: dict[int, Any] = {}

    def saw_inputs(self, module: Any, args: Any, kwargs: Any) -> None:
        """Note what a model, or a loss that is a module, is given from outside: its inputs that need no gradient."""
        if not self._active:
            return
        model = next(module.parameters(), None) is not None
        if model:
            self._model = module
        if self._due():
            self._guard(lambda: self._take_inputs(module, model, args, kwargs))

    def saw_loss(self, loss: Any) -> None:
        """Note a scalar that `backward` is called on; its value is read with the gradients."""
        if self._due() and len(self._losses) < CALLS_NAMED and loss.numel() == 1:
            self._losses.append(loss.detach())

    def before_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """Read the gradients, and before the first step the state that it starts from."""
        if self._mine(optimizer):
            self._guard(self._before)

    def after_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """Read parameters and optimizer state, and record the step."""
        if self._optimizer is optimizer and self._active:
            self._guard(self._after)

    def finish(self) -> None:
        """Say which optimizers there were."""
        self._watch.candidates.update({name: self._calls.get(key, 0) for key, name in self._known.items()})

    @property
    def _active(self) -> bool:
        return self._watch.owner in (None, self) and (self._watch.recording or not self._watch.options.record)

    def _due(self) -> bool:
        return self._active and self._watch.options.record and self._watch.due(self._number + 1)

    def _guard(self, action: Callable[[], None]) -> None:
        """Run what only observes: an error in it ends the observation, never the training."""
        try:
            action()
        except StopTraining:
            raise
        except Exception as error:
            self._watch.give_up(error)

    def _mine(self, optimizer: Any) -> bool:
        """Say whether an optimizer is the one whose steps count; choose it where none is."""
        if not self._active:
            return False
        key = id(optimizer)
        if key not in self._known:
            kind = type(optimizer).__name__
            same = sum(name.split("#")[0] == kind for name in self._known.values())
            self._known[key] = f"{kind}#{same + 1}" if same else kind
            self._say_others(optimizer)
        self._calls[key] = self._calls.get(key, 0) + 1
        asked = self._watch.options.step_function
        if self._optimizer is None and asked in (None, self._known[key]):
            self._optimizer = optimizer
            return self._watch.claim(self, f"optimizer: {self._known[key]}", describe_torch())
        return self._optimizer is optimizer

    def _say_others(self, optimizer: Any) -> None:
        if self._optimizer is not None and self._optimizer is not optimizer:
            text = (
                f"{self._known[id(self._optimizer)]} sets the pace; {self._known[id(optimizer)]} is another optimizer: "
                "--step-function NAME chooses"
            )
            self._watch.event("candidates", text)

    def _take_inputs(self, module: Any, model: bool, args: Any, kwargs: Any) -> None:
        torch = self._torch
        if len(self._inputs) >= CALLS_NAMED or (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
            return
        ready_jax()
        from reprotui.checksum import jax_form

        given = [
            (path, leaf)
            for path, leaf in jax_form.named_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor) and not leaf.requires_grad
        ]
        if model and self._number == 0 and id(module) not in self._buffers:
            # Before the first forward pass, which changes them.
            buffers = [(("init", f"extra/{_path(name)}"), buffer) for name, buffer in module.named_buffers()]
            self._buffers[id(module)] = self._part(buffers)
        call = sum(1 for name, _ in self._inputs if name == id(module)) + 1
        prefix = "batch" if model else f"batch/{type(module).__name__}"
        named = [(("batch", _input_path(prefix, path, call)), leaf) for path, leaf in given]
        if not self._inputs:
            named.append((("rng", "rng/cpu"), torch.get_rng_state()))
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                named.append((("rng", "rng/cuda"), torch.cuda.get_rng_state()))
        self._inputs.append((id(module), self._part(named)))

    def _before(self) -> None:
        self._watch.tick()
        self._watch.final = self._final_leaves
        if not self._watch.options.record:
            return
        self._watch.wait()
        if self._number == 0:
            state = [(("init", path), leaf) for (phase, path), leaf in self._state() if phase == "update"]
            self._watch.put(
                0, [self._part(state), *([self._buffers[id(self._model)]] if id(self._model) in self._buffers else [])]
            )
        if not self._due():
            return
        losses = self._losses[:-1]
        named = [(("forward", f"metrics/loss_{number + 1}"), loss) for number, loss in enumerate(losses)]
        named += [(("forward", "loss"), loss) for loss in self._losses[-1:]]
        named += [
            (("grads", f"grads/{name}"), parameter.grad)
            for name, parameter in self._parameters()
            if parameter.grad is not None and parameter.grad.layout == self._torch.strided
        ]
        self._gradients = [self._part(named)]

    def _after(self) -> None:
        self._number += 1
        if not self._watch.options.record:
            return
        if self._watch.due(self._number):
            inputs = [taken for _, taken in self._inputs]
            self._watch.put(self._number, [*inputs, *self._gradients, self._part(self._state())])
        elif self._watch.session is not None:
            self._watch.session.step = self._number
        self._inputs, self._losses, self._gradients = [], [], []

    def _parameters(self) -> list[tuple[str, Any]]:
        """Return the optimizer's parameters with their names in the model, where that was seen."""
        groups = self._optimizer.param_groups
        if self._model is not None and sum(len(group["params"]) for group in groups) != len(self._names):
            self._names = {id(parameter): _path(name) for name, parameter in self._model.named_parameters()}
        return [
            (self._names.get(id(parameter), f"group_{number}/{index}"), parameter)
            for number, group in enumerate(groups)
            for index, parameter in enumerate(group["params"])
        ]

    def _state(self) -> Named:
        """Return buffers, optimizer state and parameters as they are now."""
        from reprotui.record.trees import optimizer_state

        parameters = self._parameters()
        state = optimizer_state(self._optimizer, {id(parameter): name for name, parameter in parameters})
        buffers = self._model.named_buffers() if self._model is not None else ()
        return [
            *((("forward", f"extra/{_path(name)}"), buffer) for name, buffer in buffers),
            *(
                (("update", f"opt_state/{owner}/{name}"), value)
                for owner, entries in sorted(state.items())
                for name, value in sorted(entries.items(), key=lambda entry: str(entry[0]))
            ),
            *((("update", f"params/{name}"), parameter) for name, parameter in parameters),
        ]

    def _part(self, named: Named) -> Any:
        return self._watch.assembly.part(tuple(name for name, _ in named), [leaf for _, leaf in named])

    def _final_leaves(self) -> list[tuple[Any, Any]]:
        ready_jax()
        from reprotui.record.lanes import spec_of, to_numpy

        return [(spec_of(path, leaf), to_numpy(leaf)) for (_, path), leaf in self._state()]


def _input_path(prefix: str, path: str, call: int) -> str:
    """Return the name of an input: its number or keyword, and from the second call within a step on the call's number."""
    inner = path.partition("/")[2]
    return f"{prefix}/{inner}" if call == 1 else f"{prefix}/call_{call}/{inner}"


def _path(name: str) -> str:
    """Return a torch name as a path: `layers/0/weight` for `layers.0.weight`."""
    return name.replace(".", "/")
