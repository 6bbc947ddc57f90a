"""What is read of a torch optimizer at each step, worked out once: where it is kept, and whether that is still so.

Tensors are looked up anew each time, and so is what holds them; what is remembered are names, and their order.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from reprotui.record.host import picker

Read = tuple[tuple[str, ...], Sequence[Any]]
"""Paths and leaves, as many."""


class Parameters:
    """An optimizer's parameters with their names, of which `models` are known by identity; `seen` is the number of models."""

    def __init__(self, optimizer: Any, seen: int, names: Mapping[int, str], owners: Mapping[int, int]) -> None:
        groups = [group["params"] for group in optimizer.param_groups]
        self._seen, self._sizes = seen, list(map(len, groups))
        self.flat: list[Any] = list(chain.from_iterable(groups))
        self.names = [
            names.get(id(parameter), f"group_{number}/{index}")
            for number, group in enumerate(groups)
            for index, parameter in enumerate(group)
        ]
        self.models = {owners[id(parameter)] for parameter in self.flat if id(parameter) in owners}
        self._gradients: dict[tuple[bool, ...], tuple[tuple[str, ...], Any]] = {}

    def fits(self, optimizer: Any, seen: int) -> bool:
        """Say whether they are still all of its parameters, and no other model was seen."""
        groups = [group["params"] for group in optimizer.param_groups]
        return seen == self._seen and self._sizes == list(map(len, groups)) and _same(chain.from_iterable(groups), self.flat)

    def gradients(self) -> Read:
        """Return the gradients that there are; sparse ones have no bits of their own."""
        gradients = [parameter.grad for parameter in self.flat]
        there = tuple([gradient is not None and not gradient.is_sparse for gradient in gradients])
        if there not in self._gradients:
            at = [index for index, found in enumerate(there) if found]
            self._gradients[there] = tuple(f"grads/{self.names[index]}" for index in at), picker(at)
        paths, pick = self._gradients[there]
        return paths, pick(gradients)


class State:
    """Where an optimizer keeps its state, and its parameters."""

    def __init__(self, optimizer: Any, parameters: Parameters) -> None:
        from reprotui.record.trees import optimizer_state

        self._parameters, self._groups = parameters, optimizer.param_groups
        self._keys, self._held = list(optimizer.state), list(optimizer.state.values())
        names = {id(parameter): name for name, parameter in zip(parameters.names, parameters.flat, strict=True)}
        # Where a parameter is missing among the keys, or its entry is no dictionary, there is nothing to be read of it.
        owners = [
            (names[id(key)], entries)
            for key, entries in zip(self._keys, self._held, strict=True)
            if id(key) in names and isinstance(entries, dict)
        ]
        self._dicts = [entries for _, entries in owners]
        self._entries, values = self._kept()
        self._types = list(map(type, values))
        at = {(name, key): index for index, (name, key) in enumerate((name, key) for name, found in owners for key in found)}
        at |= {(f"group_{number}", "lr"): len(at) + number for number in range(len(self._groups))}
        state = optimizer_state(optimizer, names)
        found = [
            (f"opt_state/{owner}/{name}", at[owner, name])
            for owner, items in sorted(state.items())
            for name in sorted(items, key=str)
        ]
        self._paths = (*(path for path, _ in found), *(f"params/{name}" for name in parameters.names))
        self._pick = picker([index for _, index in found])

    def read(self, optimizer: Any, parameters: Parameters) -> Read | None:
        """Return what is there now; None where it is kept otherwise than before."""
        state = optimizer.state
        if parameters is not self._parameters or optimizer.param_groups is not self._groups:
            return None
        if len(state) != len(self._held) or not (_same(state, self._keys) and _same(state.values(), self._held)):
            return None
        entries, values = self._kept()
        if entries != self._entries or list(map(type, values)) != self._types:
            return None
        return self._paths, [*self._pick(values), *parameters.flat]

    def now(self) -> Read:
        """Return what was there when this was made."""
        return self._paths, [*self._pick(self._kept()[1]), *self._parameters.flat]

    def _kept(self) -> tuple[list[Any], list[Any]]:
        """Return the keys of all parameters' state, and the values, with the learning rates behind them."""
        values = list(chain.from_iterable(map(dict.values, self._dicts)))
        return list(chain.from_iterable(self._dicts)), [*values, *(group.get("lr") for group in self._groups)]


class Buffers:
    """The buffers of models, and the modules that hold them."""

    def __init__(self, models: Sequence[Any]) -> None:
        self._models = list(models)
        modules = [module for model in models for module in model.modules()]
        self._children = [module._modules for module in modules]
        self._dicts = [module._buffers for module in modules]
        # A compiled module has mappings of its own kind, and is walked through each time.
        self._plain = all(isinstance(held, dict) for held in (*self._children, *self._dicts))
        named = [(f"extra/{path_of(name)}", buffer) for model in models for name, buffer in model.named_buffers()]
        self._first: Read = tuple(path for path, _ in named), [buffer for _, buffer in named]
        if self._plain:
            self._inner = list(chain.from_iterable(map(dict.values, self._children)))
            self._keys, values = self._kept()
            self._types = list(map(type, values))
            at = {id(value): index for index, value in enumerate(values)}
            self._pick = picker([at[id(buffer)] for _, buffer in named])

    def read(self, models: Sequence[Any]) -> Read | None:
        """Return what is there now; None where it is kept otherwise than before."""
        if not (self._plain and _same(models, self._models)):
            return None
        if not _same(chain.from_iterable(map(dict.values, self._children)), self._inner):
            return None
        keys, values = self._kept()
        if keys != self._keys or list(map(type, values)) != self._types:
            return None
        return self._first[0], self._pick(values)

    def now(self) -> Read:
        """Return what was there when this was made, and keep it no longer."""
        read, self._first = self._first, (self._first[0], ())
        return read

    def _kept(self) -> tuple[list[str], list[Any]]:
        return list(chain.from_iterable(self._dicts)), list(chain.from_iterable(map(dict.values, self._dicts)))


def path_of(name: str) -> str:
    """Return a torch name as a path: `layers/0/weight` for `layers.0.weight`."""
    return name.replace(".", "/")


def _same(found: Iterable[Any], kept: list[Any]) -> bool:
    """Say whether these are the very objects that were kept; tensors must not be compared by their values."""
    found = list(found)
    return len(found) == len(kept) and all(map(operator.is_, found, kept))
