"""safetensors: a JSON header with the place of every tensor, then their bytes; no checksum.

The format: https://github.com/huggingface/safetensors#format
"""

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (registers bfloat16 and float8 with numpy)
import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import LeafSpec
from reprotui.integrity.formats.stored import StoredCheckpoint, StoredLeaf
from reprotui.integrity.status import Finding, IntegrityError, Status

MAXIMUM_HEADER = 100_000_000
"""The format's own limit, in bytes."""

DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


def open_safetensors(path: Path) -> StoredCheckpoint:
    """Read the header of a safetensors file, and hold it against the length of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAXIMUM_HEADER, size - 8):
            raise _corrupt(f"the header should have {length} bytes", 0)
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        tensors = [_tensor(name, entry) for name, entry in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _corrupt(f"the header cannot be read ({error or type(error).__name__})", 8) from None
    start = 8 + length
    end = 0
    for spec, (first, last) in sorted(tensors, key=lambda tensor: tensor[1]):
        if first != end or last - first != math.prod(spec.shape) * np.dtype(spec.dtype).itemsize:
            raise _corrupt(f"bytes {first} to {last} are not those of {spec.path}", start + first, spec.path)
        end = last
    if start + end != size:
        raise _corrupt(f"has {size} bytes, the header describes {start + end}", min(size, start + end))
    leaves = tuple(
        StoredLeaf(spec, ".", start + first, _reader(path, spec, start + first, last - first)) for spec, (first, last) in tensors
    )
    return StoredCheckpoint(path, "safetensors", leaves, checksummed=False)


def _tensor(name: str, entry: Any) -> tuple[LeafSpec, tuple[int, int]]:
    shape, (first, last) = entry["shape"], entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, first, last)):
        raise ValueError(f"{name} has a shape or place that is no number")
    if entry["dtype"] not in DTYPES:
        raise IntegrityError(Finding(Status.UNCHECKED, ".", f"dtype {entry['dtype']!r} is not known here", leaf=name))
    return LeafSpec(name, DTYPES[entry["dtype"]], tuple(shape)), (first, last)


def _reader(path: Path, spec: LeafSpec, offset: int, size: int) -> Any:
    def read() -> NDArray[Any]:
        with path.open("rb") as file:
            file.seek(offset)
            raw = file.read(size)
        return np.frombuffer(raw, spec.dtype).reshape(spec.shape)

    return read


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice")
    return value


def _corrupt(message: str, offset: int, leaf: str | None = None) -> IntegrityError:
    return IntegrityError(Finding(Status.CORRUPT, ".", message, leaf, offset))
