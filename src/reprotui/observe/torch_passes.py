"""Steps of a script without a torch optimizer: a step is a backward pass, or several, after which what it trains has changed.

    loss.backward()                            batch, loss and gradients of step 1
    with torch.no_grad(): w -= 0.1 * w.grad    seen at the next pass, or at the end: step 1 is complete, params/w

What is trained are the leaves that receive gradients. The models that were called name them, or the script's variables.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reprotui.observe.torch_calls import CALLS_NAMED, Calls
from reprotui.observe.torch_names import OF_MODULES, Place, now_at, paths_of, places_of
from reprotui.observe.torch_state import Buffers, Named
from reprotui.observe.torch_tracked import Tracked
from reprotui.observe.watch import Watch
from reprotui.record.assembly import distinct
from reprotui.record.frameworks import describe_torch

if TYPE_CHECKING:
    from reprotui.record.assembly import Part

NAME = "backward"
"""What `--step-function` calls these steps."""
WAITING = 64
"""Passes for which an optimizer that was made may take its first step; a script that never steps it updates by itself."""

_version = operator.attrgetter("_version")


class _State:
    """What is trained, as it is at one time."""

    def __init__(self, leaves: dict[str, Any], lanes: Any, part: "Part | None") -> None:
        self.tensors, self.versions = list(leaves.values()), list(map(_version, leaves.values()))
        self.lanes, self.part = lanes, part

    def changed(self, later: "_State") -> bool:
        """Say whether it is another one later; leaves that came in meanwhile stand behind the others there."""
        if any(map(operator.is_not, self.tensors, later.tensors)) or any(map(operator.ne, self.versions, later.versions)):
            return True
        # What goes through `.data` counts no version.
        return bool((self.lanes.result().lanes != later.lanes.result().lanes[: len(self.tensors)]).any())


class Passes:
    """The backward passes of a script, until a torch optimizer takes a step.

    Args:
        owner: the observer that claims these steps; it has the buffers that models began with.
    """

    def __init__(self, watch: Watch, owner: Any, tracked: Tracked, calls: Calls) -> None:
        self._watch, self._owner, self._tracked, self._calls = watch, owner, tracked, calls
        self.number = 0
        self.claimed = False
        self._over = False
        self._seen = 0
        self._leaves: dict[str, Any] = {}
        self._paths: dict[int, str] = {}
        self._by_shapes: dict[tuple[Any, ...], list[str]] = {}
        self._models_named: dict[int, str] = {}
        self._places: dict[str, Place] = {}  # in the main module, of leaves that the script may make anew
        self._replaced = False
        self._known_buffers: Buffers | None = None
        self._before: _State | None = None
        self._init: list[Part] = []
        # Of the step that is open:
        self._passes = 0
        self._last_call = 0
        self._step: list[Part] = []
        self._losses: list[Any] = []
        self._after_forward: list[Part] = []  # buffers as the forward pass left them
        self._gradients: list[Part] = []
        self._touched: dict[str, None] = {}

    def applies(self) -> bool:
        """Say whether a pass that begins may be a step: no optimizer was made, or none takes a step."""
        if self._over or self._watch.options.step_function not in (None, NAME):
            return False
        self._seen += 1
        return self.claimed or not self._tracked.made or self._seen > WAITING

    def begin(self, named: Sequence[tuple[str | None, Any]]) -> None:
        """Note what a pass gives gradients to, by name where it has one; where it has changed, the passes before were a step."""
        paths = self._name(named)
        now = self._state()
        if self._passes and self._before is not None and self._before.changed(now):
            self._complete(now)
        self._touched |= dict.fromkeys(paths)
        if not self._passes:
            self._before = now
            if self.claimed:
                self._watch.wait(self.number)
            elif self._watch.options.record:
                self._init = [self._part("init"), *self._owner.first_buffers(self._models())]

    def end(self, losses: Sequence[Any], gradients: Sequence[tuple[str, Any]] | None = None) -> None:
        """Take batch, losses and gradients of a pass; `gradients` by name where they are not added to the leaves."""
        self._passes += 1
        self._last_call = self._calls.count
        if self._due():
            self._step += self._calls.entered
            buffers = self._buffers()
            paths = tuple([("forward", path) for path in buffers.paths])
            self._after_forward = [self._watch.assembly.part(paths, buffers.tensors)] if paths else []
            self._losses += losses[: CALLS_NAMED - len(self._losses)]
            if gradients is None:
                # Where they accumulate, those of a later pass hold those of the ones before.
                self._gradients = []
                gradients = [(path, self._leaves[path].grad) for path in self._touched]
            found = [(path, gradient) for path, gradient in gradients if gradient is not None and self._calls.has_bits(gradient)]
            names = tuple([("grads", f"grads/{path}") for path, _ in found])
            self._gradients.append(self._watch.assembly.part(names, [gradient for _, gradient in found]))
        self._calls.new_step()
        self._watch.over(self.number + 1)

    def finish(self) -> None:
        """End: record the last step where what it trains has changed, or is kept where nobody sees it."""
        if self._over:
            return
        self._over = True
        if not self._passes or self._before is None:
            return
        follows = self._follow()
        now = self._state()
        if follows and self._before.changed(now):
            self._complete(now)
        elif not follows and self.claimed:
            self._watch.coverage.note("what the last backward pass led to is not recorded: nothing trained on from it")
            self._complete(None)

    def hand_over(self) -> "tuple[list[Part], list[Any]]":
        """End: an optimizer steps; return batch and losses of the pass that it steps on."""
        if not self._over and self._passes and self._before is not None and self._before.changed(now := self._state()):
            self._complete(now)
        self._over = True
        return self._step, self._losses

    def named(self, leaves: Sequence[Any], gradients: Sequence[Any] | Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Return the gradients of leaves that were named with their paths."""
        values = gradients.values() if isinstance(gradients, Mapping) else gradients
        return [(self._paths[id(leaf)], value) for leaf, value in zip(leaves, values, strict=False)]

    def _due(self) -> bool:
        return self._watch.options.record and self._watch.due(self.number + 1)

    def _complete(self, now: _State | None) -> None:
        """Record the step that is open, with what is trained as it is now; None where nobody sees that."""
        self.number += 1
        self._watch.tick()
        if not self.claimed:
            self.claimed = self._watch.claim(
                self._owner, "steps: backward passes after which parameters change", describe_torch()
            )
            self._watch.final = self._final_leaves
            if self._init and self._watch.options.record:
                self._watch.put(0, self._init)
        if self._watch.options.record and self._watch.due(self.number):
            names = [f"metrics/loss_{number}" for number in range(1, len(self._losses) + 1)]
            names[-1:] = ["loss"] if names else []
            forward = self._watch.assembly.part(tuple([("forward", name) for name in names]), self._losses)
            state = [now.part] if now is not None and now.part is not None else []
            self._watch.put(self.number, [*self._step, forward, *self._after_forward, *self._gradients, *state])
        elif self._watch.session is not None:
            self._watch.session.step = self.number
        self._calls.close(self.number, self._last_call)
        self._passes, self._step, self._losses, self._gradients, self._touched = 0, [], [], [], {}

    def _state(self) -> _State:
        part = self._part("params") if self._watch.options.record else None
        if part is not None:
            return _State(self._leaves, part[0], part)
        from reprotui.record.lanes import take

        return _State(self._leaves, take(list(self._leaves.values())), None)

    def _part(self, phase: str) -> "Part":
        names = tuple([(phase, f"params/{path}") for path in self._leaves])
        return self._watch.assembly.part(names, list(self._leaves.values()))

    def _models(self) -> list[Any]:
        return self._tracked.models_with(self._leaves.values())

    def _buffers(self) -> Named:
        """Return the buffers of the models that are trained."""
        models = self._models()
        read = self._known_buffers.read(models) if self._known_buffers else None
        if read is None:
            self._known_buffers = Buffers(models)
            read = self._known_buffers.first()
        return read

    # Names

    def _name(self, named: Sequence[tuple[str | None, Any]]) -> list[str]:
        """Return the paths of leaves, worked out where one is new."""
        known = [self._paths.get(id(leaf), "") for _, leaf in named]
        if all(self._leaves.get(path) is leaf for path, (_, leaf) in zip(known, named, strict=True)):
            return known
        paths = [given or self._in_models(leaf) for given, leaf in named]
        by_variables = iter(self._in_variables([leaf for path, (_, leaf) in zip(paths, named, strict=True) if not path]))
        paths = distinct([path or next(by_variables) for path in paths])
        if not self._places and any(given for given, _ in named):
            self._keep_places(paths, [leaf for _, leaf in named])
        for path, (_, leaf) in zip(paths, named, strict=True):
            old = self._leaves.get(path)
            if old is not None and old is not leaf:
                self._replaced = True
                self._paths.pop(id(old), None)
            self._leaves[path], self._paths[id(leaf)] = leaf, path
        return paths

    def _in_models(self, leaf: Any) -> str | None:
        """Return what the models call a leaf, behind the name of its model where there are several."""
        path = self._tracked.path(leaf)
        if path is None or not self._tracked.several_models:
            return path
        (model,) = self._tracked.models_with([leaf]) or [None]
        if id(model) not in self._models_named:
            places, _ = places_of([model])
            kept = "/".join(key for key in places.get(id(model), ()) if key not in OF_MODULES)
            self._models_named[id(model)] = kept or type(model).__name__
        return f"{self._models_named[id(model)]}/{path}"

    def _in_variables(self, leaves: list[Any]) -> list[str]:
        """Return what the script calls leaves; those that it makes anew for each step are looked for once."""
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if shapes not in self._by_shapes:
            self._by_shapes[shapes] = self._keep_places(None, leaves)
        return self._by_shapes[shapes]

    def _keep_places(self, paths: list[str] | None, leaves: list[Any]) -> list[str]:
        """Note the variables that have these leaves, to find there what the last pass led to; return paths by them."""
        places, in_main = places_of(leaves)
        found = [places.get(id(leaf)) for leaf in leaves]
        paths = paths or paths_of(found)
        if in_main:
            self._places |= {path: place for path, place in zip(paths, found, strict=True) if place}
        return paths

    def _follow(self) -> bool:
        """Take what stands in the script's variables where it makes its leaves anew; say whether all that is trained is seen."""
        if not self._replaced:
            return True
        now = {path: now_at(self._places[path]) for path in self._leaves if path in self._places}
        if any(getattr(now.get(path), "shape", None) != leaf.shape for path, leaf in self._leaves.items()):
            return False
        self._leaves = now
        return True

    def _final_leaves(self) -> list[tuple[Any, Any]]:
        from reprotui.checksum.leaves import spec_of, to_numpy

        buffers = self._buffers()
        found = [
            *zip(buffers.paths, buffers.tensors, strict=True),
            *((f"params/{path}", leaf) for path, leaf in self._leaves.items()),
        ]
        return [(spec_of(path, tensor), to_numpy(tensor)) for path, tensor in found]
