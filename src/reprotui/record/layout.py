"""The layout of one kind of record: which leaves, in which order, and the compiled call that takes their checksums."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checksum import LeafSpec, jax_form
from reprotui.record.host import HostLeaves
from reprotui.record.kernels import checksum_compiler_options, device_statistics
from reprotui.trace import LeafTable
from reprotui.trace.phases import PHASE_INDEX, ROOT_BYTES, ROOTS_BYTES

Order = Mapping[str, Mapping[str, int]]
"""For a phase, the rank of a leaf's path in the order in which the program produces the leaves."""

READABLE = ("loss", "metrics")
"""Trees of the phase `forward` whose scalars are also kept as readable values."""


class Layout:
    """Leaves of a record with one tree structure and one set of shapes and dtypes.

    Args:
        trees: (phase, name, tree) in phase order.
        order: see `Order`; leaves without a rank keep their flattening order.
    """

    def __init__(self, trees: Sequence[tuple[str, str, Any]], order: Order) -> None:
        leaves = [
            (phase, group, path, leaf)
            for group, (phase, name, tree) in enumerate(trees)
            for path, leaf in jax_form.named_leaves(tree, name)
        ]
        ranks = [
            (PHASE_INDEX[phase], group, order.get(phase, {}).get(path, index))
            for index, (phase, group, path, _) in enumerate(leaves)
        ]
        positions = sorted(range(len(leaves)), key=lambda index: (ranks[index], index))
        chosen = [leaves[index] for index in positions]
        self.table = LeafTable(tuple(phase for phase, *_ in chosen), tuple(leaf_spec(path, leaf) for _, _, path, leaf in chosen))
        self._on_host = [not isinstance(leaf, jax.Array) for *_, leaf in chosen]
        self._device_positions = [position for position, host in zip(positions, self._on_host, strict=True) if not host]
        self._host_positions = [position for position, host in zip(positions, self._on_host, strict=True) if host]
        host = [leaf for (*_, leaf), host in zip(chosen, self._on_host, strict=True) if host]
        self._host = HostLeaves(host) if host else None
        readable = [index for index in range(len(chosen)) if _is_readable(self.table.phases[index], self.table.specs[index])]
        self._readable_device = [index for index in readable if not self._on_host[index]]
        self._readable_host = [(self.table.specs[index].path, positions[index]) for index in readable if self._on_host[index]]
        self._checksums = jax.jit(self._pack, compiler_options=checksum_compiler_options())
        self._statistics = jax.jit(self._stack_statistics)

    @property
    def has_host(self) -> bool:
        """Say whether some leaves lie in the host's memory."""
        return self._host is not None

    def observe(self, leaves: Sequence[Any], statistics: bool) -> "Observation":
        """Dispatch the checksums of a record's leaves (in flattening order); does not wait for the device."""
        device = [leaves[position] for position in self._device_positions]
        # Host arrays can be overwritten by their owner at any time, so they are read now.
        host = [leaves[position] for position in self._host_positions]
        host_lanes, of_host = (None, None) if self._host is None else self._host.read(host, statistics)
        packed = self._checksums(device, host_lanes)
        stacked = self._statistics(device, None if of_host is None else of_host.values) if statistics else None
        scalars = {path: np.asarray(leaves[position]) for path, position in self._readable_host}
        return Observation(self, packed, stacked, scalars)

    def _pack(self, device: list[jax.Array], host_lanes: jax.Array | None) -> jax.Array:
        if not self._on_host:
            return jnp.zeros(0, jnp.uint32)
        lanes = self._stack([jnp.stack(jax_form.lanes(leaf)) for leaf in device], host_lanes)
        roots = [jnp.stack(jax_form.root_lanes(lanes[start:end])) for _, start, end in self.table.slices]
        of_device = [index for index, host in enumerate(self._on_host) if not host]
        scalars = [jax_form.scalar_words(device[of_device.index(index)]) for index in self._readable_device]
        return jnp.concatenate([lanes.reshape(-1), *roots, *scalars])

    def _stack_statistics(self, device: list[jax.Array], of_host: jax.Array | None) -> jax.Array:
        if not self._on_host:
            return jnp.zeros((0, 2), jnp.float32)
        return self._stack([device_statistics(leaf) for leaf in device], of_host)

    def _stack(self, device_rows: list[jax.Array], host_rows: jax.Array | None) -> jax.Array:
        """Put the rows of device and host leaves into table order."""
        of_device, of_host = iter(device_rows), iter(() if host_rows is None else host_rows)
        return jnp.stack([next(of_host) if host else next(of_device) for host in self._on_host])

    def unpack(self, packed: np.ndarray) -> tuple[bytes, bytes, dict[str, np.generic]]:
        """Return leaf checksums, roots and readable scalars from what the compiled call gave."""
        # [lane0, lane1] as little-endian uint32 is the little-endian uint64 of the checksum.
        raw = packed.astype("<u4", copy=False).tobytes()
        at = ROOT_BYTES * len(self.table.specs)
        leaf_checksums, roots = raw[:at], bytearray(ROOTS_BYTES)
        for phase, _, _ in self.table.slices:
            start = PHASE_INDEX[phase] * ROOT_BYTES
            roots[start : start + ROOT_BYTES] = raw[at : at + ROOT_BYTES]
            at += ROOT_BYTES
        scalars: dict[str, np.generic] = {}
        for index in self._readable_device:
            spec = self.table.specs[index]
            dtype = jnp.dtype(spec.dtype)
            scalars[spec.path] = np.frombuffer(raw, dtype, 1, at)[0]
            at += max(4, dtype.itemsize)
        return leaf_checksums, bytes(roots), scalars


class Observation:
    """Checksums that a device may still be computing."""

    def __init__(self, layout: Layout, packed: jax.Array, statistics: jax.Array | None, scalars: dict[str, Any]) -> None:
        self._layout, self._packed, self._statistics, self._scalars = layout, packed, statistics, scalars

    def result(self) -> tuple[bytes, bytes, dict[str, Any], bytes | None]:
        """Wait for the device; return leaf checksums, roots, readable scalars by path, and statistics or None."""
        leaf_checksums, roots, scalars = self._layout.unpack(np.asarray(self._packed))
        statistics = None if self._statistics is None else np.asarray(self._statistics).astype("<f4").tobytes()
        return leaf_checksums, roots, {**scalars, **self._scalars}, statistics


def leaf_spec(path: str, leaf: Any) -> LeafSpec:
    """Describe a leaf; host values keep the dtype that numpy gives them (a Python float is float64)."""
    if isinstance(leaf, jax.Array):
        return jax_form.leaf_spec(path, leaf)
    array = np.asarray(leaf)
    return LeafSpec(path, array.dtype.name, array.shape)


def _is_readable(phase: str, spec: LeafSpec) -> bool:
    number = spec.dtype.startswith(("float", "bfloat", "int", "uint", "bool"))
    return phase == "forward" and spec.shape == () and number and spec.path.split("/")[0] in READABLE
