"""Which format a checkpoint has: by what lies there, never by its name."""

import stat
from pathlib import Path

from reprotui.errors import BadInputError
from reprotui.integrity.files import walk
from reprotui.integrity.formats.stored import StoredCheckpoint
from reprotui.integrity.formats.zip_directory import unchecked
from reprotui.integrity.status import Finding, IntegrityError, Status


def open_checkpoint(path: Path) -> StoredCheckpoint:
    """Read the structure of a checkpoint; no value of it yet, and nothing that it names is executed.

    Raises:
        BadInputError: the path does not exist.
        IntegrityError: INCOMPLETE for a directory without a state, CORRUPT for a structure that is damaged, UNREADABLE
            where it cannot be read, UNCHECKED for a format that is not known here, or leaves that share a name.
    """
    stored = _open(path)
    seen: set[str] = set()
    for leaf in stored.leaves:
        if leaf.spec.path in seen:  # torch keeps 1 and "1" apart, and "a/b" from "b" in "a"
            said = "two leaves get this name: one would stand for both"
            raise IntegrityError(Finding(Status.UNCHECKED, ".", said, leaf.spec.path))
        seen.add(leaf.spec.path)
    return stored


def _open(path: Path) -> StoredCheckpoint:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise BadInputError(f"{path} does not exist") from None
    if stat.S_ISDIR(mode):
        # A FIFO where a library expects a file would hang it, a link lead it elsewhere.
        if refused := walk(path).findings:
            raise IntegrityError(refused[0])
        from reprotui.integrity.formats.orbax import open_orbax

        return open_orbax(path)
    if not stat.S_ISREG(mode):
        raise IntegrityError(Finding(Status.UNREADABLE, path.name, "is neither a file nor a directory: it is not opened"))
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise IntegrityError(Finding(Status.UNREADABLE, path.name, f"cannot be read: {error.strerror}")) from None
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _open_archive(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        from reprotui.integrity.formats.safetensors import open_safetensors

        return open_safetensors(path)
    if head[:1] == b"\x80" and path.suffix in (".pt", ".pth", ".ckpt", ".bin"):
        said = "is in torch's legacy format without checksums, a bare pickle: load it with weights_only and save it anew"
        raise IntegrityError(Finding(Status.UNCHECKED, path.name, said))
    said = "is none of the formats known here (Orbax, torch zip, safetensors, npz), or its first bytes are damaged"
    raise IntegrityError(Finding(Status.UNCHECKED, path.name, said))


def _open_archive(path: Path) -> StoredCheckpoint:
    """Read a zip archive as what its entries say that it is: torch's `.pt`, or npz."""
    from reprotui.integrity.formats.archive import open_archive

    archive = open_archive(path)
    if archive.entries and all(name.endswith(".npy") for name in archive.entries):
        from reprotui.integrity.formats.npz import open_npz

        return open_npz(archive)
    from reprotui.integrity.formats.torch_zip import is_torch, open_torch

    if is_torch(archive):
        return open_torch(archive)
    raise unchecked("is a zip file, and neither a torch checkpoint nor an npz")
