"""Checksums of any list of leaves: jax arrays, numpy arrays, torch tensors and Python numbers, one call for each kind.

Unlike `Layout`, nothing here needs to know phases when the call is made: an observer learns later what a leaf was.
"""

import functools
import operator
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checksum import LeafSpec, jax_form, numpy_form
from reprotui.record import accelerated
from reprotui.record.host import Copy, copied, read
from reprotui.record.kernels import checksum_compiler_options, device_statistics

Picker = Callable[[Sequence[Any]], Sequence[Any]]
"""Picks certain elements of a sequence."""

_LEAVES = (jax.Array, np.ndarray, np.generic, int, float, complex)


class Lanes:
    """Checksums that a device may still be computing, in the order of the leaves."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._parts: list[tuple[np.ndarray, Any]] = []
        self._accelerated: list[accelerated.Part] = []
        self._statistics: list[tuple[np.ndarray, Any]] = []
        self._scalars: list[tuple[int, Any]] = []
        self._device: tuple[Split, Copy | None, Any] | None = None
        self._host: tuple[np.ndarray, Copy, bool] | None = None

    def result(self) -> tuple[np.ndarray, dict[int, np.ndarray], np.ndarray | None]:
        """Wait; return uint32[leaves, 2], the scalars by leaf, and float32[leaves, 2] norms and maxima or None."""
        if self._host is not None:
            host, copy, statistics = self._host
            self._add(host, *read(copy.arrays, statistics))
            self._host = copy.owner = None
        lanes = np.zeros((self._size, 2), np.uint32)
        for positions, values in self._parts:
            lanes[positions] = np.asarray(values)
        norms = np.zeros((self._size, 2), np.float32) if self._statistics else None
        for positions, values in self._statistics:
            assert norms is not None
            norms[positions] = np.asarray(values)
        scalars = dict(self._scalars)
        for part in self._accelerated:
            lanes[part.positions], numbers = part.result()
            scalars |= {position: to_numpy(value) for position, value in numbers.items()}
        if self._device is not None:
            split, copy, packed = self._device
            words = np.asarray(packed)
            read_there = split.device if copy is None else np.concatenate([split.device, split.host])
            if copy is not None:
                copy.owner = None
            lanes[read_there] = words[: 2 * len(read_there)].reshape(-1, 2)
            raw, at = words[2 * len(read_there) :].astype("<u4").tobytes(), 0
            for place, dtype in zip(split.scalars, split.dtypes, strict=True):
                scalars[int(split.device[place])] = np.frombuffer(raw, dtype, 1, at)[0]
                at += max(4, dtype.itemsize)
        return lanes, scalars, norms

    def _add(self, positions: np.ndarray, lanes: Any, norms: Any) -> None:
        self._parts.append((positions, lanes))
        if norms is not None:
            self._statistics.append((positions, norms))


class Split(NamedTuple):
    """Which leaves lie where, by position: jax arrays, tensors on an accelerator, and the host's.

    `pick` takes those leaves out, in the same order. `scalars` are the places of numbers among `device` and `dtypes` theirs,
    `numbers` the positions of others that are numbers; `tensors` says whether some of the host's are torch's.
    """

    device: np.ndarray
    cuda: np.ndarray
    host: np.ndarray
    pick: tuple[Picker, Picker, Picker]
    scalars: tuple[int, ...]
    dtypes: tuple[np.dtype, ...]
    numbers: list[int]
    tensors: bool


def split_of(leaves: Sequence[Any]) -> Split:
    """Return where leaves lie: the same for all lists of leaves of the same types, dtypes and shapes."""
    device = [index for index, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]
    others = [index for index in range(len(leaves)) if index not in set(device)]
    tensors = [index for index in others if _is_torch(leaves[index])]
    cuda = [index for index in tensors if leaves[index].device.type != "cpu"]
    scalars = tuple(place for place, index in enumerate(device) if leaves[index].shape == () and not _is_key(leaves[index].dtype))
    numbers = [index for index in others if _is_number(leaves[index])]
    host = [index for index in others if index not in set(cuda)]
    dtypes = tuple(leaves[device[place]].dtype for place in scalars)
    at = [np.array(positions, np.intp) for positions in (device, cuda, host)]
    pick = picker(device), picker(cuda), picker(host)
    return Split(*at, pick, scalars, dtypes, numbers, len(tensors) > len(cuda))


def picker(indices: Sequence[int]) -> Picker:
    """Return what picks the elements at these indices out of a sequence, without a loop of Python's."""
    if len(indices) > 1:
        return operator.itemgetter(*indices)
    return (lambda values: (values[indices[0]],)) if indices else (lambda values: ())


def take(leaves: Sequence[Any], statistics: bool = False, split: Split | None = None, held: Copy | None = None) -> Lanes:
    """Dispatch the checksums of leaves.

    Arrays on an accelerator and jax arrays are read in the order of their device's work; what the host's code could
    overwrite (numpy arrays, torch tensors on the CPU) is read or copied before this returns.

    Args:
        leaves: arrays, tensors and numbers.
        statistics: take L2 norms and maxima too.
        split: where the leaves lie, where that is known.
        held: what `hold` returned for those of the host, if they are all of them.

    Raises:
        BadInputError: a leaf has no fixed bits, such as an array of objects.
    """
    split = split or split_of(leaves)
    device, cuda, host = split.device, split.cuda, split.host
    taken = Lanes(len(leaves))
    taken._scalars = [(index, to_numpy(leaves[index]).copy()) for index in split.numbers if index not in cuda]
    # What was copied is read by the same call as the arrays of the device, where that is the host; it is there long before.
    joined = held if device.size and not statistics and jax.default_backend() == "cpu" else None
    if device.size:
        given = list(split.pick[0](leaves))
        words = [] if joined is None else [numpy_form.words(array) for array in joined.arrays]
        checksums, norms = _compiled()
        taken._device = split, joined, checksums(given, words, split.scalars)
        if statistics:
            taken._statistics.append((device, norms(given)))
    if cuda.size:
        taken._accelerated = accelerated.dispatch(cuda, list(split.pick[1](leaves)), split.numbers)
    if held is not None:
        held.owner = weakref.ref(taken)
    if host.size and joined is None:
        _take_host(taken, host, [to_numpy(leaf) for leaf in split.pick[2](leaves)], statistics, split.tensors, held)
    return taken


def hold(leaves: Sequence[Any]) -> Copy | None:
    """Return copies of what lies in the host's memory, for a later `take`; None where there is too much of it.

    Raises:
        BadInputError: a leaf has no fixed bits.
    """
    return copied([to_numpy(leaf) for leaf in leaves], tensors=False)


def spec_of(path: str, leaf: Any) -> LeafSpec:
    """Describe a leaf; the dtype names are numpy's, whatever framework it is of."""
    if isinstance(leaf, jax.Array):
        return jax_form.leaf_spec(path, leaf)
    if _is_torch(leaf):
        from reprotui.checksum import torch_form

        return torch_form.leaf_spec(path, leaf)
    array = np.asarray(leaf)
    return LeafSpec(path, numpy_form.dtype_name(array.dtype), array.shape)


def to_numpy(leaf: Any) -> np.ndarray:
    """Return a leaf's elements on the host; of a torch tensor on the CPU and of a numpy array without a copy."""
    if not _is_torch(leaf):
        return np.asarray(leaf)
    import torch

    tensor = leaf.detach()
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    try:
        return tensor.numpy()
    except TypeError:
        import ml_dtypes  # numpy itself has no such type

        dtype = getattr(ml_dtypes, str(tensor.dtype).removeprefix("torch."))
        return tensor.contiguous().view(torch.uint8 if tensor.element_size() == 1 else torch.int16).numpy().view(dtype)


def is_leaf(value: Any) -> bool:
    """Say whether a value is something whose bits can be compared: an array, a tensor or a number."""
    return isinstance(value, _LEAVES) or _is_torch(value)


def _is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def _is_number(leaf: Any) -> bool:
    """Say whether a leaf that is not jax's is a single number."""
    if _is_torch(leaf):
        return not leaf.shape
    array = np.asarray(leaf)
    return not array.shape and array.dtype.kind in "biufV"


@functools.cache
def _is_key(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _take_host(
    taken: Lanes, positions: np.ndarray, arrays: list[np.ndarray], statistics: bool, tensors: bool, held: Copy | None
) -> None:
    """Take what lies in the host's memory, and could be overwritten as soon as this returns.

    Where copying is cheap, a copy is made and read on the thread that asks for the result; what is large is read at once.
    """
    copy = held or copied(arrays, tensors)
    if copy is None:
        taken._add(positions, *read(arrays, statistics))
    else:
        taken._host = positions, copy, statistics
        copy.owner = weakref.ref(taken)


@functools.cache
def _compiled() -> tuple[Any, Any]:
    def of_leaves(leaves: list[jax.Array], words: list[jax.Array], scalars: tuple[int, ...]) -> jax.Array:
        lanes = [jax_form.lanes(leaf) for leaf in leaves] + [jax_form.word_lanes(word.astype(jnp.uint32)) for word in words]
        # The words of scalars, not the scalars: the next step may be given their buffers. One array: each costs a wait.
        numbers = [jax_form.scalar_words(leaves[place]) for place in scalars]
        return jnp.concatenate([*(jnp.stack(pair) for pair in lanes), *numbers])

    def statistics(leaves: list[jax.Array]) -> jax.Array:
        return jnp.stack([device_statistics(leaf) for leaf in leaves])

    return jax.jit(of_leaves, static_argnums=2, compiler_options=checksum_compiler_options()), jax.jit(statistics)
