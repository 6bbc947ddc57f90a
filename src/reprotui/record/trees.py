"""What a Recorder is given, made into named leaves: modules into their arrays, what has no bits left out."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

from reprotui.checksum import paths
from reprotui.record.assembly import Assembly
from reprotui.record.lanes import is_leaf
from reprotui.trace import TraceWriter

INIT = (("init", "params"), ("init", "opt_state"), ("init", "extra"))
STEP = (
    ("batch", "batch"), ("rng", "rng"), ("forward", "loss"), ("forward", "metrics"), ("forward", "extra"), ("grads", "grads"),
    ("update", "opt_state"), ("update", "params"),
)  # fmt: skip
"""(phase, argument) in the order in which an update makes them."""


class Recording:
    """Records of trees: by the engine that workers use where the script uses jax and no leaf is torch's, else by the assembly.

    Without jax in the process, nothing here imports it.
    """

    def __init__(self, writer: TraceWriter, recording: Mapping[str, Any]) -> None:
        self._engine: Any = None
        if "jax" in sys.modules:
            from reprotui.record.engine import Engine

            self._engine = Engine(writer, **{name: recording[name] for name in ("leaves_every", "statistics_every")})
        self._assembly = Assembly(writer, recording)

    def init(self, **trees: Any) -> None:
        """Record the trees as record 0."""
        if self._engine is None or _has_torch(trees):
            self._put(0, INIT, trees)
        else:
            self._engine.init(**trees)

    def step(self, step: int, force: bool, **trees: Any) -> None:
        """Record the trees of an update."""
        if self._engine is None or _has_torch(trees):
            self._put(step, STEP, trees)
        else:
            self._engine.step(step, force=force, **trees)

    def _put(self, step: int, places: tuple[tuple[str, str], ...], trees: dict[str, Any]) -> None:
        named = [((phase, path), leaf) for phase, name in places for path, leaf in named_leaves(trees.get(name), name)]
        part = self._assembly.part(tuple(name for name, _ in named), [leaf for _, leaf in named])
        self._assembly.put(step, [part])


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


def _has_torch(trees: Mapping[str, Any]) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and any(isinstance(leaf, torch.Tensor) for leaf in _leaves(list(trees.values())))


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
