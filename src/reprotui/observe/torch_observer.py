"""Observe an unmodified PyTorch script: its optimizers' steps, the losses it calls `backward` on, what its models are given."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from reprotui.observe.torch_plans import Read, path_of
from reprotui.observe.torch_state import Slot, Trained
from reprotui.observe.watch import Watch
from reprotui.record.frameworks import describe_torch
from reprotui.record.session import StopTraining

CALLS_NAMED = 64
"""Forward calls and losses within one step that are recorded one by one: accumulation makes many."""

CAPTURED = "a CUDA graph is captured: steps inside it are not recorded, and its replays call nothing that could be observed"


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
        observer.made(self)

    capture = torch.cuda.CUDAGraph.capture_begin

    @functools.wraps(capture)
    def observed_capture(self: Any, *args: Any, **kwargs: Any) -> None:
        observer.before_capture()
        capture(self, *args, **kwargs)

    torch.cuda.CUDAGraph.capture_begin = observed_capture
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
        self._pace: Slot | None = None
        self._others = self._made = 0
        self._stepping: Any = None
        self._number = 0
        self._inputs: list[Any] = []
        self._losses: list[Any] = []
        self._open: list[Any] = []
        self._buffers: dict[int, Any] = {}
        self._named: dict[Any, tuple[tuple[str, str], ...]] = {}

    def made(self, optimizer: Any) -> None:
        """Note an optimizer: what it is called follows the order in which they are made."""
        self._guard(lambda: self.trained.slot(optimizer))

    def saw_inputs(self, module: Any, args: Any, kwargs: Any) -> None:
        """Note what a model, or a loss that is a module, is given from outside: its inputs that need no gradient."""
        if not self._active or self._capturing():
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

    def before_capture(self) -> None:
        """Let the writer come to an end: waiting for the device on another thread would break off a CUDA graph's capture."""
        if self._active and self._number and self._watch.options.record:
            self._guard(lambda: (self._watch.flush(), self._watch.unseen("candidates", CAPTURED)))

    def before_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """Read the gradients, and before the first step the state that it starts from."""
        if self._active and self._stepping in (None, optimizer) and not self._capturing():
            self._stepping = optimizer  # what steps meanwhile is part of it: the one below a wrapper
            self._guard(lambda: self._before(optimizer))

    def after_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """Read parameters and optimizer state, and record the step where nothing more can be part of it."""
        if self._stepping is optimizer:
            self._stepping = None
            if self._active:
                self._guard(lambda: self._after(optimizer))

    def finish(self) -> None:
        """Record what is open, and say which optimizers there were."""
        if self._active:
            self._put()
        self._watch.candidates.update({slot.name: slot.steps for slot in self.trained.slots if slot.steps})

    @property
    def _active(self) -> bool:
        return self._watch.owner in (None, self) and (self._watch.recording or not self._watch.options.record)

    def _due(self) -> bool:
        """Say whether what comes now may be part of a record: of the next step, or of what others do after this one."""
        if not (self._active and self._watch.options.record):
            return False
        return self._watch.due(self._number + 1) or (self._several and self._watch.due(max(self._number, 1)))

    def _capturing(self) -> bool:
        """Say whether what is called now goes into a CUDA graph: what read it would be part of the graph."""
        cuda = self._torch.cuda
        return cuda.is_available() and cuda.is_initialized() and cuda.is_current_stream_capturing()

    @property
    def _several(self) -> bool:
        return len(self.trained.slots) > 1

    def _guard(self, action: Callable[[], object]) -> None:
        """Run what only observes: an error in it ends the observation, never the training."""
        try:
            action()
        except StopTraining:
            raise
        except Exception as error:
            self._watch.give_up(error)

    def _takes_part(self, slot: Slot, optimizer: Any) -> bool:
        """Say whether a step is recorded; choose what sets the pace where nothing does, or where that has ended."""
        self._others = 0 if slot is self._pace else self._others + 1
        ended = self._pace is not None and slot is not self._pace and (slot.made > self._made or self._others > CALLS_NAMED)
        if ended or (self._pace is None and self._watch.options.step_function in (None, slot.name)):
            if ended:
                self._watch.event("candidates", f"{slot.name} sets the pace from step {self._number + 1} on")
            self._pace = slot
            self._watch.claim(self, f"optimizer: {slot.name}", describe_torch())
        elif self._pace is not None and slot is not self._pace and not slot.steps:
            text = f"{self._pace.name} sets the pace; {slot.name} is another optimizer, recorded with the step that it follows: "
            self._watch.event("candidates", text + "--step-function NAME chooses")
        if slot.kept not in (None, optimizer):
            self._watch.event("optimizer-replaced", f"{slot.name} is another {type(optimizer).__name__} from here on")
        return self._pace is not None and self._watch.owner is self

    def _take_inputs(self, module: Any, model: bool, args: Any, kwargs: Any) -> None:
        torch = self._torch
        if len(self._inputs) >= CALLS_NAMED:
            self._watch.coverage.note(f"of a step's forward calls, the inputs of the first {CALLS_NAMED} are recorded")
            return
        from reprotui.record.trees import named_leaves

        given = [
            (path, leaf)
            for path, leaf in named_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor) and not leaf.requires_grad
        ]
        call = sum(1 for name, _ in self._inputs if name == id(module)) + 1
        prefix = "batch" if model else f"batch/{type(module).__name__}"
        named = [(("batch", _input_path(prefix, path, call)), leaf) for path, leaf in given]
        if not self._inputs:
            named.append((("rng", "rng/cpu"), torch.get_rng_state()))
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                named.append((("rng", "rng/cuda"), torch.cuda.get_rng_state()))
        names, leaves = tuple(name for name, _ in named), [leaf for _, leaf in named]
        self._inputs.append((id(module), self._watch.assembly.part(names, leaves)))

    def _take_buffers(self, model: Any) -> None:
        """Read a model's buffers before the first forward pass, which changes them."""
        owner = next((slot for slot, item in self.trained.optimizers() if id(model) in self.trained.models(item)), None)
        named = dict(model.named_buffers())
        found = tuple(f"extra/{path_of(name)}" for name in named), list(named.values())
        self._buffers[id(model)] = self._part(owner, ("init", found))

    def _before(self, optimizer: Any) -> None:
        slot = self.trained.slot(optimizer)
        takes_part = self._takes_part(slot, optimizer)
        slot.steps += 1
        if not takes_part:
            return
        pace = slot is self._pace
        self.trained.keep(slot, optimizer)
        slot.last = self._number + pace
        if pace:
            self._put()
            self._made = self.trained.made
            self._let_go()
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
        found = tuple(path for path, _ in losses), [loss for _, loss in losses]
        self._open += [taken for _, taken in self._inputs]
        self._open.append(self._part(slot, (forward, found), (grads, self.trained.gradients(optimizer))))

    def _after(self, optimizer: Any) -> None:
        slot = self.trained.slot(optimizer)
        if self._pace is None:
            return
        pace = slot is self._pace
        self._number += pace
        if self._watch.options.record:
            if self._watch.due(self._number):
                self._open.append(self._part(slot, *self._state(slot, optimizer)))
                self._watch.assembly.open = True
                if pace and not self._several:
                    self._put()
            elif self._watch.session is not None:
                self._watch.session.step = self._number
        self._inputs, self._losses = [], []

    def _let_go(self) -> None:
        """Keep only those optimizers alive that took a step in this round or the last one."""
        for slot in self.trained.slots:
            if slot.last < self._number:
                self.trained.let_go(slot)

    def _put_init(self) -> None:
        optimizers = self.trained.optimizers()
        parts = [self._part(slot, ("init", self.trained.state(optimizer))) for slot, optimizer in optimizers]
        trained = {key for _, optimizer in optimizers for key in self.trained.models(optimizer)}
        self._watch.put(0, [*parts, *(taken for key, taken in self._buffers.items() if key in trained)])

    def _put(self) -> None:
        """Record the step that is open."""
        if self._open:
            self._watch.put(self._number, self._open)
            self._open, self._watch.assembly.open = [], False

    def _within(self, slot: Slot, path: str) -> str:
        """Put an optimizer's name behind a path's first part, where there are several."""
        first, _, rest = path.partition("/")
        return f"{first}/{slot.name}/{rest}" if rest and self._several else path

    def _state(self, slot: Slot, optimizer: Any) -> list[tuple[str, Read]]:
        """Return buffers, optimizer state and parameters as they are now, with their phases."""
        before = "forward" if slot is self._pace else "update"
        return [(before, self.trained.buffers(optimizer)), ("update", self.trained.state(optimizer))]

    def _part(self, slot: Slot | None, *found: tuple[str, Read]) -> Any:
        """Take the checksums of what an optimizer has in some phases; how leaves are named is worked out once."""
        key = slot and slot.name, self._several, tuple((phase, paths) for phase, (paths, _) in found)
        if key not in self._named:
            self._named[key] = tuple(
                (phase, path if slot is None else self._within(slot, path)) for phase, (paths, _) in found for path in paths
            )
        return self._watch.assembly.part(self._named[key], [leaf for _, (_, leaves) in found for leaf in leaves])

    def _final_leaves(self) -> list[tuple[Any, Any]]:
        from reprotui.record.lanes import spec_of, to_numpy

        return [
            (spec_of(self._within(slot, path), leaf), to_numpy(leaf))
            for slot in self.trained.slots
            if slot.kept is not None
            for _, (paths, leaves) in self._state(slot, slot.kept)
            for path, leaf in zip(paths, leaves, strict=True)
        ]


def _input_path(prefix: str, path: str, call: int) -> str:
    """Return the name of an input: its number or keyword, and from the second call within a step on the call's number."""
    inner = path.partition("/")[2]
    return f"{prefix}/{inner}" if call == 1 else f"{prefix}/call_{call}/{inner}"
