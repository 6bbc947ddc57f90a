"""PyTorch's `.pt`: a zip archive with a pickle that names tensors and one entry for each storage; torch is not needed.

torch looks entries up without regard to case (of ASCII), below the folder that the first entry names.
"""

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
from reprotui.integrity.formats.torch_other import check_others
from reprotui.integrity.formats.zip_directory import DEFLATED, corrupt, unchecked
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


def is_torch(archive: Archive) -> bool:
    """Say whether torch would take an archive for a checkpoint of its own."""
    return any(entry.raw.lower().endswith(b"/data.pkl") for entry in archive.entries.values())


def open_torch(archive: Archive) -> StoredCheckpoint:
    """Read the pickle statically, and place every tensor in its storage.

    Tensors become leaves, and so do numbers, text and None. Whatever else loading would have to call is a finding, and
    listed as unsafe where torch's `weights_only` would refuse it. So are other pickles that lie there, and code.
    """
    found = _names(archive)
    try:
        value, named = static_pickle.read(archive.read(found["data.pkl"]))
        flat = static_pickle.flatten(_resolve(value, 0, {}), lambda item: isinstance(item, _Tensor))
    except static_pickle.Refused as error:
        raise unchecked(str(error)) from None
    big = archive.read(found["byteorder"]) == b"big" if "byteorder" in found else False
    leaves: list[StoredLeaf] = []
    unread: list[Finding] = []
    for path, item in flat:
        if isinstance(item, _Tensor):
            entry = found.get(item.entry)
            if entry is None:
                unread.append(Finding(Status.MISSING, ".", f"its storage {item.entry} is not there", path))
            elif archive.entries[entry].method == DEFLATED:
                said = f"its storage {entry} is packed: torch.load(mmap=True) would take the packed bytes for numbers"
                unread.append(Finding(Status.UNCHECKED, ".", said, path))
            else:
                leaves.append(_leaf(archive, path, item, entry, big))
        elif (leaf := constant(path, ".", _plain(item))) is not None:
            leaves.append(leaf)
        else:
            unread.append(
                Finding(Status.UNCHECKED, ".", f"is {_describe(item)}, which only executing its code could build", path)
            )
    storages = {item.entry for _, item in flat if isinstance(item, _Tensor)}
    others, code = check_others(archive, {name: entry for name, entry in found.items() if name not in storages}, _is_harmless)
    unsafe = tuple(dict.fromkeys([*(str(one) for one in named if not _is_harmless(one)), *code]))
    unread += others
    return StoredCheckpoint(archive.path, "torch", tuple(leaves), archive.checksummed, unsafe=unsafe, unread=tuple(unread))


def _names(archive: Archive) -> dict[str, str]:
    """Return the names of entries by what torch looks up: below the folder of the first one, in small letters."""
    entries = list(archive.entries.values())
    root = entries[0].raw.partition(b"/")[0] + b"/"
    found: dict[str, str] = {}
    for entry in entries:
        if not entry.raw.startswith(root):
            raise unchecked(
                f"{entry.name} lies outside the folder {entries[0].name.partition('/')[0]} of the first entry", entry.header
            )
        name = _looked_up(entry.raw.removeprefix(root))
        if name in found:
            said = f"the names {found[name]} and {entry.name} are one to torch, which does not look at case"
            raise corrupt(f"{said}: readers disagree on which is meant", entry.header)
        found[name] = entry.name
    if "data.pkl" not in found:
        raise unchecked("is a zip file with a data.pkl that torch would not find")
    return found


def _looked_up(name: bytes) -> str:
    return name.lower().decode("utf-8", "surrogateescape")


def _resolve(value: Any, depth: int, known: dict[int, Any]) -> Any:
    """Replace the calls that build tensors and plain containers by what they build; what is shared is resolved once."""
    if not isinstance(value, dict | list | tuple | Call):
        return value
    if depth > static_pickle.MAXIMUM_DEPTH:
        raise static_pickle.Refused(f"the state is nested more than {static_pickle.MAXIMUM_DEPTH} deep, or within itself")
    if id(value) not in known:
        if isinstance(value, dict):
            known[id(value)] = {key: _resolve(inner, depth + 1, known) for key, inner in value.items()}
        elif isinstance(value, list | tuple):
            known[id(value)] = [_resolve(inner, depth + 1, known) for inner in value]
        else:
            known[id(value)] = _built(value, depth, known)
    return known[id(value)]


def _built(call: Call, depth: int, known: dict[int, Any]) -> Any:
    """Return what a call would build where that is data, and the call itself elsewhere."""
    if not isinstance(call.function, Global):
        return call
    module, name, arguments = call.function.module, call.function.name, call.arguments
    try:
        if module == "torch._utils" and name in _TENSORS:
            return _tensor(name, arguments) or call
        if module == "torch._utils" and name in _PARAMETERS:
            return _resolve(arguments[0], depth + 1, known)
        if (module, name) == ("_codecs", "encode") and arguments[1] == "latin1":
            return arguments[0].encode("latin1")
        if (module, name) == ("torch", "Size"):
            return list(arguments[0])
    except static_pickle.Refused:
        raise
    except (IndexError, TypeError, ValueError, KeyError, AttributeError):
        pass
    return call


def _tensor(name: str, arguments: Any) -> _Tensor | None:
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
    return _Tensor(dtype, tuple(shape), tuple(strides), _looked_up(f"data/{key}".encode("utf-8", "surrogatepass")), start)


def _leaf(archive: Archive, path: str, tensor: _Tensor, entry: str, big: bool) -> StoredLeaf:
    dtype = np.dtype(tensor.dtype)
    itemsize = dtype.itemsize

    def read() -> NDArray[Any]:
        storage = np.frombuffer(archive.read(entry), dtype.newbyteorder(">") if big and itemsize > 1 else dtype)
        count = math.prod(tensor.shape)
        if count == 0:
            return np.zeros(tensor.shape, dtype)
        if count * itemsize > max(storage.nbytes, BOMB_SIZE):
            raise unchecked(f"a storage of {storage.nbytes} bytes is spread over {count} elements")
        last = tensor.start + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
        if last >= storage.size:
            raise ValueError(f"element {last} of a storage with {storage.size}")
        strides = [stride * itemsize for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(storage[tensor.start :], tensor.shape, strides, writeable=False)

    offset = archive.entries[entry].start + tensor.start * itemsize
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
