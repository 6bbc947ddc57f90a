"""npz: a zip archive of `.npy` files, with a CRC each."""

import io
from typing import Any

import ml_dtypes  # noqa: F401  (registers bfloat16 and float8 with numpy)
import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import LeafSpec
from reprotui.integrity.formats.archive import Archive
from reprotui.integrity.formats.stored import StoredCheckpoint, StoredLeaf
from reprotui.integrity.formats.zip_directory import corrupt, unchecked
from reprotui.integrity.status import Finding, IntegrityError

HEADER_BYTES = 1 << 16
"""More than a `.npy` header of any array has."""


def open_npz(archive: Archive) -> StoredCheckpoint:
    """Read the header of every array; arrays of Python objects are never unpickled, and named. numpy looks at case."""
    leaves, unread = [], []
    for name, entry in archive.entries.items():
        path = name.removesuffix(".npy")
        if path in archive.entries:
            raise corrupt(
                f"the array {path!r} and the entry {path!r} are one name to numpy, which would take the entry", entry.header
            )
        try:
            leaves.append(_leaf(archive, name, path))
        except IntegrityError as error:
            unread.append(Finding(error.finding.status, ".", error.finding.message, path, error.finding.offset))
    return StoredCheckpoint(archive.path, "npz", tuple(leaves), archive.checksummed, unread=tuple(unread))


def _leaf(archive: Archive, name: str, path: str) -> StoredLeaf:
    offset = archive.entries[name].start
    # Unpacking decides the type, so the header comes with the whole entry; it is read again when the leaf is.
    dtype, shape, _ = _decode(archive.read(name))
    if dtype.hasobject:
        raise unchecked("holds Python objects in a pickle, which is never executed", offset)

    def read() -> NDArray[Any]:
        data = archive.read(name)
        dtype, shape, (start, fortran) = _decode(data)
        array = np.frombuffer(data, dtype, offset=start)
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)

    return StoredLeaf(LeafSpec(path, dtype.name, shape), ".", offset, read)


def _decode(data: bytes) -> tuple[np.dtype, tuple[int, ...], tuple[int, bool]]:
    file = io.BytesIO(data[:HEADER_BYTES])
    try:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(file)
    except (ValueError, SyntaxError, TypeError, EOFError) as error:
        raise corrupt(f"the header of an array cannot be read: {str(error)[:120]}") from None
    return dtype, tuple(int(size) for size in shape), (file.tell(), fortran)
