"""Checksums and statistics of jax arrays that lie on a device: one compiled call for all of them, in the order of its work.

Where that device is the CPU, XLA calls the machine code of the host's form on its own buffers: faster than what it compiles
itself, and a program of one call is compiled within milliseconds, however many leaves there are.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checksum import host_form, jax_form, machine_code, numpy_form
from reprotui.checksum.definition import INDEX_START
from reprotui.record.kernels import checksum_compiler_options, device_statistics

_TARGET = "reprotui_lanes"


class DeviceLeaves:
    """Jax arrays of certain types, read by one call each time.

    Args:
        leaves: those that are there now.
        scalars: the places of numbers among them whose value is wanted too.
    """

    def __init__(self, leaves: Sequence[jax.Array], scalars: tuple[int, ...]) -> None:
        self._scalars = scalars
        self._table: jax.Array | None = None
        if leaves and all(_in_one_place(leaf) for leaf in leaves) and _target_works():
            self._table = _table_of(leaves)

    def lanes(self, leaves: list[jax.Array]) -> jax.Array:
        """Dispatch the checksums of leaves; return uint32: the lanes of all, then the words of those that are scalars."""
        if self._table is None:
            return _calls().lanes(leaves, self._scalars)
        return _calls().lanes_on_cpu(self._table, leaves, self._scalars)

    def statistics(self, leaves: list[jax.Array]) -> jax.Array:
        """Dispatch L2 norms and maxima of leaves; return float32[leaves, 2]."""
        return _calls().statistics(leaves)


def _in_one_place(leaf: jax.Array) -> bool:
    """Say whether an array lies on one device that is the host, one element behind the other."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    # XLA may keep two elements of four bits in one byte.
    narrow = numpy_form.dtype_name(np.dtype(leaf.dtype)) in numpy_form.NARROW
    devices = leaf.devices()
    return len(devices) == 1 and next(iter(devices)).platform == "cpu" and not narrow


def _table_of(leaves: Sequence[jax.Array]) -> jax.Array:
    """Return the operand that says what the leaves are: given at each call, because a program may be kept for other processes."""
    rows = np.zeros((len(leaves) + 1, 4), np.int64)
    rows[0, 0] = len(leaves)
    for row, leaf in zip(rows[1:], leaves, strict=True):
        words = jax.eval_shape(_plain, leaf)
        kind = host_form.kind_of(np.dtype(words.dtype))
        row[:3] = machine_code.function(kind.word), words.size * kind.words, INDEX_START
    return jnp.asarray(rows.view(np.uint32))


def _plain(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


@functools.cache
def _target_works() -> bool:
    """Say whether XLA takes the machine code; tried once."""
    if host_form.shortfall() is not None:
        return False
    try:
        jax.ffi.register_ffi_target(_TARGET, machine_code.xla_target(), platform="cpu", api_version=1)
        sample = np.arange(37, dtype=np.uint32)
        leaves = [jnp.asarray(sample), jnp.asarray(sample.astype(np.uint8))]
        with jax.enable_x64(False):
            found = np.asarray(_calls().lanes_on_cpu(_table_of(leaves), leaves, ())).reshape(-1, 2).tolist()
        return found == [list(numpy_form.lanes(np.asarray(leaf))) for leaf in leaves]
    except Exception:  # an older jax, another version of the interface: XLA compiles the checksum itself
        return False


class _Calls:
    def __init__(self) -> None:
        options = checksum_compiler_options()
        self.lanes = jax.jit(_lanes, static_argnums=1, compiler_options=options)
        self.lanes_on_cpu = jax.jit(_lanes_on_cpu, static_argnums=2, compiler_options=options)
        self.statistics = jax.jit(lambda leaves: jnp.stack([device_statistics(leaf) for leaf in leaves]))


_calls = functools.cache(_Calls)


def _lanes(leaves: list[jax.Array], scalars: tuple[int, ...]) -> jax.Array:
    return _with_scalars(jnp.concatenate([jnp.stack(jax_form.lanes(leaf)) for leaf in leaves]), leaves, scalars)


def _lanes_on_cpu(table: jax.Array, leaves: list[jax.Array], scalars: tuple[int, ...]) -> jax.Array:
    result = jax.ShapeDtypeStruct((len(leaves), 2), jnp.uint32)
    lanes = jax.ffi.ffi_call(_TARGET, result)(table, *(_plain(leaf) for leaf in leaves))
    return _with_scalars(lanes.reshape(-1), leaves, scalars)


def _with_scalars(lanes: jax.Array, leaves: list[jax.Array], scalars: tuple[int, ...]) -> jax.Array:
    # The words of scalars, not the scalars: the next step may be given their buffers. One array: each costs a wait.
    return jnp.concatenate([lanes, *(jax_form.scalar_words(leaves[place]) for place in scalars)])
