"""Checksums of any list of leaves: jax arrays, numpy arrays, torch tensors and Python numbers, one call for each kind.

Unlike `Layout`, nothing here needs to know phases when the call is made: an observer learns later what a leaf was.
"""

import functools
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checksum import LeafSpec, jax_form, numpy_form
from reprotui.record.layout import checksum_compiler_options, device_statistics, host_statistics

SCALAR_BYTES = 8
"""Scalars up to this size are fetched with their checksums, so that a loss can be read."""


class Lanes:
    """Checksums that a device may still be computing, in the order of the leaves."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._parts: list[tuple[list[int], Any, Any]] = []
        self._statistics: list[tuple[list[int], Any]] = []
        self._scalars: list[tuple[int, Any]] = []
        self._words: tuple[list[tuple[int, Any]], Any] = ([], None)

    def result(self) -> tuple[np.ndarray, dict[int, np.ndarray], np.ndarray | None]:
        """Wait; return uint32[leaves, 2], the scalars by leaf, and float32[leaves, 2] norms and maxima or None."""
        lanes = np.zeros((self._size, 2), np.uint32)
        for positions, values, wait in self._parts:
            if wait is not None:
                wait()
            lanes[positions] = np.asarray(values if not _is_torch(values) else values.cpu().numpy().astype(np.uint32))
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
    overwrite (numpy arrays, torch tensors on the CPU) is read before this returns.

    Raises:
        BadInputError: a leaf has no fixed bits, such as an array of objects.
    """
    taken = Lanes(len(leaves))
    device: list[int] = []
    host: list[int] = []
    arrays: list[Any] = list(leaves)
    cuda: list[int] = []
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, jax.Array):
            device.append(index)
        elif _is_torch(leaf) and leaf.device.type != "cpu":
            cuda.append(index)
        else:
            arrays[index] = to_numpy(leaf)
            host.append(index)
        if index not in device[-1:] and not getattr(arrays[index], "shape", None) and _is_number(arrays[index]):
            taken._scalars.append((index, arrays[index].copy() if index in host else arrays[index]))
    if device:
        given = [arrays[index] for index in device]
        # The words of scalars, not the scalars: the next step may be given their buffers.
        scalars = tuple(place for place, leaf in enumerate(given) if leaf.shape == () and _is_number(leaf))
        lanes, words = _compiled()[1](given, scalars)
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
    return isinstance(value, jax.Array | np.ndarray | np.generic | int | float | complex) or _is_torch(value)


def _is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def _is_number(value: Any) -> bool:
    if isinstance(value, jax.Array):
        return not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    return _is_torch(value) or value.dtype.kind in "biufV"


def _take_host(taken: Lanes, positions: list[int], arrays: list[np.ndarray], statistics: bool) -> None:
    words = [numpy_form.words(array) for array in arrays]
    if _host_backend():
        # The compiled call reads the memory itself, 24 GB/s where a copy and numpy give 2; so it must end before this does.
        taken._parts.append((positions, np.asarray(_word_lanes(words)), None))
    else:
        taken._parts.append((positions, np.array([numpy_form.lanes(array) for array in arrays], np.uint32), None))
    if not statistics:
        return
    wide = [index for index, array in enumerate(arrays) if array.dtype.itemsize > 4 or not _host_backend()]
    narrow = [index for index in range(len(arrays)) if index not in wide]
    if narrow:
        taken._statistics.append(
            ([positions[index] for index in narrow], np.asarray(_device_statistics([arrays[index] for index in narrow])))
        )
    if wide:
        rows = np.array([host_statistics(arrays[index]) for index in wide], np.float32)
        taken._statistics.append(([positions[index] for index in wide], rows))


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
