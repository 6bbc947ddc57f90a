"""What torch optimizers train: parameters by the names that their models give them, gradients, state and buffers."""

import weakref
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from reprotui.observe.torch_plans import Buffers, Parameters, Read, State, path_of


@dataclass(eq=False)
class Slot:
    """What trains some parameters: an optimizer, or one after another; the same under a wrapper that steps another one.

    `made` counts the optimizers that were made until then. `kept` keeps the one that took a step in the last rounds alive, and
    `models` what it trains, so that what the training ends on can be read when the script's functions have returned.
    """

    name: str
    newest: weakref.ref[Any]
    made: int
    parameters: list[weakref.ref[Any]]
    kept: Any = None
    models: tuple[Any, ...] = ()
    steps: int = 0
    last: int = 0

    def let_go(self) -> None:
        """Keep nothing alive any more."""
        self.kept, self.models = None, ()

    def trains(self, parameters: Collection[int]) -> bool:
        """Say whether one of these, by identity, is among the parameters."""
        return any(parameter is not None and id(parameter) in parameters for parameter in (kept() for kept in self.parameters))


class Trained:
    """The models that were called and the optimizers that were made.

    Nothing here may depend on when memory is freed: two runs of one script must be recorded alike.

    Args:
        torch: the module.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self.slots: list[Slot] = []
        self.made = 0
        self._slots: weakref.WeakKeyDictionary[Any, Slot] = weakref.WeakKeyDictionary()
        self._models: dict[int, weakref.ref[Any]] = {}
        self._seen = 0
        self._parameters: dict[str, Parameters] = {}
        self._states: dict[str, State] = {}
        self._buffers: dict[str, Buffers] = {}
        self._kept: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._owners: dict[int, int] = {}

    def slot(self, optimizer: Any) -> Slot:
        """Return the slot of an optimizer: that of another one which trains some of the same parameters, or its own."""
        if optimizer in self._slots:
            return self._slots[optimizer]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        identities = {id(parameter) for parameter in parameters}
        references = [weakref.ref(parameter) for parameter in parameters]
        self.made += 1
        slot = next((slot for slot in self.slots if slot.trains(identities)), None)
        if slot is None:
            kind = type(optimizer).__name__
            same = sum(slot.name.partition("#")[0] == kind for slot in self.slots)
            slot = Slot(f"{kind}#{same + 1}" if same else kind, weakref.ref(optimizer), self.made, references)
            self.slots.append(slot)
        slot.newest, slot.made, slot.parameters = weakref.ref(optimizer), self.made, references
        self._slots[optimizer] = slot
        return slot

    def keep(self, slot: Slot, optimizer: Any) -> None:
        """Keep an optimizer and the models that it trains alive, and know the names of what it trains."""
        if slot.kept is not optimizer or self._kept[slot.name] != self._seen:
            owners = self.models(optimizer)
            slot.models = tuple(model for key in owners if (model := self._models[key]()) is not None)
            slot.kept, self._kept[slot.name] = optimizer, self._seen

    def let_go(self, slot: Slot) -> None:
        """Keep nothing alive any more of what an optimizer trains."""
        slot.let_go()
        for kept in (self._parameters, self._states, self._buffers):
            kept.pop(slot.name, None)

    def saw(self, model: Any) -> None:
        """Note a model that has parameters."""
        known = self._models.get(id(model))
        if known is None or known() is not model:
            self._models[id(model)] = weakref.ref(model)
            self._seen += 1

    def optimizers(self) -> list[tuple[Slot, Any]]:
        """Return the newest optimizer of each slot, where it is there."""
        found = ((slot, slot.kept if slot.kept is not None else slot.newest()) for slot in self.slots)
        return [(slot, optimizer) for slot, optimizer in found if optimizer is not None]

    def parameters(self, optimizer: Any) -> Parameters:
        """Return an optimizer's parameters with their names in the model, where that was seen."""
        name = self.slot(optimizer).name
        known = self._parameters.get(name)
        if known is None or not known.fits(optimizer, self._seen):
            self._name()
            known = self._parameters[name] = Parameters(optimizer, self._seen, self._names, self._owners)
        return known

    def gradients(self, optimizer: Any) -> Read:
        """Return the gradients that an optimizer steps on, by path."""
        return self.parameters(optimizer).gradients()

    def models(self, optimizer: Any) -> set[int]:
        """Return the identities of the models that an optimizer trains."""
        return self.parameters(optimizer).models

    def buffers(self, optimizer: Any) -> Read:
        """Return the buffers of the models that an optimizer trains, by path."""
        name, trained = self.slot(optimizer).name, self.models(optimizer)
        found = (reference() for key, reference in self._models.items() if key in trained)
        models = [model for model in found if model is not None]
        read = self._buffers[name].read(models) if name in self._buffers else None
        if read is None:
            self._buffers[name] = Buffers(models)
            read = self._buffers[name].now()
        return read

    def state(self, optimizer: Any) -> Read:
        """Return an optimizer's state and then its parameters as they are now, by path."""
        name, parameters = self.slot(optimizer).name, self.parameters(optimizer)
        read = self._states[name].read(optimizer, parameters) if name in self._states else None
        if read is None:
            self._states[name] = State(optimizer, parameters)
            read = self._states[name].now()
        return read

    def _name(self) -> None:
        """Read the names of all models' parameters; a part of a model may be called by itself too: the whole one names it."""
        found = [(key, list(model.named_parameters())) for key, kept in self._models.items() if (model := kept()) is not None]
        self._names, self._owners = {}, {}
        for key, parameters in sorted(found, key=lambda item: -len(item[1])):
            for name, parameter in parameters:
                self._names.setdefault(id(parameter), path_of(name))
                self._owners.setdefault(id(parameter), key)
