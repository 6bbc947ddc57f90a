"""Records of the steps of torch's optimizers: what is read of models, losses and optimizers, and when.

`model(x)`, `loss.backward()`, `optimizer.step()` are the record of a step:

    batch, rng   x, torch's generator   read when the model is called
    forward      loss, buffers          the buffers after the step, as the step's forward passes left them
    grads        gradients              read before the optimizer steps on them
    optimizer    its state              read after it
    params       parameters             read after it

The first optimizer that takes a step sets the pace; what others do until its next step belongs to the same record. In
`optimizer.step(closure)`, which Lightning calls for every step, the model is called inside the step: what is read before the
optimizer steps is read when the closure returns for the first time. Evaluations after that one, of L-BFGS, stand in `optimizer`.
What follows the parameters of the first optimizer stands in `params`: it can differ because of them.
"""

import functools
from typing import TYPE_CHECKING, Any

from reprotui.observe.torch_calls import CALLS_NAMED
from reprotui.observe.torch_forward import PassObserver, within
from reprotui.observe.torch_passes import NAME
from reprotui.observe.torch_ranks import local, sharded
from reprotui.observe.torch_state import Named
from reprotui.observe.torch_tracked import TrackedOptimizer
from reprotui.observe.watch import Watch
from reprotui.record.frameworks import describe_torch

if TYPE_CHECKING:
    from reprotui.record.assembly import Part

CAPTURED = "a CUDA graph is captured: steps inside it are not recorded, and its replays call nothing that could be observed"


class TorchObserver(PassObserver):
    """The observer of one process's optimizers: record k is the k-th step of the one that sets the pace."""

    def __init__(self, torch: Any, watch: Watch) -> None:
        super().__init__(torch, watch)
        self._steps_of_others = 0  # since the last one of the pace
        self._made_before = 0  # optimizers, when the pace took its last step
        self._stepping: Any = None
        self._losses_read = 0  # of those of this step
        self._calls_before = 0  # this step
        self._open: list[Part] = []  # of the record that is not put yet
        self._copies_told: set[Any] = set()

    def made(self, optimizer: Any) -> None:
        """Note an optimizer: what it is called follows the order in which they are made."""
        if not self._recomputes:
            self._watch.guard(lambda: (self.ranks.made(optimizer), self._tracked.track(optimizer)))

    def before_capture(self) -> None:
        """Let the writer come to an end: waiting for the device on another thread would break off a CUDA graph's capture."""
        if self._watch.active(self) and self._number and self._watch.options.record:
            self._watch.guard(lambda: (self._watch.flush(), self._watch.unseen("candidates", CAPTURED)))

    def before_step(self, optimizer: Any, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Read what is there before the step; of one with a closure, return the arguments with the closure observed."""
        if self._recomputes or not self._watch.active(self) or self._stepping not in (None, optimizer) or self._capturing():
            return None
        self._stepping = optimizer  # what steps meanwhile is part of it: the one below a wrapper
        self._evaluations = 0
        by_name, closure = "closure" in kwargs, kwargs.get("closure", args[1] if len(args) > 1 else None)
        due = self._watch.guard(lambda: self._before(optimizer))
        if self._again is not None and self._tracked.track(optimizer) is self._pace:
            self._again.before_update(self._number + 1, optimizer, callable(closure))
        if not callable(closure):
            if due:
                self._watch.guard(lambda: self._read_gradients(optimizer))
            return None

        @functools.wraps(closure)
        def observed_closure(*given: Any, **named: Any) -> Any:
            result = closure(*given, **named)
            if due and self._stepping is optimizer:
                self._watch.guard(lambda: self._read_gradients(optimizer))
                self._evaluations += 1
            return result

        if by_name:
            return args, {**kwargs, "closure": observed_closure}
        return (args[0], observed_closure, *args[2:]), kwargs

    def after_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """Read parameters and optimizer state, and record the step where nothing more can be part of it."""
        if self._stepping is optimizer and not self._recomputes:
            self._stepping, self._evaluations = None, 0
            if self._again is not None:
                self._again.after_update(optimizer)
            if self._watch.active(self):
                self._watch.guard(lambda: self._after(optimizer))

    def finish(self) -> None:
        """Record what is open, and say which optimizers there were."""
        if self._watch.active(self):
            self._passes.finish()
            self._put()
            self._calls.close(self._number, self._calls.count)
        self._watch.candidates.update({NAME: self._passes.number} if self._passes.number else {})
        self._watch.candidates.update({tracked.name: tracked.steps for tracked in self._tracked.optimizers if tracked.steps})

    def _takes_part(self, tracked: TrackedOptimizer, optimizer: Any) -> bool:
        """Say whether a step is recorded; choose what sets the pace where nothing does, or where that has ended."""
        self._steps_of_others = 0 if tracked is self._pace else self._steps_of_others + 1
        superseded = tracked.made > self._made_before or self._steps_of_others > CALLS_NAMED
        ended = self._pace is not None and tracked is not self._pace and superseded
        if self._pace is None:
            self._take_over()
        if ended or (self._pace is None and self._watch.options.step_function in (None, tracked.name)):
            if ended:
                self._watch.event("candidates", f"{tracked.name} sets the pace from step {self._number + 1} on")
            self._pace = tracked
            self._watch.claim(self, f"optimizer: {tracked.name}", describe_torch())
        elif self._pace is not None and tracked is not self._pace and not tracked.steps:
            text = f"{self._pace.name} sets the pace; {tracked.name} is another optimizer, recorded with the step that it follows"
            self._watch.event("candidates", f"{text}: --step-function NAME chooses")
        if tracked.alive not in (None, optimizer):
            self._watch.event("optimizer-replaced", f"{tracked.name} is another {type(optimizer).__name__} from here on")
        return self._pace is not None and self._watch.owner is self

    def _take_over(self) -> None:
        """Go on where backward passes were the steps until now; a pass that is open is that of the optimizer's first step."""
        parts, losses = self._passes.hand_over()
        self._number = self._passes.number
        self._calls.entered, self._losses = [*parts, *self._calls.entered], [*losses, *self._losses]

    def _before(self, optimizer: Any) -> bool:
        """Say whether the step that begins is to be recorded."""
        tracked = self._tracked.track(optimizer)
        takes_part = self._takes_part(tracked, optimizer)
        tracked.steps += 1
        if not takes_part:
            return False
        pace = tracked is self._pace
        # Evaluations of the first optimizer's closure come before its state; what others do comes after its parameters.
        self._later = "optimizer" if pace else "params"
        self._tracked.keep_alive(tracked, optimizer)
        tracked.last_step = self._number + pace
        if pace:
            if self._still is not None:
                self._still.look()  # where no model was called since
            self._put()
            self._made_before = self._tracked.made
            self._let_go()
            self._watch.tick()
            self._watch.final = self._final_leaves
        if not self._watch.options.record:
            return False
        if pace:
            self._watch.wait(self._number)
            if self._number == 0:
                self._put_init()
        self._tell_copies(tracked, optimizer)
        return self._watch.due(self._number + pace)

    def _tell_copies(self, tracked: TrackedOptimizer, optimizer: Any) -> None:
        """Write down what of an optimizer's all ranks of the training hold alike, where that may be other than before."""
        names, tensors = self._tracked.named(optimizer)
        key = id(optimizer), self.ranks.known, self._name_of(tracked), len(names)
        if key not in self._copies_told and self._watch.session is not None:
            self._copies_told.add(key)
            if found := self.ranks.copies(tensors, [within(self._name_of(tracked), f"/{name}")[1:] for name in names]):
                self._watch.session.writer.copies(found)

    def _read_gradients(self, optimizer: Any) -> None:
        """Read inputs, losses and gradients; of a closure's later evaluations, inputs and losses."""
        tracked, first = self._tracked.track(optimizer), not self._evaluations
        pace = tracked is self._pace
        forward, grads = ("forward", "grads") if pace and first else (self._later, self._later)
        losses = [(f"metrics/loss_{number + 1}", loss) for number, loss in enumerate(self._losses)]
        if pace and first and losses:
            losses[-1] = "loss", losses[-1][1]
        losses = losses[self._losses_read :]
        self._losses_read = len(self._losses)
        found = Named(tuple(path for path, _ in losses), [loss for _, loss in losses])
        if first and not self._roots:
            self._calls.all_lead()
        self._open += self._calls.entered
        self._calls.entered = []
        gradients = [(grads, self._tracked.gradients(optimizer))] if first else []
        self._open.append(self._part(tracked, (forward, found), *gradients))

    def _after(self, optimizer: Any) -> None:
        tracked = self._tracked.track(optimizer)
        if self._pace is None:
            return
        pace = tracked is self._pace
        self._number += pace
        if pace:
            self._copies.hold(self._tracked.trained)
        if self._watch.options.record:
            if self._watch.due(self._number):
                state = self._state(tracked, optimizer)
                self._open.append(self._part(tracked, *state))
                if pace and self._still is not None:
                    self._still.keep(self._number, state, self._open[-1][0])
                if pace and (others := self._copies.read()).paths:
                    self._open.append(self._part(None, ("params", others)))
                self._watch.assembly.open = True
                if pace and not self._several:
                    self._put()
            elif self._watch.session is not None:
                self._watch.session.step = self._number
        self._losses, self._losses_read, self._roots = [], 0, 0
        self._calls.new_step()
        if pace:
            # Of several optimizers, another one may yet step on what was called before this step.
            self._calls.close(self._number - self._several, self._calls_before if self._several else self._calls.count)
            self._calls_before = self._calls.count
            self._watch.over(self._number)

    def _let_go(self) -> None:
        """Keep only those optimizers alive that took a step in this round or the last one."""
        for tracked in self._tracked.optimizers:
            if tracked.last_step < self._number:
                tracked.let_go()

    def _put_init(self) -> None:
        optimizers = self._tracked.newest()
        parts = [self._part(tracked, ("init", self._tracked.state(optimizer))) for tracked, optimizer in optimizers]
        trained = {key for _, optimizer in optimizers for key in self._tracked.models(optimizer)}
        self._watch.put(0, [*parts, *(part for key, part in self._first_buffers.items() if key in trained)])

    def _put(self) -> None:
        """Record the step that is open."""
        if self._open:
            self._watch.put(self._number, self._open)
            self._open, self._watch.assembly.open = [], False

    def _state(self, tracked: TrackedOptimizer, optimizer: Any) -> list[tuple[str, Named]]:
        """Return buffers, optimizer state and parameters as they are now, with their phases."""
        buffers, (paths, tensors) = self._tracked.buffers(optimizer), self._tracked.state(optimizer)
        if tracked is not self._pace:
            return [("params", buffers), ("params", Named(paths, tensors))]
        at = _first_parameter(paths)
        of_optimizer, params = Named(paths[:at], tensors[:at]), Named(paths[at:], tensors[at:])
        return [("forward", buffers), ("optimizer", of_optimizer), ("params", params)]

    def _final_leaves(self) -> list[tuple[Any, Any]]:
        from reprotui.checksum.leaves import spec_of, to_numpy

        others = self._copies.read()
        return [(spec_of(path, tensor), to_numpy(tensor)) for path, tensor in zip(*others, strict=True)] + [
            (spec_of(within(self._name_of(tracked), path), tensor), to_numpy(tensor))
            for tracked in self._tracked.optimizers
            if tracked.alive is not None
            for _, named in self._state(tracked, tracked.alive)
            for path, tensor in zip(*(local(*named) if sharded() else named), strict=True)
        ]


@functools.cache
def _first_parameter(paths: tuple[str, ...]) -> int:
    """Return where the parameters begin behind an optimizer's state."""
    return next((at for at, path in enumerate(paths) if path.startswith("params/")), len(paths))
