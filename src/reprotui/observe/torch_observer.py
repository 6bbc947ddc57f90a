"""Observe an unmodified PyTorch script: its optimizers' steps, the losses it calls `backward` on, what its models are given."""

import functools
import importlib
import weakref
from collections.abc import Callable
from typing import Any

from reprotui.observe.torch_state import Named, Trained, path_of
from reprotui.observe.watch import Watch
from reprotui.record.frameworks import describe_torch, ready_jax
from reprotui.record.session import StopTraining

CALLS_NAMED = 64
"""Forward calls and losses within one step that are recorded one by one: accumulation makes many."""


def install(torch: Any, watch: Watch) -> None:
    """Observe torch from now on: by its global hooks around `Optimizer.step`, and by calls that pass everything on."""
    observer = TorchObserver(torch, watch)
    watch.finishers.append(observer.finish)

    optimizers = importlib.import_module("torch.optim.optimizer")  # torch.optim hides it as an attribute
    optimizers.register_optimizer_step_pre_hook(observer.before_step)
    optimizers.register_optimizer_step_post_hook(observer.after_step)
    backward, forward, init = torch.Tensor.backward, torch.nn.Module.__call__, torch.optim.Optimizer.__init__

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

    @functools.wraps(init)
    def observed_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        observer.trained.made(self)

    torch.optim.Optimizer.__init__ = observed_init
    torch.Tensor.backward = observed_backward
    torch.nn.Module.__call__ = observed_call


class TorchObserver:
    """The observer of one process's optimizers. The first that takes a step sets the pace; record k is its k-th step, with the
    steps that others take until its next one."""

    def __init__(self, torch: Any, watch: Watch) -> None:
        self._torch, self._watch = torch, watch
        self.trained = Trained(torch)
        self.inside = False
        self._pace_of: Callable[[], Any] = lambda: None
        self._others = 0
        self._known: dict[int, str] = {}
        self._calls: dict[int, int] = {}
        self._number = 0
        self._inputs: list[Any] = []
        self._losses: list[Any] = []
        self._open: list[Any] = []
        self._buffers: dict[int, Any] = {}

    def saw_inputs(self, module: Any, args: Any, kwargs: Any) -> None:
        """Note what a model, or a loss that is a module, is given from outside: its inputs that need no gradient."""
        if not self._active:
            return
        model = next(module.parameters(), None) is not None
        if model:
            self.trained.saw(module)
            if self._number == 0 and self._watch.options.record and id(module) not in self._buffers:
                self._guard(lambda: self._take_buffers(module))
        if self._due():
            self._guard(lambda: self._take_inputs(module, model, args, kwargs))

    def saw_loss(self, loss: Any) -> None:
        """Note a scalar that `backward` is called on; its value is read with the gradients."""
        if self._due() and len(self._losses) < CALLS_NAMED and loss.numel() == 1:
            self._losses.append(loss.detach())

    def before_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """Read the gradients, and before the first step the state that it starts from."""
        if self._mine(optimizer):
            self._guard(lambda: self._before(optimizer))

    def after_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """Read parameters and optimizer state, and record the step where nothing more can be part of it."""
        if self._active and (optimizer is self._pace or self._number):
            self._guard(lambda: self._after(optimizer))

    def finish(self) -> None:
        """Record what is open, and say which optimizers there were."""
        if self._active:
            self._put()
        self._watch.candidates.update({name: self._calls.get(key, 0) for key, name in self._known.items()})

    @property
    def _active(self) -> bool:
        return self._watch.owner in (None, self) and (self._watch.recording or not self._watch.options.record)

    def _due(self) -> bool:
        """Say whether what comes now may be part of a record: of the next step, or of what others do after this one."""
        if not (self._active and self._watch.options.record):
            return False
        return self._watch.due(self._number + 1) or (self._several and self._watch.due(max(self._number, 1)))

    @property
    def _pace(self) -> Any:
        """Return the optimizer that sets the pace; None before one does, and when the script has let go of it."""
        return self._pace_of()

    @property
    def _several(self) -> bool:
        return len(self.trained.optimizers()) > 1

    def _guard(self, action: Callable[[], None]) -> None:
        """Run what only observes: an error in it ends the observation, never the training."""
        try:
            action()
        except StopTraining:
            raise
        except Exception as error:
            self._watch.give_up(error)

    def _mine(self, optimizer: Any) -> bool:
        """Say whether an optimizer's steps are recorded; choose the one that sets the pace where none does."""
        if not self._active:
            return False
        name = self._name(optimizer)
        self._calls[id(optimizer)] = self._calls.get(id(optimizer), 0) + 1
        pace = self._pace
        self._others = 0 if optimizer is pace else self._others + 1
        gone = self._number > 0 and (pace is None or self._others > CALLS_NAMED)
        if gone:
            self._watch.event("candidates", f"{name} sets the pace from step {self._number + 1} on: no other takes steps")
        if gone or (pace is None and self._watch.options.step_function in (None, name)):
            self._pace_of = weakref.ref(optimizer)
            return self._watch.claim(self, f"optimizer: {name}", describe_torch())
        return optimizer is pace or self._number > 0

    def _name(self, optimizer: Any) -> str:
        key = id(optimizer)
        if key not in self._known:
            kind = type(optimizer).__name__
            same = sum(name.split("#")[0] == kind for name in self._known.values())
            self._known[key] = f"{kind}#{same + 1}" if same else kind
            self._say_others(optimizer)
        return self._known[key]

    def _say_others(self, optimizer: Any) -> None:
        if self._pace is not None and self._pace is not optimizer:
            text = (
                f"{self._known[id(self._pace)]} sets the pace; {self._known[id(optimizer)]} is another optimizer, recorded with "
                "the step before: --step-function NAME chooses"
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
        call = sum(1 for name, _ in self._inputs if name == id(module)) + 1
        prefix = "batch" if model else f"batch/{type(module).__name__}"
        named = [(("batch", _input_path(prefix, path, call)), leaf) for path, leaf in given]
        if not self._inputs:
            named.append((("rng", "rng/cpu"), torch.get_rng_state()))
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                named.append((("rng", "rng/cuda"), torch.cuda.get_rng_state()))
        self._inputs.append((id(module), self._part(named)))

    def _take_buffers(self, model: Any) -> None:
        """Read a model's buffers before the first forward pass, which changes them."""
        ready_jax()
        owner = next((item for item in self.trained.optimizers() if id(model) in self.trained.models(item)), None)
        paths = [(f"extra/{path_of(name)}", buffer) for name, buffer in model.named_buffers()]
        named = [(("init", path if owner is None else self._within(owner, path)), buffer) for path, buffer in paths]
        self._buffers[id(model)] = self._part(named)

    def _before(self, optimizer: Any) -> None:
        pace = optimizer is self._pace
        if pace:
            self._put()
            self._watch.tick()
            self._watch.final = self._final_leaves
        if not self._watch.options.record:
            return
        if pace:
            self._watch.wait()
            if self._number == 0:
                self._put_init()
        if not self._watch.due(self._number + pace):
            return
        # After the first update of a step, losses and gradients can differ because of it.
        forward, grads = ("forward", "grads") if pace else ("update", "update")
        losses = [(f"metrics/loss_{number + 1}", loss) for number, loss in enumerate(self._losses)]
        if pace and losses:
            losses[-1] = "loss", losses[-1][1]
        named = [(forward, path, leaf) for path, leaf in losses]
        named += [(grads, path, leaf) for path, leaf in self.trained.gradients(optimizer)]
        self._open += [taken for _, taken in self._inputs]
        self._open.append(self._part([((phase, self._within(optimizer, path)), leaf) for phase, path, leaf in named]))

    def _after(self, optimizer: Any) -> None:
        pace = optimizer is self._pace
        self._number += pace
        if self._watch.options.record:
            if self._watch.due(self._number):
                self._open.append(self._part(self._state(optimizer)))
                if pace and not self._several:
                    self._put()
                else:
                    self._watch.assembly.open = True
            elif self._watch.session is not None:
                self._watch.session.step = self._number
        self._inputs, self._losses = [], []

    def _put_init(self) -> None:
        optimizers = self.trained.optimizers()
        parts = []
        for optimizer in optimizers:
            self._name(optimizer)
            parts.append(
                self._part([(("init", self._within(optimizer, path)), leaf) for path, leaf in self.trained.state(optimizer)])
            )
        trained = {key for optimizer in optimizers for key in self.trained.models(optimizer)}
        self._watch.put(0, [*parts, *(taken for key, taken in self._buffers.items() if key in trained)])

    def _put(self) -> None:
        """Record the step that is open."""
        if self._open:
            parts, self._open = self._open, []
            self._watch.put(self._number, parts)
            self._watch.assembly.open = False

    def _within(self, optimizer: Any, path: str) -> str:
        """Put an optimizer's name behind a path's first part, where there are several."""
        first, _, rest = path.partition("/")
        return f"{first}/{self._name(optimizer)}/{rest}" if rest and self._several else path

    def _state(self, optimizer: Any) -> Named:
        """Return buffers, optimizer state and parameters as they are now."""
        before = "forward" if optimizer is self._pace else "update"
        named = [(before, path, leaf) for path, leaf in self.trained.buffers(optimizer)]
        named += [("update", path, leaf) for path, leaf in self.trained.state(optimizer)]
        return [((phase, self._within(optimizer, path)), leaf) for phase, path, leaf in named]

    def _part(self, named: Named) -> Any:
        return self._watch.assembly.part(tuple(name for name, _ in named), [leaf for _, leaf in named])

    def _final_leaves(self) -> list[tuple[Any, Any]]:
        ready_jax()
        from reprotui.record.lanes import spec_of, to_numpy

        return [
            (spec_of(path, leaf), to_numpy(leaf))
            for optimizer in self.trained.optimizers()
            for (_, path), leaf in self._state(optimizer)
        ]


def _input_path(prefix: str, path: str, call: int) -> str:
    """Return the name of an input: its number or keyword, and from the second call within a step on the call's number."""
    inner = path.partition("/")[2]
    return f"{prefix}/{inner}" if call == 1 else f"{prefix}/call_{call}/{inner}"
