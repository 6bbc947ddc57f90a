"""What torch optimizers train: parameters by the names that their models give them, gradients, optimizer state and buffers.

Of `AdamW(model.parameters())` after a step, with the paths that records have:

    grads/0/weight                   what it stepped on
    extra/1/running_mean             a buffer of the model
    opt_state/0/weight/exp_avg …     its state by parameter, and `opt_state/group_0/lr`
    params/0/weight                  the parameters

Where all this is kept is worked out once for an optimizer: paths and their order are remembered; tensors are looked up anew
each time, and so is what holds them, because scripts replace both.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from reprotui.observe.names import path_of
from reprotui.record.host import picker


class Named(NamedTuple):
    """Paths and tensors, as many."""

    paths: tuple[str, ...]
    tensors: Sequence[Any]


class Parameters:
    """An optimizer's parameters with their names in the models that were seen until now; `names` and `owners` give path and
    model of each, by identity."""

    def __init__(self, optimizer: Any, models_seen: int, names: Mapping[int, str], owners: Mapping[int, int]) -> None:
        groups = [group["params"] for group in optimizer.param_groups]
        self._models_seen, self._sizes = models_seen, list(map(len, groups))
        self.tensors: list[Any] = list(chain.from_iterable(groups))
        self.names = [
            names.get(id(parameter), f"group_{number}/{index}")
            for number, group in enumerate(groups)
            for index, parameter in enumerate(group)
        ]
        self.models = {owners[id(parameter)] for parameter in self.tensors if id(parameter) in owners}
        self._gradients: dict[tuple[bool, ...], tuple[tuple[str, ...], Any]] = {}

    def fits(self, optimizer: Any, models_seen: int) -> bool:
        """Say whether they are still all of its parameters, and no other model was seen."""
        groups = [group["params"] for group in optimizer.param_groups]
        if models_seen != self._models_seen or self._sizes != list(map(len, groups)):
            return False
        return same_objects(chain.from_iterable(groups), self.tensors)

    def gradients(self) -> Named:
        """Return the gradients that there are; sparse ones have no bits of their own."""
        gradients = [parameter.grad for parameter in self.tensors]
        there = tuple([gradient is not None and not gradient.is_sparse for gradient in gradients])
        if there not in self._gradients:
            at = [index for index, found in enumerate(there) if found]
            self._gradients[there] = tuple(f"grads/{self.names[index]}" for index in at), picker(at)
        paths, pick = self._gradients[there]
        return Named(paths, pick(gradients))


class OptimizerState:
    """Where an optimizer keeps its state, and its parameters."""

    def __init__(self, optimizer: Any, parameters: Parameters) -> None:
        from reprotui.record.trees import optimizer_state

        self._parameters, self._groups = parameters, optimizer.param_groups
        self._keys, self._entries = list(optimizer.state), list(optimizer.state.values())
        names = {id(parameter): name for name, parameter in zip(parameters.names, parameters.tensors, strict=True)}
        # Where a parameter is missing among the keys, or its entry is no dictionary, there is nothing to be read of it.
        by_name = [
            (names[id(key)], entry)
            for key, entry in zip(self._keys, self._entries, strict=True)
            if id(key) in names and isinstance(entry, dict)
        ]
        self._dicts = [entry for _, entry in by_name]
        self._inner_keys, values = self._look_up()
        self._types = list(map(type, values))
        at = {(name, key): index for index, (name, key) in enumerate((name, key) for name, entry in by_name for key in entry)}
        at |= {(f"group_{number}", "lr"): len(at) + number for number in range(len(self._groups))}
        state = optimizer_state(optimizer, names)
        found = [(owner, key) for owner, entry in sorted(state.items()) for key in sorted(entry, key=str)]
        self._paths = (
            *(f"opt_state/{owner}/{key}" for owner, key in found),
            *(f"params/{name}" for name in parameters.names),
        )
        self._pick = picker([at[owner, key] for owner, key in found])

    def read(self, optimizer: Any, parameters: Parameters) -> Named | None:
        """Return what is there now; None where it is kept otherwise than before."""
        state = optimizer.state
        if parameters is not self._parameters or optimizer.param_groups is not self._groups:
            return None
        if not (same_objects(state, self._keys) and same_objects(state.values(), self._entries)):
            return None
        keys, values = self._look_up()
        if keys != self._inner_keys or list(map(type, values)) != self._types:
            return None
        return self._named(values)

    def first(self) -> Named:
        """Return what is there when this was just made."""
        return self._named(self._look_up()[1])

    def _named(self, values: Sequence[Any]) -> Named:
        return Named(self._paths, [*self._pick(values), *self._parameters.tensors])

    def _look_up(self) -> tuple[list[Any], list[Any]]:
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
        self._plain = all(isinstance(found, dict) for found in (*self._children, *self._dicts))
        named = [(f"extra/{path_of(name)}", buffer) for model in models for name, buffer in model.named_buffers()]
        self._paths, self._first = tuple(path for path, _ in named), [buffer for _, buffer in named]
        if self._plain:
            self._inner = list(chain.from_iterable(map(dict.values, self._children)))
            self._keys, values = self._look_up()
            self._types = list(map(type, values))
            at = {id(value): index for index, value in enumerate(values)}
            self._pick = picker([at[id(buffer)] for _, buffer in named])

    def read(self, models: Sequence[Any]) -> Named | None:
        """Return what is there now; None where it is kept otherwise than before."""
        if not (self._plain and same_objects(models, self._models)):
            return None
        if not same_objects(chain.from_iterable(map(dict.values, self._children)), self._inner):
            return None
        keys, values = self._look_up()
        if keys != self._keys or list(map(type, values)) != self._types:
            return None
        return Named(self._paths, self._pick(values))

    def first(self) -> Named:
        """Return what is there when this was just made, and keep it no longer."""
        tensors, self._first = self._first, []
        return Named(self._paths, tensors)

    def _look_up(self) -> tuple[list[str], list[Any]]:
        return list(chain.from_iterable(self._dicts)), list(chain.from_iterable(map(dict.values, self._dicts)))


def same_objects(found: Iterable[Any], kept: list[Any]) -> bool:
    """Say whether these are the very objects that were kept; tensors must not be compared by their values."""
    found = list(found)
    return len(found) == len(kept) and all(map(operator.is_, found, kept))
