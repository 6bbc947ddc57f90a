"""Checksums of any list of leaves: jax arrays, numpy arrays, torch tensors and Python numbers, one call for each kind.

Unlike `Layout`, nothing here needs to know phases when the call is made: an observer learns later what a leaf was.
"""

import functools
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checksum import LeafSpec, jax_form, numpy_form
from reprotui.record.layout import checksum_compiler_options, device_statistics, host_statistics

SMALL_WORDS = 8192
"""Up to so many together numpy reads host arrays faster than a compiled call can be made and waited for."""
COPIED_BESIDE_TORCH = 1 << 21
"""Bytes up to which host arrays are copied where the script computes with torch: more is read faster where it lies."""
COPIES_BYTES = 1 << 28
"""Memory for copies of host arrays whose checksums are to be made; beyond it they are made at once."""
ALIGNMENT = 64
_LEAVES = (jax.Array, np.ndarray, np.generic, int, float, complex)


class Lanes:
    """Checksums that a device may still be computing, in the order of the leaves."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._parts: list[tuple[list[int], Any, Any]] = []
        self._statistics: list[tuple[list[int], Any]] = []
        self._scalars: list[tuple[int, Any]] = []
        self._words: tuple[list[tuple[int, Any]], Any] = ([], None)
        self._host: tuple[list[int], _Copy, bool] | None = None

    def result(self) -> tuple[np.ndarray, dict[int, np.ndarray], np.ndarray | None]:
        """Wait; return uint32[leaves, 2], the scalars by leaf, and float32[leaves, 2] norms and maxima or None."""
        if self._host is not None:
            host, memory, wanted = self._host
            self._host = None
            read, norms = _read_host(memory.arrays, wanted)
            memory.owner = None
            self._parts.append((host, read, None))
            if norms is not None:
                self._statistics.append((host, norms))
        lanes = np.zeros((self._size, 2), np.uint32)
        for positions, values, wait in self._parts:
            if wait is not None:
                wait()
            lanes[positions] = np.asarray(values.cpu().numpy().astype(np.uint32) if _is_torch(values) else values)
        statistics = np.zeros((self._size, 2), np.float32) if self._statistics else None
        for positions, values in self._statistics:
            assert statistics is not None
            statistics[positions] = np.asarray(values)
        scalars = {position: to_numpy(value) for position, value in self._scalars}
        positions, words = self._words
        raw, at = np.asarray(words).astype("<u4").tobytes() if positions else b"", 0
        for position, dtype in positions:
            scalars[position] = np.frombuffer(raw, dtype, 1, at)[0]
            at += max(4, np.dtype(dtype).itemsize)
        return lanes, scalars, statistics


def take(leaves: Sequence[Any], statistics: bool = False) -> Lanes:
    """Dispatch the checksums of leaves.

    Arrays on an accelerator and jax arrays are read in the order of their device's work; what the host's code could
    overwrite (numpy arrays, torch tensors on the CPU) is read or copied before this returns.

    Raises:
        BadInputError: a leaf has no fixed bits, such as an array of objects.
    """
    taken = Lanes(len(leaves))
    device: list[int] = []
    host: list[int] = []
    arrays: list[Any] = list(leaves)
    cuda: list[int] = []
    scalars: list[int] = []
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, jax.Array):
            if leaf.shape == () and _is_number(leaf):
                scalars.append(len(device))
            device.append(index)
            continue
        if _is_torch(leaf) and leaf.device.type != "cpu":
            cuda.append(index)
        else:
            arrays[index] = to_numpy(leaf)
            host.append(index)
        if not arrays[index].shape and _is_number(arrays[index]):
            taken._scalars.append((index, arrays[index].copy() if host[-1:] == [index] else arrays[index]))
    if device:
        given = [arrays[index] for index in device] if len(device) < len(arrays) else arrays
        # The words of scalars, not the scalars: the next step may be given their buffers.
        lanes, words = _compiled()[1](given, tuple(scalars))
        taken._parts.append((device, lanes, None))
        taken._words = [(device[place], given[place].dtype) for place in scalars], words
        if statistics:
            taken._statistics.append((device, _device_statistics(given)))
    if cuda:
        _take_cuda(taken, cuda, [arrays[index] for index in cuda])
    if host:
        _take_host(taken, host, [arrays[index] for index in host], statistics)
    return taken


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


def _is_number(value: Any) -> bool:
    if isinstance(value, jax.Array):
        return not _is_key(value.dtype)
    return _is_torch(value) or value.dtype.kind in "biufV"


@functools.cache
def _is_key(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _take_host(taken: Lanes, positions: list[int], arrays: list[np.ndarray], statistics: bool) -> None:
    """Take what lies in the host's memory, and could be overwritten as soon as this returns.

    Where copying is cheap, a copy is made and read on the thread that asks for the result. Reading at once is for what is
    large: a compiled call reads the memory of torch tensors itself. Where the script computes with jax, such a call would
    have to wait for the step that is under way, and the script would lose the time in which it runs ahead of its device.
    """
    limit = COPIED_BESIDE_TORCH if "torch" in sys.modules else COPIES_BYTES
    memory = _copies().of(arrays) if sum(array.nbytes for array in arrays) <= limit else None
    if memory is None:
        lanes, values = _read_host(arrays, statistics)
        taken._parts.append((positions, lanes, None))
        if values is not None:
            taken._statistics.append((positions, values))
    else:
        taken._host = positions, memory, statistics
        memory.owner = weakref.ref(taken)


def _read_host(arrays: list[np.ndarray], statistics: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Return uint32[arrays, 2] lanes and, if asked for, float32[arrays, 2] statistics."""
    words = [numpy_form.words(array) for array in arrays]
    compiled = _host_backend()
    if not compiled:
        lanes = np.array([numpy_form.lanes(array) for array in arrays], np.uint32)
    elif sum(word.size for word in words) <= SMALL_WORDS:
        lanes = numpy_form.lanes_of_many(words)
    else:
        lanes = np.asarray(_word_lanes(words))
    if not statistics:
        return lanes, None
    values = np.zeros((len(arrays), 2), np.float32)
    narrow = [index for index, array in enumerate(arrays) if compiled and array.dtype.itemsize <= 4]
    if narrow:
        values[narrow] = np.asarray(_device_statistics([arrays[index] for index in narrow]))
    for index in set(range(len(arrays))).difference(narrow):
        values[index] = host_statistics(arrays[index])
    return lanes, values


@dataclass
class _Copy:
    """Memory for copies of arrays of certain shapes and dtypes, and whose checksums are still to be made from it."""

    arrays: list[np.ndarray]
    owner: weakref.ref[Lanes] | None = None

    @property
    def free(self) -> bool:
        return self.owner is None or self.owner() is None


class _Copies:
    """Memory that is used again and again, because new memory costs more than copying; `COPIES_BYTES` at most."""

    def __init__(self) -> None:
        self._all: dict[Any, list[_Copy]] = {}

    def of(self, arrays: list[np.ndarray]) -> _Copy | None:
        """Return copies of arrays; None where memory for more is not left.

        Raises:
            BadInputError: an array has no fixed bits.
        """
        layout = tuple((array.shape, array.dtype) for array in arrays)
        found = next((copy for copy in self._all.get(layout, ()) if copy.free), None)
        if found is None:
            found = self._new(arrays)
            if found is None:
                return None
            self._all.setdefault(layout, []).append(found)
        for copy, array in zip(found.arrays, arrays, strict=True):
            np.copyto(copy, array)
        return found

    def _new(self, arrays: list[np.ndarray]) -> _Copy | None:
        for array in arrays:
            numpy_form.words(np.empty(0, array.dtype))  # raises where there are none
        sizes = [-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays]
        if sum(sizes) + self._bytes() > COPIES_BYTES:
            # Arrays of other shapes were here before: a loader's last batch, another sequence length.
            self._all = {layout: kept for layout, copies in self._all.items() if (kept := [c for c in copies if not c.free])}
            if sum(sizes) + self._bytes() > COPIES_BYTES:
                return None
        raw = np.empty(sum(sizes) + ALIGNMENT, np.uint8)
        at = -raw.ctypes.data % ALIGNMENT
        views = []
        for array, size in zip(arrays, sizes, strict=True):
            views.append(raw[at : at + array.nbytes].view(array.dtype).reshape(array.shape))
            at += size
        return _Copy(views)

    def _bytes(self) -> int:
        return sum(array.nbytes for copies in self._all.values() for copy in copies for array in copy.arrays)


_copies = functools.cache(_Copies)


def _take_cuda(taken: Lanes, positions: list[int], tensors: list[Any]) -> None:
    import torch

    from reprotui.checksum import torch_form

    lanes = torch_form.lanes_of_many(tensors)
    event = torch.cuda.Event() if tensors[0].device.type == "cuda" else None
    if event is not None:
        event.record()
    taken._parts.append((positions, lanes, None if event is None else event.synchronize))
    for number, (index, value) in enumerate(taken._scalars):
        if index in positions:
            taken._scalars[number] = index, value.detach().clone()


def _host_backend() -> bool:
    """Say whether compiled calls run on the host; elsewhere host arrays would travel to the accelerator first."""
    return jax.default_backend() == "cpu"


@functools.cache
def _compiled() -> tuple[Any, Any, Any]:
    def of_words(words: list[jax.Array]) -> jax.Array:
        return jnp.stack([jnp.stack(jax_form.word_lanes(word.astype(jnp.uint32))) for word in words])

    def of_leaves(leaves: list[jax.Array], scalars: tuple[int, ...]) -> tuple[jax.Array, jax.Array | None]:
        lanes = jnp.stack([jnp.stack(jax_form.lanes(leaf)) for leaf in leaves])
        return lanes, jnp.concatenate([jax_form.scalar_words(leaves[place]) for place in scalars]) if scalars else None

    def statistics(leaves: list[jax.Array]) -> jax.Array:
        return jnp.stack([device_statistics(leaf) for leaf in leaves])

    options = checksum_compiler_options()
    return (
        jax.jit(of_words, compiler_options=options),
        jax.jit(of_leaves, static_argnums=1, compiler_options=options),
        jax.jit(statistics),
    )


def _word_lanes(words: list[np.ndarray]) -> jax.Array:
    with jax.enable_x64(False):
        return _compiled()[0](words)


def _device_statistics(leaves: Sequence[Any]) -> jax.Array:
    return _compiled()[2](list(leaves))
