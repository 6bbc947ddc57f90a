"""Checksums of any list of leaves: jax arrays, numpy arrays, torch tensors and Python numbers, one call for each kind.

Unlike `Layout`, nothing here needs to know phases when the call is made: an observer learns later what a leaf was. Nothing here
imports a framework that the script does not use.
"""

import functools
import operator
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from reprotui.checksum import LeafSpec, numpy_form
from reprotui.checksum.host_form import Statistics
from reprotui.record import accelerated
from reprotui.record.host import HostLeaves, is_torch, picker, to_numpy

Picker = Callable[[Sequence[Any]], Sequence[Any]]
"""Picks certain elements of a sequence."""

_like = operator.attrgetter("__class__", "dtype", "shape")


class Lanes:
    """Checksums that a device may still be computing, in the order of the leaves."""

    def __init__(self, plan: "Plan") -> None:
        self._plan = plan
        self._scalars: dict[int, Any] = {}
        self._host: tuple[np.ndarray, Statistics | None] | None = None
        self._accelerated: list[accelerated.Part] = []
        self._device: tuple[Any, Any] | None = None

    def result(self) -> tuple[np.ndarray, dict[int, np.ndarray], np.ndarray | None]:
        """Wait; return uint32[leaves, 2], the scalars by leaf, and float32[leaves, 2] norms and maxima or None."""
        plan, norms = self._plan, None
        if self._host is not None and len(plan.host) == plan.size:
            lanes, statistics = self._host
            return lanes, self._scalars, None if statistics is None else statistics.values
        lanes, scalars = np.zeros((plan.size, 2), np.uint32), dict(self._scalars)
        if self._host is not None:
            lanes[plan.host], statistics = self._host
            if statistics is not None:
                norms = np.zeros((plan.size, 2), np.float32)
                norms[plan.host] = statistics.values
        for part in self._accelerated:
            lanes[part.positions], numbers = part.result()
            scalars |= {position: to_numpy(value) for position, value in numbers.items()}
        if self._device is not None:
            packed, of_device = self._device
            words = np.asarray(packed)
            lanes[plan.device] = words[: 2 * len(plan.device)].reshape(-1, 2)
            raw, at = words[2 * len(plan.device) :].astype("<u4").tobytes(), 0
            for place, dtype in zip(plan.scalars, plan.dtypes, strict=True):
                scalars[int(plan.device[place])] = np.frombuffer(raw, dtype, 1, at)[0]
                at += max(4, dtype.itemsize)
            if of_device is not None:
                norms = np.zeros((plan.size, 2), np.float32) if norms is None else norms
                norms[plan.device] = np.asarray(of_device)
        return lanes, scalars, norms


class Plan:
    """Where leaves lie, worked out once for all lists of leaves of the same types, dtypes and shapes.

    Args:
        leaves: arrays, tensors and numbers.
        numbers: the positions of those whose value is wanted too, if they are single numbers; None for all of them.

    Raises:
        BadInputError: a leaf has no fixed bits, such as an array of objects.
    """

    def __init__(self, leaves: Sequence[Any], numbers: Collection[int] | None = None) -> None:
        self.size = len(leaves)
        device = [index for index, leaf in enumerate(leaves) if is_jax(leaf)]
        others = [index for index in range(len(leaves)) if index not in set(device)]
        tensors = {index for index in others if is_torch(leaves[index])}
        cuda = [index for index in others if index in tensors and leaves[index].device.type != "cpu"]
        host = [index for index in others if index not in set(cuda)]
        self.device, self.cuda, self.host = (np.array(positions, np.intp) for positions in (device, cuda, host))
        self.pick_device, self.pick_cuda, self.pick_host = picker(device), picker(cuda), picker(host)
        wanted = set(range(len(leaves)) if numbers is None else numbers)
        self.scalars = tuple(
            place
            for place, index in enumerate(device)
            if index in wanted and leaves[index].shape == () and not _is_key(leaves[index].dtype)
        )
        self.dtypes = tuple(np.dtype(leaves[device[place]].dtype) for place in self.scalars)
        single = [index for index in others if index in wanted and _is_number(leaves[index])]
        self.numbers = [index for index in single if index not in set(cuda)]
        self.cuda_numbers = frozenset(single).intersection(cuda)
        self.on_host = HostLeaves(self.pick_host(leaves))
        self._device_types = list(map(_like, self.pick_device(leaves)))
        self._cuda_types = [(*_like(leaf), leaf.device) for leaf in self.pick_cuda(leaves)]

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Say whether other leaves, as many, lie where those did for which this was made."""
        try:
            if self._device_types and list(map(_like, self.pick_device(leaves))) != self._device_types:
                return False
            if self._cuda_types and [(*_like(leaf), leaf.device) for leaf in self.pick_cuda(leaves)] != self._cuda_types:
                return False
        except AttributeError:
            return False
        return self.on_host.fits(self.pick_host(leaves))


def take(leaves: Sequence[Any], statistics: bool = False, plan: Plan | None = None) -> Lanes:
    """Take the checksums of leaves.

    Arrays on an accelerator and jax arrays are read in the order of their device's work; what lies in the host's memory,
    where the script could overwrite it, is read before this returns.

    Args:
        leaves: arrays, tensors and numbers.
        statistics: take L2 norms and maxima too.
        plan: where the leaves lie, where that is known.

    Raises:
        BadInputError: a leaf has no fixed bits, such as an array of objects.
    """
    plan = plan or Plan(leaves)
    taken = Lanes(plan)
    taken._scalars = {index: to_numpy(leaves[index]).copy() for index in plan.numbers}
    if plan.device.size:
        from reprotui.record import compiled

        given = list(plan.pick_device(leaves))
        taken._device = compiled.lanes(given, plan.scalars), compiled.statistics(given) if statistics else None
    if plan.cuda.size:
        taken._accelerated = accelerated.dispatch(plan.cuda, list(plan.pick_cuda(leaves)), plan.cuda_numbers)
    if plan.host.size:
        taken._host = plan.on_host.read(plan.pick_host(leaves), statistics)
    return taken


def spec_of(path: str, leaf: Any) -> LeafSpec:
    """Describe a leaf; the dtype names are numpy's, whatever framework it is of."""
    if is_jax(leaf):
        from reprotui.checksum import jax_form

        return jax_form.leaf_spec(path, leaf)
    if is_torch(leaf):
        return LeafSpec(path, str(leaf.dtype).removeprefix("torch."), tuple(leaf.shape))
    array = np.asarray(leaf)
    return LeafSpec(path, numpy_form.dtype_name(array.dtype), array.shape)


def is_leaf(value: Any) -> bool:
    """Say whether a value is something whose bits can be compared: an array, a tensor or a number."""
    return isinstance(value, np.ndarray | np.generic | int | float | complex) or is_torch(value) or is_jax(value)


def is_jax(value: Any) -> bool:
    """Say whether a value is an array of jax."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, getattr(jax, "Array", ()))


def _is_number(leaf: Any) -> bool:
    """Say whether a leaf that is not jax's is a single number."""
    if is_torch(leaf):
        return not leaf.shape
    array = np.asarray(leaf)
    return not array.shape and array.dtype.kind in "biufV"


@functools.cache
def _is_key(dtype: Any) -> bool:
    import jax

    return jax.numpy.issubdtype(dtype, jax.dtypes.prng_key)
