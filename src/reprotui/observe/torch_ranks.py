"""What the processes of a torch training hold alike, and of what each holds a part: models in DDP, and DTensors (FSDP2).

    DDP(model)          params/0/weight, grads/0/weight and the optimizer's state are copies: equal on all ranks
    fully_shard(model)  params/0/weight[0:16,:] is the part of one rank; a part that two ranks have is a copy

Nothing here asks another process. What is not known to be a copy is none: a batch, a loss and the statistics of a batch norm
belong to their rank, and the parameters of a script that reduces its gradients by hand are its own business.
"""

import sys
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from reprotui.checksum.shards import slice_text

BY_ITSELF = "[by itself]"
"""Stands behind a part whose words are counted from its own first one: they do not lie together in the whole, or on the host."""
ALL = frozenset({"params/", "grads/", "opt_state/"})
_SAME_EVERYWHERE = (
    "torch.distributed.algorithms.ddp_comm_hooks.default_hooks",
    "torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook",
)
"""Where hooks are from that reduce gradients in another way, after which they are the same on all ranks still."""


class Ranks:
    """The models that were wrapped to be trained by several processes."""

    def __init__(self) -> None:
        self._wrapped: list[weakref.ref[Any]] = []
        self._shares = False  # an optimizer lets each rank update a share, and hands it to the others later

    def wrapped(self, model: Any) -> None:
        """Note a model that DDP wraps."""
        self._wrapped.append(weakref.ref(model))

    def made(self, optimizer: Any) -> None:
        """Note an optimizer."""
        self._shares |= any(kind.__name__ == "ZeroRedundancyOptimizer" for kind in type(optimizer).__mro__)

    @property
    def known(self) -> tuple[int, bool]:
        """Return what `copies` depends on besides the optimizer."""
        return len(self._wrapped), _in_several()

    def copies(self, parameters: Sequence[Any], names: Sequence[str]) -> frozenset[str]:
        """Return the paths of what the ranks hold alike, or hold parts of, where an optimizer trains parameters of these names.

        That is what belongs to parameters of a model in DDP over all processes, or to DTensors over all processes.
        """
        if self._shares or not _in_several():
            return frozenset()
        models = [model for reference in self._wrapped if (model := reference()) is not None]
        found = {id(parameter) for model in models if _equal_after_reduction(model) for parameter in _reduced(model)}
        told = [name for parameter, name in zip(parameters, names, strict=True) if id(parameter) in found or _over_all(parameter)]
        if len(told) == len(names):
            return ALL
        return frozenset(
            path
            for name in told
            for path in (f"params/{name}", f"params/{name}[", f"grads/{name}", f"grads/{name}[", f"opt_state/{name}/")
        )


def sharded() -> bool:
    """Say whether there can be DTensors: looking for them at each step is not free."""
    return "torch.distributed.tensor" in sys.modules


def local(paths: tuple[str, ...], tensors: Sequence[Any]) -> tuple[tuple[str, ...], Sequence[Any]]:
    """Return what this process holds of DTensors, with the slice that this is behind the path; other tensors as they are."""
    kind = sys.modules["torch.distributed.tensor"].DTensor
    if not any(isinstance(tensor, kind) for tensor in tensors):
        return paths, tensors
    found = [(path + _slice(tensor), tensor._local_tensor) if isinstance(tensor, kind) else (path, tensor)
             for path, tensor in zip(paths, tensors, strict=True)]  # fmt: skip
    return tuple(path for path, _ in found), [tensor for _, tensor in found]


def _slice(tensor: Any) -> str:
    """Return which part of the whole a DTensor has here, as `[16:32,:]`; nothing for all of it."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    size, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    box = tuple((start, start + length) for start, length in zip(offset, size, strict=True))
    # A summand of the whole is no copy of another one.
    partial = f"[of rank {_rank()}]" if any(placement.is_partial() for placement in tensor.placements) else ""
    text = slice_text(box, tuple(tensor.shape))
    rows = tuple(size[1:]) == tuple(tensor.shape[1:]) and tensor._local_tensor.is_cpu
    return text + (BY_ITSELF if text and not rows else "") + partial


def _reduced(model: Any) -> Iterable[Any]:
    """Return the parameters of a model in DDP that are reduced."""
    ignored = getattr(model, "parameters_to_ignore", ())
    return [parameter for name, parameter in model.module.named_parameters() if parameter.requires_grad and name not in ignored]


def _equal_after_reduction(model: Any) -> bool:
    """Say whether a model in DDP has the same gradients on all ranks: it spans them, and no hook of the script's own reduces."""
    hooks = getattr(model, "_comm_hooks", ())
    known = all(getattr(hook, "__module__", "") in _SAME_EVERYWHERE for hook, _ in hooks)
    return known and model.process_group.size() == _world()


def _over_all(parameter: Any) -> bool:
    kind = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    return kind is not None and isinstance(parameter, kind) and parameter.device_mesh.size() == _world()


def _in_several() -> bool:
    distributed = sys.modules["torch"].distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _rank() -> int:
    return sys.modules["torch"].distributed.get_rank()


def _world() -> int:
    return sys.modules["torch"].distributed.get_world_size()
