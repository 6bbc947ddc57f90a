"""Checksums of any list of leaves: jax arrays, numpy arrays, torch tensors and Python numbers, one call for each kind.

Nothing here needs to know phases when the call is made: an observer learns later what a leaf was. Nothing here imports a
framework that the script does not use.
"""

import operator
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reprotui.checksum.host_form import Read
from reprotui.checksum.leaves import is_jax, is_torch, to_numpy
from reprotui.record import accelerated
from reprotui.record.host import HostLeaves, picker

if TYPE_CHECKING:  # jax, which whoever records without it never loads
    from reprotui.record.devices import DeviceLeaves, Dispatched, Known, Torn

WHOLE_SIZE = 100_000
"""Numbers of iterations that a record keeps."""
_like = operator.attrgetter("__class__", "dtype", "shape")


class Taken(NamedTuple):
    """What was taken of leaves.

    Attributes:
        lanes: uint32[leaves, 2].
        not_finite: bool[leaves], whether a leaf holds a NaN or an infinity.
        numbers: those of single elements that were wanted, by leaf.
        norms: float32[leaves, 2], norms and maxima; None where they were not asked for.
        roots: uint32[runs, 2], the lanes of the roots over the plan's runs; None where they were not taken along.
        torn: leaves that lie on several devices, and are not the same there.
        shared: leaves that span the processes of a training; each that holds the same of one holds it alike.
    """

    lanes: np.ndarray
    not_finite: np.ndarray
    numbers: dict[int, Any]
    norms: np.ndarray | None
    roots: np.ndarray | None
    torn: "Sequence[Torn]" = ()
    shared: tuple[int, ...] = ()


class Lanes:
    """Checksums that a device may still be computing, in the order of the leaves."""

    def __init__(self, plan: "Plan") -> None:
        self._plan = plan
        self._scalars: dict[int, Any] = {}
        self._host: Read | None = None
        self._accelerated: list[accelerated.Part] = []
        self._device: Dispatched | Known | None = None
        self._whole: dict[int, Any] = {}

    def bring(self, index: int, leaf: Any) -> None:
        """Keep a short array of numbers to be read with the record: what each iteration of a loop inside a call gave."""
        if leaf.size <= WHOLE_SIZE and not (is_jax(leaf) and not leaf.is_fully_addressable):
            self._whole[index] = leaf

    def whole(self, index: int) -> np.ndarray | None:
        """Wait; return an array that was kept, None where there is none or the script gave its memory away."""
        leaf = self._whole.pop(index, None)
        try:
            return None if leaf is None else to_numpy(leaf)
        except RuntimeError:  # a deleted array
            return None

    @property
    def of_host(self) -> bool:
        """Say whether some of the leaves lie in the host's memory."""
        return self._host is not None

    def result(self) -> Taken:
        """Wait; return what was taken."""
        plan = self._plan
        if self._host is not None and len(plan.host) == plan.size:
            return Taken(self._host.lanes, self._host.not_finite, self._scalars, self._host.statistics, None)
        found = None if self._device is None else self._device.result()
        if found is not None and len(plan.device) == plan.size:
            return Taken(*found)
        lanes, not_finite, scalars = np.zeros((plan.size, 2), np.uint32), np.zeros(plan.size, np.bool_), dict(self._scalars)
        norms = None
        if self._host is not None:
            lanes[plan.host], not_finite[plan.host] = self._host.lanes, self._host.not_finite
            if self._host.statistics is not None:
                norms = np.zeros((plan.size, 2), np.float32)
                norms[plan.host] = self._host.statistics
        for part in self._accelerated:
            lanes[part.positions], not_finite[part.positions], numbers = part.result()
            scalars |= {position: to_numpy(value) for position, value in numbers.items()}
        if found is None:
            return Taken(lanes, not_finite, scalars, norms, None)
        lanes[plan.device], not_finite[plan.device] = found.lanes, found.not_finite
        scalars |= {int(plan.device[place]): value for place, value in found.numbers.items()}
        if found.norms is not None:
            norms = np.zeros((plan.size, 2), np.float32) if norms is None else norms
            norms[plan.device] = found.norms
        torn = [item._replace(leaf=int(plan.device[item.leaf])) for item in found.torn]
        return Taken(lanes, not_finite, scalars, norms, None, torn, tuple(int(plan.device[leaf]) for leaf in found.shared))


class Plan:
    """Where leaves lie, worked out once for all lists of leaves of the same types, dtypes and shapes.

    Args:
        leaves: arrays, tensors and numbers.
        numbers: the positions of those whose value is wanted too, if they are single numbers; None for all of them.
        runs: how many leaves each phase has, where they stand phase by phase: jax's own then come with their roots.
        firsts: for each leaf the index of its first element in the whole, of which it is a part in the host's memory.

    Raises:
        BadInputError: a leaf has no fixed bits, such as an array of objects.
    """

    def __init__(
        self, leaves: Sequence[Any], numbers: Collection[int] | None = None, runs: tuple[int, ...] = (),
        firsts: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.size = len(leaves)
        device = [index for index, leaf in enumerate(leaves) if is_jax(leaf)]
        others = [index for index in range(len(leaves)) if index not in set(device)]
        tensors = {index for index in others if is_torch(leaves[index])}
        cuda = [index for index in others if index in tensors and leaves[index].device.type != "cpu"]
        host = [index for index in others if index not in set(cuda)]
        self.device, self.cuda, self.host = (np.array(positions, np.intp) for positions in (device, cuda, host))
        self.pick_device, self.pick_cuda, self.pick_host = picker(device), picker(cuda), picker(host)
        wanted = set(range(len(leaves)) if numbers is None else numbers)
        self.on_device: DeviceLeaves | None = None
        if device:
            from reprotui.record import devices

            numbered = {place for place, index in enumerate(device) if index in wanted}
            self.on_device = devices.DeviceLeaves(self.pick_device(leaves), numbered, runs if len(device) == len(leaves) else ())
        single = [index for index in others if index in wanted and _is_number(leaves[index])]
        self.numbers = [index for index in single if index not in set(cuda)]
        self.cuda_numbers = frozenset(single).intersection(cuda)
        self.on_host = HostLeaves(self.pick_host(leaves), self.pick_host(firsts) if firsts else None)
        self._cuda_types = [(*_like(leaf), leaf.device) for leaf in self.pick_cuda(leaves)]

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Say whether other leaves, as many, lie where those did for which this was made."""
        try:
            if self.on_device is not None and not self.on_device.fits(self.pick_device(leaves)):
                return False
            if self._cuda_types and [(*_like(leaf), leaf.device) for leaf in self.pick_cuda(leaves)] != self._cuda_types:
                return False
        except AttributeError:
            return False
        return self.on_host.fits(self.pick_host(leaves))


def take(leaves: Sequence[Any], statistics: bool = False, plan: Plan | None = None, copies: bool = True) -> Lanes:
    """Take the checksums of leaves.

    Arrays on an accelerator and jax arrays are read in the order of their device's work; what lies in the host's memory,
    where the script could overwrite it, is read before this returns.

    Args:
        leaves: arrays, tensors and numbers.
        statistics: take L2 norms and maxima too.
        plan: where the leaves lie, where that is known.
        copies: read each copy of what lies on several devices of jax's, to see whether they agree.

    Raises:
        BadInputError: a leaf has no fixed bits, such as an array of objects.
    """
    plan = plan or Plan(leaves)
    taken = Lanes(plan)
    taken._scalars = {index: to_numpy(leaves[index]).copy() for index in plan.numbers}
    if plan.on_device is not None:
        taken._device = plan.on_device.take(plan.pick_device(leaves), statistics, copies)
    if plan.cuda.size:
        taken._accelerated = accelerated.dispatch(plan.cuda, list(plan.pick_cuda(leaves)), plan.cuda_numbers)
    if plan.host.size:
        taken._host = plan.on_host.read(plan.pick_host(leaves), statistics)
    return taken


def _is_number(leaf: Any) -> bool:
    """Say whether a leaf that is not jax's is a single number."""
    if is_torch(leaf):
        return not leaf.shape
    array = np.asarray(leaf)
    return not array.shape and array.dtype.kind in "biufV"
