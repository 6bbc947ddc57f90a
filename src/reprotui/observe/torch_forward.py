"""What leads to a step of torch, whoever takes it: calls of models, losses, backward passes and functions that give gradients."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from reprotui.observe.names import path_of, unwrapped
from reprotui.observe.torch_calls import CALLS_NAMED, Calls
from reprotui.observe.torch_checks import Recompute
from reprotui.observe.torch_copies import Copies
from reprotui.observe.torch_functional import Gradients
from reprotui.observe.torch_graph import leaves
from reprotui.observe.torch_passes import Passes
from reprotui.observe.torch_ranks import Ranks, local, sharded
from reprotui.observe.torch_state import Named
from reprotui.observe.torch_still import Still
from reprotui.observe.torch_tracked import Tracked, TrackedOptimizer
from reprotui.observe.watch import Watch

if TYPE_CHECKING:
    from reprotui.record.assembly import Part


class PassObserver:
    """The observer of one process's calls and passes; where no optimizer steps, the passes are the steps.

    Attributes:
        inside: a model is being called: what it calls in turn is part of it.
        passing: a backward pass runs.
    """

    def __init__(self, torch: Any, watch: Watch) -> None:
        self._torch, self._watch = torch, watch
        self.inside = self.passing = False
        self._tracked = Tracked()
        self._calls, self._copies = Calls(torch, watch), Copies()
        self.ranks = Ranks()
        self._passes = Passes(watch, self, self._tracked, self._calls)
        self._again = None if watch.checks is None else Recompute(torch, watch.checks, self._tracked, watch.ledger)
        self._still = None if watch.checks is None else Still(torch, watch.checks)
        self._pace: TrackedOptimizer | None = None
        self._number = 0
        self._evaluations = 0  # of the closure of this step
        self._later = "optimizer"  # the phase of what an optimizer's step computes besides its first evaluation
        self._losses: list[Any] = []
        self._roots = 0  # tensors that backward passes of this step came from
        self._first_buffers: dict[int, Part] = {}  # by model, before its first forward pass

    def called(self, module: Any, args: Any, kwargs: Any, call: Callable[..., Any]) -> Any:
        """Call a model, or a loss that is a module; note what it is given from outside: its inputs that need no gradient."""
        if not self._watch.active(self) or self._capturing():
            return call(module, *args, **kwargs)
        number = self._watch.guard(lambda: self._take_inputs(unwrapped(module), args, kwargs))
        again = self._again if self._torch.is_grad_enabled() and next(module.parameters(), None) is not None else None
        if again is not None:
            again.call(self.steps_taken + 1, module, args, kwargs)
        result = call(module, *args, **kwargs)
        if again is not None:
            again.returned(result)
        if number is not None and self._torch.is_grad_enabled():
            self._watch.guard(lambda: self._calls.returned(number, result))
        return result

    def passed(self, roots: Sequence[Any], inputs: Sequence[Any] | None, run: Callable[[], Any], *, apart: bool = False) -> Any:
        """Take a backward pass from some tensors, and note what leads there; `inputs` where it gives gradients to these alone.

        `apart` says that the gradients are what `run` returns.
        """
        if not self._watch.active(self) or self._capturing():
            return run()
        before, self.inside, self.passing = self.inside, True, True  # what a pass computes anew is no call of its own
        try:
            step = self._watch.guard(lambda: self._before_pass(roots, inputs))
            if self._again is not None:
                self._again.before_pass(roots, apart or inputs is not None)
            result = run()
            if self._again is not None:
                self._again.after_pass()
            if step:
                self._watch.guard(lambda: self._after_pass(self._passes.named(inputs or (), result) if apart else None))
        finally:
            self.inside, self.passing = before, False
        return result

    def differentiated(self, describe: Callable[[], Gradients], run: Callable[[], Any]) -> Any:
        """Take a call of a function that gives gradients, and note what it is given and gives."""
        if not self._watch.active(self) or self._capturing():
            return run()
        before, self.inside, self.passing = self.inside, True, True  # models that it calls are given no values
        try:
            found = self._watch.guard(lambda: self._before_call(describe()))
            result = run()
            if found is not None:
                self._watch.guard(lambda: self._after_call(found, result))
        finally:
            self.inside, self.passing = before, False
        return result

    @property
    def steps_taken(self) -> int:
        """Return how many steps were taken, also where backward passes are the steps."""
        return max(self._number, self._passes.number)

    def modules(self) -> dict[int, str]:
        """Return what the modules of the models that were called are called, by identity."""
        return self._tracked.modules()

    def copied(self, module: Any) -> None:
        """Note that a copy of a model was made."""
        if not self._recomputes:
            self._watch.guard(lambda: self._copies.made(module))

    def first_buffers(self, models: Sequence[Any]) -> "list[Part]":
        """Return the buffers that models began with."""
        return [self._first_buffers[id(model)] for model in models if id(model) in self._first_buffers]

    def _due(self) -> bool:
        """Say whether what comes now may be part of a record: of the next step, or of what others do after this one."""
        if not (self._watch.active(self) and self._watch.options.record):
            return False
        return self._watch.due(self._number + 1) or (self._several and self._watch.due(max(self._number, 1)))

    def _capturing(self) -> bool:
        """Say whether what is called now goes into a CUDA graph: what read it would be part of the graph."""
        cuda = self._torch.cuda
        return cuda.is_available() and cuda.is_initialized() and cuda.is_current_stream_capturing()

    @property
    def _recomputes(self) -> bool:
        """Say whether what happens now is a check's, and none of the script's."""
        return self._again is not None and self._again.busy

    @property
    def _several(self) -> bool:
        return len(self._tracked.optimizers) > 1

    def _take_inputs(self, module: Any, args: Any, kwargs: Any) -> int | None:
        asks, model = not self._torch.is_grad_enabled(), next(module.parameters(), None) is not None
        if model and not asks and self._still is not None:
            self._still.look()
        if model and (not asks or self._number == 0):
            self._tracked.saw(module)  # a policy may act as a whole, and be trained in parts
            if self._number == 0 and self._watch.options.record and id(module) not in self._first_buffers:
                self._take_buffers(module)
        if asks and model and self._pace is not None:
            self._copies.asked(module, self._number + 1)
        if not self._due() or (asks and not model):
            return None
        return self._calls.take(self._number + 1, module, args, kwargs, None if asks else self._phase)

    @property
    def _phase(self) -> str:
        """Return the phase of what enters now: a closure's later evaluations are part of what its optimizer does."""
        return self._later if self._evaluations else "batch"

    def _before_pass(self, roots: Sequence[Any], inputs: Sequence[Any] | None) -> bool:
        """Note what a backward pass comes from; say whether it may be a step of its own."""
        nodes = [root.grad_fn for root in roots if root.grad_fn is not None]
        step = self._pace is None and self._passes.applies()
        if step:
            self._passes.begin([(None, leaf) for leaf in (leaves(nodes) if inputs is None else inputs)])
            self._number = self._passes.number
        self._roots += len(nodes)
        if self._due():
            self._calls.lead_to(nodes, self._phase)
            self._losses += [root.detach() for root in roots if root.numel() == 1][: CALLS_NAMED - len(self._losses)]
        return step

    def _before_call(self, found: Gradients) -> tuple[Gradients, bool]:
        """Note what a function that gives gradients is called with; say whether that may be a step of its own."""
        step = self._pace is None and self._passes.applies()
        if step:
            self._passes.begin(found.params)
            self._number = self._passes.number
        self._roots += 1
        if self._due():
            self._calls.give(self._phase, found.batch)
        return found, step

    def _after_call(self, before: tuple[Gradients, bool], result: Any) -> None:
        found, step = before
        gradients, loss = found.read(result)
        if self._due() and loss is not None and len(self._losses) < CALLS_NAMED:
            self._losses.append(loss.detach())
        if step:
            self._after_pass(gradients)

    def _after_pass(self, gradients: Sequence[tuple[str, Any]] | None) -> None:
        self._passes.end(self._losses, gradients)
        self._losses = []

    def _take_buffers(self, model: Any) -> None:
        """Read a model's buffers before the first forward pass, which changes them."""
        owner = next((tracked for tracked, item in self._tracked.newest() if id(model) in self._tracked.models(item)), None)
        named = dict(model.named_buffers())
        found = Named(tuple(f"extra/{path_of(name)}" for name in named), list(named.values()))
        self._first_buffers[id(model)] = self._part(owner, ("init", found))

    def _name_of(self, tracked: TrackedOptimizer | None) -> str | None:
        """Return the name that tells an optimizer's leaves apart, where there are several."""
        return tracked.name if tracked is not None and self._several else None

    def _part(self, tracked: TrackedOptimizer | None, *found: tuple[str, Named]) -> "Part":
        """Take the checksums of what an optimizer has in some phases."""
        if sharded():
            found = tuple((phase, Named(*local(named.paths, named.tensors))) for phase, named in found)
        names = _in_record(self._name_of(tracked), tuple([(phase, named.paths) for phase, named in found]))
        return self._watch.assembly.part(names, [tensor for _, named in found for tensor in named.tensors])


@functools.cache
def _in_record(optimizer: str | None, paths: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[tuple[str, str], ...]:
    """Return phase and path of each leaf; worked out once for all parts that are named alike."""
    return tuple((phase, within(optimizer, path)) for phase, of_phase in paths for path in of_phase)


def within(optimizer: str | None, path: str) -> str:
    """Put an optimizer's name behind a path's first part."""
    first, _, rest = path.partition("/")
    return f"{first}/{optimizer}/{rest}" if rest and optimizer else path
