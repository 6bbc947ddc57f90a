"""What a Recorder is given, made into named leaves: modules into their arrays, what has no bits left out."""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from reprotui.checksum import paths
from reprotui.checksum.leaves import is_leaf

Order = Mapping[str, Mapping[str, int]]
"""For a phase, the rank of a leaf's path in the order in which the program produces the leaves."""


class NamedLeaf(NamedTuple):
    """A leaf of a record: its phase and path there, and its place among the leaves of all trees in flattening order."""

    phase: str
    path: str
    leaf: Any
    index: int


def in_order(places: Sequence[tuple[str, str]], trees: Mapping[str, Any], order: Order) -> list[NamedLeaf]:
    """Return the leaves of trees in the order of a record.

    Args:
        places: phase and name of each tree: `INIT` or `STEP` of `reprotui.trace.phases`.
        trees: pytrees by name; one that is missing has no leaves.
        order: the order of the leaves of a tree; those without a rank keep their flattening order.
    """
    found = [
        (number, phase, path, leaf)
        for number, (phase, name) in enumerate(places)
        for path, leaf in named_leaves(trees.get(name), name)
    ]
    named = [
        (number, order.get(phase, {}).get(path, index), NamedLeaf(phase, path, leaf, index))
        for index, (number, phase, path, leaf) in enumerate(found)
    ]
    return [leaf for _, _, leaf in sorted(named, key=lambda item: item[:2])]


def named_leaves(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of a tree with their paths: of a pytree where the script uses jax, else of Python's own containers."""
    if "jax" in sys.modules:
        from reprotui.checksum import jax_form

        return jax_form.named_leaves(tree, prefix)
    return paths.named(paths.flattened(tree), prefix)


def _leaves(tree: Any) -> list[Any]:
    jax = sys.modules.get("jax")
    return [leaf for _, leaf in paths.flattened(tree)] if jax is None else jax.tree.leaves(tree)


def _mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    jax = sys.modules.get("jax")
    return paths.mapped(tree, function) if jax is None else jax.tree.map(function, tree)


def init(*, model: Any, optimizer: Any, **trees: Any) -> dict[str, Any]:
    """Return the trees of record 0."""
    return {name: clean(tree) for name, tree in {**_of_torch(model, optimizer, gradients=False), **_given(trees)}.items()}


def step(*, model: Any, optimizer: Any, **trees: Any) -> dict[str, Any]:
    """Return the trees of an update."""
    return {name: clean(tree) for name, tree in {**_of_torch(model, optimizer, gradients=True), **_given(trees)}.items()}


def clean(tree: Any) -> Any:
    """Return a tree whose leaves all have bits: dataclasses and torch modules opened, functions and strings dropped."""
    if all(map(is_leaf, _leaves(tree))):
        return tree
    return _mapped(tree, lambda leaf: leaf if is_leaf(leaf) else _opened(leaf))


def optimizer_state(optimizer: Any, names: Mapping[int, str]) -> dict[str, Any]:
    """Return a torch optimizer's state by parameter name, and the learning rate of every group."""
    state: dict[str, Any] = {}
    for number, group in enumerate(optimizer.param_groups):
        state[f"group_{number}"] = {"lr": group["lr"]} if is_leaf(group.get("lr")) else {}
        for index, parameter in enumerate(group["params"]):
            entries = optimizer.state.get(parameter)
            if entries:
                state[names.get(id(parameter), f"group_{number}_{index}")] = {
                    name: value for name, value in entries.items() if is_leaf(value)
                }
    return state


def _of_torch(model: Any, optimizer: Any, gradients: bool) -> dict[str, Any]:
    trees: dict[str, Any] = {}
    names: dict[int, str] = {}
    if model is not None:
        parameters = {name.replace(".", "/"): value for name, value in model.named_parameters()}
        names = {id(parameter): name for name, parameter in parameters.items()}
        trees["params"] = parameters
        buffers = {name.replace(".", "/"): value for name, value in model.named_buffers()}
        if buffers:
            trees["extra"] = buffers
        if gradients:
            trees["grads"] = {name: value.grad for name, value in parameters.items() if value.grad is not None}
    if optimizer is not None:
        trees["opt_state"] = optimizer_state(optimizer, names)
    return trees


def _given(trees: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tree for name, tree in trees.items() if tree is not None}


def _opened(value: Any) -> Any:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.nn.Module):
        return {**dict(value.named_parameters()), **dict(value.named_buffers())}
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(value, nnx.Module):
        return nnx.state(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: clean(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return None
