"""Copies of models, optimizers and inputs to compute with once more, and what stands against it.

A copy on the CPU lies as its original does: strides, and the place within 64 bytes. Kernels peel what is not aligned, so sums
of the same numbers can have other bits where they lie otherwise.
"""

import copy
import random
import sys
from collections.abc import Iterable, Sequence
from typing import Any

ALIGNMENT = 64
"""Bytes within which the place of a tensor may tell which instructions add it up: a line of the cache, a vector of AVX-512."""
NODES = 100_000
"""Nodes behind a loss that are looked at, before it is given up."""
_SPREAD = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "OptimizedModule", "ScriptModule")
"""Classes of modules whose call is more than that of the model."""


class Copier:
    """Copies of what belongs together: a tensor that stands in two places has one copy."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._memo: dict[int, Any] = {}
        self.originals: list[Any] = []
        """The parameters that were copied, which are kept alive here."""

    def copy(self, value: Any, gradients: bool = False) -> Any:
        """Return a copy of a model or an optimizer; what is no module, tensor or container in it stays the very object."""
        torch = self._torch
        if isinstance(value, torch.nn.Module):
            modules = list(value.modules())
            tensors = [*value.parameters(), *value.buffers()]
            for module in modules:
                for inner in vars(module).values():
                    if not isinstance(inner, torch.Tensor | torch.nn.Module | dict | list | tuple | set):
                        self._memo[id(inner)] = inner
        else:
            tensors = [item for group in value.param_groups for item in group["params"]]
            tensors += [item for state in value.state.values() for item in state.values() if torch.is_tensor(item)]
        for tensor in tensors:
            if id(tensor) not in self._memo:
                self._memo[id(tensor)] = self._like(tensor)
                if isinstance(tensor, torch.nn.Parameter):
                    self.originals.append(tensor)
            if gradients and tensor.is_leaf and tensor.grad is not None:
                self._memo[id(tensor)].grad = self.tensor(tensor.grad)
        return copy.deepcopy(value, self._memo)

    def copy_of(self, tensor: Any) -> Any:
        """Return the copy of a tensor that was copied."""
        return self._memo[id(tensor)]

    def tree(self, value: Any) -> Any:
        """Return arguments with copies in the place of tensors."""
        from torch.utils._pytree import tree_map

        return tree_map(lambda leaf: self._like(leaf) if isinstance(leaf, self._torch.Tensor) else leaf, value)

    def tensor(self, tensor: Any) -> Any:
        """Return a copy of the numbers of a tensor that lies as it does."""
        with self._torch.no_grad():
            if tensor.device.type != "cpu" or tensor.layout != self._torch.strided or not tensor.numel() or tensor.is_neg():
                return tensor.detach().clone()
            if any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
                return tensor.detach().clone()
            span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
            room = self._torch.empty(span + ALIGNMENT // tensor.element_size(), dtype=tensor.dtype)
            at = (tensor.data_ptr() - room.data_ptr()) % ALIGNMENT // tensor.element_size()
            found = room.as_strided(tensor.shape, tensor.stride(), at)
            return found.copy_(tensor.detach())

    def _like(self, tensor: Any) -> Any:
        found = self.tensor(tensor)
        if isinstance(tensor, self._torch.nn.Parameter):
            return type(tensor)(found, requires_grad=tensor.requires_grad)
        return found.requires_grad_(tensor.requires_grad)


class Generators:
    """The states of the global generators of Python, NumPy and torch, as they are when this is made.

    They are put back where no ledger of chance hears of it.
    """

    def __init__(self, torch: Any) -> None:
        self._torch, self._python = torch, random.getstate()
        numpy = sys.modules.get("numpy.random")
        self._numpy = None if numpy is None else numpy.mtrand._rand
        self._of_numpy = None if self._numpy is None else self._numpy.get_state()
        self._of_torch = torch.get_rng_state()
        self._of_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None

    def put_back(self) -> None:
        """Put the states back."""
        random.Random.setstate(getattr(random, "_inst"), self._python)  # noqa: B009 - no public name
        if self._numpy is not None:
            self._numpy.set_state(self._of_numpy)
        self._torch.set_rng_state(self._of_torch)
        if self._of_cuda is not None:
            self._torch.cuda.set_rng_state_all(self._of_cuda)


def unfit(torch: Any, model: Any) -> str:
    """Return why a model's call cannot be made once more on a copy; empty where it can."""
    if any(getattr(torch.nn.modules.module, f"_global_{kind}_hooks", None) for kind in ("forward", "forward_pre", "backward")):
        return "hooks are set for all modules"
    for module in model.modules():
        if type(module).__name__ in _SPREAD or isinstance(module, torch.jit.ScriptModule):
            return f"a {type(module).__name__} is no model that could be copied: compiled, or on several devices"
        if any(vars(module).get(f"_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre")):
            return f"{type(module).__name__} has hooks, which would be called once more"
        if any(type(value).__name__ in ("Generator", "RandomState", "Random") for value in vars(module).values()):
            return f"{type(module).__name__} has a generator of its own"
    return ""


def used_elsewhere(roots: Iterable[Any], outputs: Sequence[Any], parameters: Sequence[Any]) -> str:
    """Say why a pass gives other gradients than those that come through a model's outputs; empty where it does not.

    Args:
        roots: the nodes that the pass begins at.
        outputs: those of the outputs.
        parameters: what is trained.
    """
    trained = set(map(id, parameters))
    if any(item._backward_hooks or getattr(item, "_post_accumulate_grad_hooks", None) for item in parameters):
        return "parameters have hooks"
    reached = []
    for node in _behind(roots, set(outputs)):
        if node in outputs:
            reached.append(node)
        elif id(getattr(node, "variable", None)) in trained:
            return "the loss uses parameters beside the first call of the model"
    for end in reached:
        inner = {following for following, _ in end.next_functions if following is not None}
        if len(reached) > 1 and any(node in reached for node in _behind(inner, set())):
            return "one output of the model comes of another one"
    return ""


def _behind(roots: Iterable[Any], stop: set[Any]) -> Iterable[Any]:
    """Yield the nodes behind some, each once, and not what is behind those in `stop`.

    Raises:
        ValueError: there are more than can be looked at.
    """
    seen = {node: None for node in roots if node is not None}
    todo = list(seen)
    while todo:
        node = todo.pop()
        yield node
        if len(seen) > NODES:
            raise ValueError(f"the graph has more than {NODES:,} nodes")
        for following, _ in node.next_functions if node not in stop else ():
            if following is not None and following not in seen:
                seen[following] = None
                todo.append(following)
