"""What torch optimizers train: parameters by the names that their models give them, gradients, state and buffers."""

import weakref
from typing import Any

Named = list[tuple[tuple[str, str], Any]]
"""Leaves with their phase and path."""


class Trained:
    """The models that were called, and the optimizers that were made, none of them kept alive.

    Args:
        torch: the module.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._models: dict[int, weakref.ref[Any]] = {}
        self._optimizers: list[weakref.ref[Any]] = []
        self._seen = 0
        self._named: dict[int, tuple[int, int]] = {}
        self._names: dict[int, str] = {}
        self._owners: dict[int, int] = {}

    def made(self, optimizer: Any) -> None:
        """Note an optimizer."""
        self._optimizers.append(weakref.ref(optimizer))

    def saw(self, model: Any) -> None:
        """Note a model that has parameters."""
        known = self._models.get(id(model))
        if known is None or known() is not model:
            self._models[id(model)] = weakref.ref(model)
            self._seen += 1

    def optimizers(self) -> list[Any]:
        """Return the optimizers that are there, in the order in which they were made."""
        return [optimizer for reference in self._optimizers if (optimizer := reference()) is not None]

    def parameters(self, optimizer: Any) -> list[tuple[str, Any]]:
        """Return an optimizer's parameters with their names in the model, where that was seen."""
        groups = optimizer.param_groups
        now = self._seen, sum(len(group["params"]) for group in groups)
        if self._named.get(id(optimizer)) != now:
            self._named[id(optimizer)] = now
            self._name()
        return [
            (self._names.get(id(parameter), f"group_{number}/{index}"), parameter)
            for number, group in enumerate(groups)
            for index, parameter in enumerate(group["params"])
        ]

    def gradients(self, optimizer: Any) -> list[tuple[str, Any]]:
        """Return the gradients that an optimizer steps on, by path."""
        return [
            (f"grads/{name}", parameter.grad)
            for name, parameter in self.parameters(optimizer)
            if parameter.grad is not None and parameter.grad.layout == self._torch.strided
        ]

    def models(self, optimizer: Any) -> set[int]:
        """Return the identities of the models that an optimizer trains."""
        return {self._owners[id(parameter)] for _, parameter in self.parameters(optimizer) if id(parameter) in self._owners}

    def buffers(self, optimizer: Any) -> list[tuple[str, Any]]:
        """Return the buffers of the models that an optimizer trains, by path."""
        trained = self.models(optimizer)
        return [
            (f"extra/{path_of(name)}", buffer)
            for key, reference in self._models.items()
            if key in trained and (model := reference()) is not None
            for name, buffer in model.named_buffers()
        ]

    def state(self, optimizer: Any) -> list[tuple[str, Any]]:
        """Return an optimizer's state and then its parameters as they are now, by path."""
        from reprotui.record.trees import optimizer_state

        parameters = self.parameters(optimizer)
        state = optimizer_state(optimizer, {id(parameter): name for name, parameter in parameters})
        entries = [
            (f"opt_state/{owner}/{name}", value)
            for owner, values in sorted(state.items())
            for name, value in sorted(values.items(), key=lambda entry: str(entry[0]))
        ]
        return [*entries, *((f"params/{name}", parameter) for name, parameter in parameters)]

    def _name(self) -> None:
        """Read the names of all models' parameters; a part of a model may be called by itself too: the whole one names it."""
        found = [(key, list(model.named_parameters())) for key, kept in self._models.items() if (model := kept()) is not None]
        self._names, self._owners = {}, {}
        for key, parameters in sorted(found, key=lambda item: -len(item[1])):
            for name, parameter in parameters:
                self._names.setdefault(id(parameter), path_of(name))
                self._owners.setdefault(id(parameter), key)


def path_of(name: str) -> str:
    """Return a torch name as a path: `layers/0/weight` for `layers.0.weight`."""
    return name.replace(".", "/")
