"""PyTorch's `.pt`: a zip archive with a pickle that names tensors and one entry for each storage; torch is not needed."""

import json
import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes  # noqa: F401  (registers bfloat16 and float8 with numpy)
import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import LeafSpec
from reprotui.integrity.formats import static_pickle
from reprotui.integrity.formats.archive import BOMB_SIZE, Archive
from reprotui.integrity.formats.static_pickle import Call, Global, Persistent
from reprotui.integrity.formats.stored import StoredCheckpoint, StoredLeaf, constant
from reprotui.integrity.status import Finding, Status

STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
}  # fmt: skip
DTYPES = {
    *STORAGES.values(), "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "float8_e8m0fnu",
}  # fmt: skip
"""Types of elements, named by torch as by numpy."""
_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_HARMLESS = {
    ("collections", "OrderedDict"), ("collections", "Counter"), ("collections", "defaultdict"), ("_codecs", "encode"),
    ("builtins", "set"), ("builtins", "frozenset"), ("builtins", "bytearray"), ("builtins", "complex"), ("builtins", "dict"),
    ("torch", "Size"), ("torch", "device"), ("torch.storage", "UntypedStorage"), ("torch.storage", "TypedStorage"),
    ("torch", "Tensor"), ("torch.nn.parameter", "Parameter"), ("torch.serialization", "_get_layout"),
}  # fmt: skip
"""What torch's own `weights_only` loader accepts beside tensors, and what can do no harm there."""


@dataclass(frozen=True)
class _Tensor:
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    entry: str
    start: int


def open_torch(archive: Archive, root: str) -> StoredCheckpoint:
    """Read the pickle statically, and place every tensor in its storage.

    Tensors become leaves, and so do numbers, text and None. Whatever else loading would have to call is a finding, and
    listed as unsafe where torch's `weights_only` would refuse it.
    """
    try:
        value, named = static_pickle.read(archive.read(f"{root}data.pkl"))
        flat = static_pickle.flatten(_resolve(value, root, 0, {}), lambda item: isinstance(item, _Tensor))
    except static_pickle.Refused as error:
        raise archive.error(Status.UNCHECKED, str(error)) from None
    big = archive.read(f"{root}byteorder") == b"big" if f"{root}byteorder" in archive.entries else False
    leaves: list[StoredLeaf] = []
    unread: list[Finding] = []
    for path, item in flat:
        if isinstance(item, _Tensor):
            if item.entry not in archive.entries:
                unread.append(Finding(Status.MISSING, ".", f"its storage {item.entry} is not there", path))
                continue
            leaves.append(_leaf(archive, path, item, big))
        elif (leaf := constant(path, ".", _plain(item))) is not None:
            leaves.append(leaf)
        else:
            unread.append(
                Finding(Status.UNCHECKED, ".", f"is {_describe(item)}, which only executing its code could build", path)
            )
    unsafe = tuple(dict.fromkeys(str(found) for found in named if not _is_harmless(found)))
    return StoredCheckpoint(archive.path, "torch", tuple(leaves), archive.checksummed, unsafe=unsafe, unread=tuple(unread))


def _resolve(value: Any, root: str, depth: int, known: dict[int, Any]) -> Any:
    """Replace the calls that build tensors and plain containers by what they build; what is shared is resolved once."""
    if not isinstance(value, dict | list | tuple | Call):
        return value
    if depth > static_pickle.MAXIMUM_DEPTH:
        raise static_pickle.Refused(f"the state is nested more than {static_pickle.MAXIMUM_DEPTH} deep, or within itself")
    if id(value) not in known:
        if isinstance(value, dict):
            known[id(value)] = {key: _resolve(inner, root, depth + 1, known) for key, inner in value.items()}
        elif isinstance(value, list | tuple):
            known[id(value)] = [_resolve(inner, root, depth + 1, known) for inner in value]
        else:
            known[id(value)] = _built(value, root, depth, known)
    return known[id(value)]


def _built(call: Call, root: str, depth: int, known: dict[int, Any]) -> Any:
    """Return what a call would build where that is data, and the call itself elsewhere."""
    if not isinstance(call.function, Global):
        return call
    module, name, arguments = call.function.module, call.function.name, call.arguments
    try:
        if module == "torch._utils" and name in _TENSORS:
            return _tensor(name, arguments, root) or call
        if module == "torch._utils" and name in _PARAMETERS:
            return _resolve(arguments[0], root, depth + 1, known)
        if (module, name) == ("_codecs", "encode") and arguments[1] == "latin1":
            return arguments[0].encode("latin1")
        if (module, name) == ("torch", "Size"):
            return list(arguments[0])
    except static_pickle.Refused:
        raise
    except (IndexError, TypeError, ValueError, KeyError, AttributeError):
        pass
    return call


def _tensor(name: str, arguments: Any, root: str) -> _Tensor | None:
    """Return the tensor that a call would build, None where it would be more than its storage's numbers."""
    storage, start, shape, strides, *rest = arguments
    if not isinstance(storage, Persistent):
        return None
    kind, storage_type, key, *_ = storage.identifier
    if kind != "storage" or not isinstance(storage_type, Global) or not isinstance(key, str):
        return None
    dtype = STORAGES.get(storage_type.name)
    if name == "_rebuild_tensor_v3":
        dtype = rest[2].name if rest[2].name in DTYPES else None
        rest = rest[:2] + rest[3:]
    # A conjugate or negative view has its sign in the last argument.
    if dtype is None or (len(rest) > 2 and rest[2]):
        return None
    numbers = (start, *shape, *strides)
    if not all(type(number) is int and number >= 0 for number in numbers) or len(shape) != len(strides):
        return None
    return _Tensor(dtype, tuple(shape), tuple(strides), f"{root}data/{key}", start)


def _leaf(archive: Archive, path: str, tensor: _Tensor, big: bool) -> StoredLeaf:
    dtype = np.dtype(tensor.dtype)
    itemsize = dtype.itemsize

    def read() -> NDArray[Any]:
        storage = np.frombuffer(archive.read(tensor.entry), dtype.newbyteorder(">") if big and itemsize > 1 else dtype)
        count = math.prod(tensor.shape)
        if count == 0:
            return np.zeros(tensor.shape, dtype)
        if count * itemsize > max(storage.nbytes, BOMB_SIZE):
            raise archive.error(Status.UNCHECKED, f"a storage of {storage.nbytes} bytes is spread over {count} elements")
        last = tensor.start + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
        if last >= storage.size:
            raise ValueError(f"element {last} of a storage with {storage.size}")
        strides = [stride * itemsize for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(storage[tensor.start :], tensor.shape, strides, writeable=False)

    offset = archive.offset(tensor.entry) + tensor.start * itemsize
    return StoredLeaf(LeafSpec(path, tensor.dtype, tensor.shape), ".", offset, read)


def _is_harmless(found: Global) -> bool:
    place = found.module.replace("__builtin__", "builtins"), found.name
    return (
        place in _HARMLESS
        or (found.module == "torch._utils" and found.name in (*_TENSORS, *_PARAMETERS))
        or (found.module == "torch" and (found.name in STORAGES or found.name in DTYPES))
    )


def _plain(item: Any) -> Any:
    """Return harmless objects that are no numbers (a dtype, a device, a set) as text; everything else as it is."""
    if isinstance(item, Global) and _is_harmless(item):
        return str(item)
    if isinstance(item, Call) and isinstance(item.function, Global) and _is_harmless(item.function):
        parts = (item.arguments, item.state, item.items)
        try:
            return f"{item.function}{json.dumps(parts)}"
        except (TypeError, ValueError, RecursionError):
            return item
    return item


def _describe(item: Any) -> str:
    if isinstance(item, Call):
        return f"what {item.function} would return"
    if isinstance(item, Global):
        return f"the object {item}"
    return f"a {type(item).__name__}"
