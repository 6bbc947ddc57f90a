"""The models that were called and the optimizers that were made in a process, and which belongs to which."""

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reprotui.observe.names import path_of
from reprotui.observe.torch_names import OF_MODULES, places_of
from reprotui.observe.torch_state import Buffers, Named, OptimizerState, Parameters


@dataclass(eq=False)
class TrackedOptimizer:
    """An optimizer, or one after another that train some of the same parameters; the same under a wrapper that steps another one.

    Attributes:
        name: what records and events call it.
        newest: the one that was made last, `made` how many optimizers there were then, `trained` its parameters.
        alive: the one that took a step in the last rounds, and `models` what it trains, kept alive so that what the training
            ends on can be read when the script's functions have returned.
        steps: how many it took; `last_step` is the number of the newest.
    """

    name: str
    newest: weakref.ref[Any]
    made: int
    trained: list[weakref.ref[Any]]
    alive: Any = None
    models: tuple[Any, ...] = ()
    models_seen: int = 0
    steps: int = 0
    last_step: int = 0
    parameters: Parameters | None = None
    state: OptimizerState | None = None
    buffers: Buffers | None = None

    def let_go(self) -> None:
        """Keep nothing alive any more of what it trains."""
        self.alive, self.models = None, ()
        self.parameters = self.state = self.buffers = None


class Tracked:
    """The models that were called and the optimizers that were made.

    Nothing here may depend on when memory is freed: two runs of one script must be recorded alike.
    """

    def __init__(self) -> None:
        self.optimizers: list[TrackedOptimizer] = []
        self.made = 0
        self._by_optimizer: weakref.WeakKeyDictionary[Any, TrackedOptimizer] = weakref.WeakKeyDictionary()
        self._models: dict[int, weakref.ref[Any]] = {}
        self._models_seen = 0
        self._names: dict[int, str] = {}
        self._owners: dict[int, int] = {}
        self._named_at = 0

    def track(self, optimizer: Any) -> TrackedOptimizer:
        """Return what is known of an optimizer: with another one that trains some of the same parameters, or by itself."""
        if optimizer in self._by_optimizer:
            return self._by_optimizer[optimizer]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        identities, trained = set(map(id, parameters)), list(map(weakref.ref, parameters))
        self.made += 1
        tracked = next((one for one in self.optimizers if not identities.isdisjoint(_alive(one.trained))), None)
        if tracked is None:
            kind = type(optimizer).__name__
            same = sum(one.name.partition("#")[0] == kind for one in self.optimizers)
            tracked = TrackedOptimizer(f"{kind}#{same + 1}" if same else kind, weakref.ref(optimizer), self.made, trained)
            self.optimizers.append(tracked)
        tracked.newest, tracked.made, tracked.trained = weakref.ref(optimizer), self.made, trained
        self._by_optimizer[optimizer] = tracked
        return tracked

    def keep_alive(self, tracked: TrackedOptimizer, optimizer: Any) -> None:
        """Keep an optimizer and the models that it trains alive, and know the names of what it trains."""
        if tracked.alive is not optimizer or tracked.models_seen != self._models_seen:
            tracked.models = tuple(model for key in self.models(optimizer) if (model := self._models[key]()) is not None)
            tracked.alive, tracked.models_seen = optimizer, self._models_seen

    def saw(self, model: Any) -> None:
        """Note a model that has parameters."""
        known = self._models.get(id(model))
        if known is None or known() is not model:
            self._models[id(model)] = weakref.ref(model)
            self._models_seen += 1

    def modules(self) -> dict[int, str]:
        """Return the paths of all modules of the models that were called, by identity; of several models, with their classes."""
        models = [model for model in (reference() for reference in self._models.values()) if model is not None]
        models.sort(key=lambda model: -sum(1 for _ in model.modules()))
        found: dict[int, str] = {}
        wholes = []
        for model in models:
            if id(model) not in found:
                wholes.append(model)
                found |= dict.fromkeys(map(id, model.modules()), "")
        places, _ = places_of(wholes) if len(wholes) > 1 else ({}, False)
        for model in wholes:
            kept = ".".join(key for key in places.get(id(model), ()) if key not in OF_MODULES)
            whole = kept or type(model).__name__
            for name, module in model.named_modules():
                alone = len(wholes) == 1 and not name[:1].isdigit()
                found[id(module)] = name if alone and name else f"{whole}.{name}" if name else whole
        return found

    def newest(self) -> list[tuple[TrackedOptimizer, Any]]:
        """Return the newest optimizers, where they are there."""
        found = ((one, one.alive if one.alive is not None else one.newest()) for one in self.optimizers)
        return [(tracked, optimizer) for tracked, optimizer in found if optimizer is not None]

    def trained(self) -> list[Any]:
        """Return the parameters that optimizers train."""
        found = (reference() for one in self.optimizers for reference in one.trained)
        return [parameter for parameter in found if parameter is not None]

    def models(self, optimizer: Any) -> set[int]:
        """Return the identities of the models that an optimizer trains."""
        return self._parameters(optimizer).models

    @property
    def several_models(self) -> bool:
        """Say whether more than one model was called."""
        return len(self._models) > 1

    def path(self, parameter: Any) -> str | None:
        """Return what the models call a parameter; None where none of them has it."""
        if id(parameter) not in self._names or self._named_at != self._models_seen:
            self._name()
        return self._names.get(id(parameter))

    def models_with(self, parameters: Iterable[Any]) -> list[Any]:
        """Return the models that have some of these parameters, in the order in which they were first called."""
        owners = {self._owners.get(id(parameter)) for parameter in parameters}
        found = (reference() for key, reference in self._models.items() if key in owners)
        return [model for model in found if model is not None]

    def named(self, optimizer: Any) -> tuple[Sequence[str], Sequence[Any]]:
        """Return the names and tensors of what an optimizer trains."""
        found = self._parameters(optimizer)
        return found.names, found.tensors

    def gradients(self, optimizer: Any) -> Named:
        """Return the gradients that an optimizer steps on."""
        return self._parameters(optimizer).gradients()

    def buffers(self, optimizer: Any) -> Named:
        """Return the buffers of the models that an optimizer trains."""
        tracked, trained = self.track(optimizer), self.models(optimizer)
        found = (reference() for key, reference in self._models.items() if key in trained)
        models = [model for model in found if model is not None]
        read = tracked.buffers.read(models) if tracked.buffers else None
        if read is None:
            tracked.buffers = Buffers(models)
            read = tracked.buffers.first()
        return read

    def state(self, optimizer: Any) -> Named:
        """Return an optimizer's state and then its parameters as they are now."""
        tracked, parameters = self.track(optimizer), self._parameters(optimizer)
        read = tracked.state.read(optimizer, parameters) if tracked.state else None
        if read is None:
            tracked.state = OptimizerState(optimizer, parameters)
            read = tracked.state.first()
        return read

    def _parameters(self, optimizer: Any) -> Parameters:
        """Return an optimizer's parameters with their names in the model, where that was seen."""
        tracked = self.track(optimizer)
        if tracked.parameters is None or not tracked.parameters.fits(optimizer, self._models_seen):
            self._name()
            tracked.parameters = Parameters(optimizer, self._models_seen, self._names, self._owners)
        return tracked.parameters

    def _name(self) -> None:
        """Read the names of all models' parameters; a part of a model may be called by itself too: the whole one names it."""
        alive = [(key, model) for key, reference in self._models.items() if (model := reference()) is not None]
        found = [(key, list(model.named_parameters())) for key, model in alive]
        self._names, self._owners, self._named_at = {}, {}, self._models_seen
        for key, parameters in sorted(found, key=lambda item: -len(item[1])):
            for name, parameter in parameters:
                self._names.setdefault(id(parameter), path_of(name))
                self._owners.setdefault(id(parameter), key)


def _alive(references: Iterable[weakref.ref[Any]]) -> list[int]:
    """Return the identities of what is still there."""
    return [id(found) for found in (reference() for reference in references) if found is not None]
