"""Zip archives of numbers: which kind, and their entries with the checksums checked."""

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from reprotui.integrity.formats.stored import StoredCheckpoint
from reprotui.integrity.status import Finding, IntegrityError, Status

BOMB_RATIO, BOMB_SIZE = 100, 1 << 28
"""An entry that unpacks to more than this many times its size, and to more than this many bytes, is not unpacked."""
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@dataclass(frozen=True)
class Archive:
    """A zip file whose directory was read and found sound.

    Attributes:
        path: the file.
        entries: by name.
        checksummed: whether every entry with content has a CRC. torch can be told to leave them out.
    """

    path: Path
    entries: dict[str, zipfile.ZipInfo]
    checksummed: bool

    def offset(self, name: str) -> int:
        """Return where an entry's content begins in the file."""
        info = self.entries[name]
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            raw = file.read(_LOCAL_HEADER.size)
        if len(raw) < _LOCAL_HEADER.size or raw[:4] != b"PK\x03\x04":
            raise self.error(Status.CORRUPT, f"the header of {name} is damaged", info.header_offset)
        *_, name_length, extra_length = _LOCAL_HEADER.unpack(raw)
        return info.header_offset + _LOCAL_HEADER.size + name_length + extra_length

    def read(self, name: str) -> bytes:
        """Read and unpack an entry, and check its CRC where it has one.

        Raises:
            IntegrityError: CORRUPT where content and CRC or size do not fit.
        """
        info = self.entries[name]
        start = self.offset(name)
        with self.path.open("rb") as file:
            file.seek(start)
            data = file.read(info.compress_size)
        if info.compress_type == _DEFLATED:
            try:
                unpacker = zlib.decompressobj(-15)
                data = unpacker.decompress(data, info.file_size + 1)
            except zlib.error as error:
                raise self.error(Status.CORRUPT, f"{name} cannot be unpacked: {error}", start) from None
        if len(data) != info.file_size:
            raise self.error(Status.CORRUPT, f"{name} has {len(data)} bytes, recorded are {info.file_size}", start)
        if info.CRC and zlib.crc32(data) != info.CRC:
            raise self.error(Status.CORRUPT, f"the CRC of {name} does not fit its content", start)
        return data

    @staticmethod
    def error(status: Status, message: str, offset: int | None = None) -> IntegrityError:
        """Return an error about the file."""
        return IntegrityError(Finding(status, ".", message, offset=offset))


def open_archive(path: Path) -> StoredCheckpoint:
    """Read a zip archive as what its entries say that it is: torch's `.pt`, or npz."""
    archive = _read_directory(path)
    pickles = [name for name in archive.entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) == 1:
        from reprotui.integrity.formats.torch_zip import open_torch

        return open_torch(archive, pickles[0].removesuffix("data.pkl"))
    if archive.entries and all(name.endswith(".npy") for name in archive.entries):
        from reprotui.integrity.formats.npz import open_npz

        return open_npz(archive)
    raise archive.error(Status.UNCHECKED, "is a zip file, and neither a torch checkpoint nor an npz")


def _read_directory(path: Path) -> Archive:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            directory = archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise Archive.error(Status.CORRUPT, f"the zip directory is damaged or cut off ({error})") from None
    except OSError as error:
        # Python's zipfile seeks before the beginning of a file that was cut off.
        raise Archive.error(Status.CORRUPT, f"the zip directory cannot be read ({error.strerror or error})") from None
    entries = {info.filename: info for info in infos}
    if len(entries) != len(infos):
        raise Archive.error(Status.UNCHECKED, "two entries have one name: readers disagree on which is meant")
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end or info.header_offset + _LOCAL_HEADER.size + info.compress_size > directory:
            raise Archive.error(Status.UNCHECKED, f"{info.filename} overlaps what stands before or after it", info.header_offset)
        end = info.header_offset + _LOCAL_HEADER.size + info.compress_size
        if info.compress_type not in (_STORED, _DEFLATED) or info.flag_bits & 0x1:
            raise Archive.error(Status.UNCHECKED, f"{info.filename} is encrypted, or packed in a way not read here")
        if info.file_size > max(BOMB_SIZE, BOMB_RATIO * info.compress_size):
            said = f"{info.filename} would unpack {info.compress_size} bytes to {info.file_size}: it is not unpacked"
            raise Archive.error(Status.UNCHECKED, said, info.header_offset)
    checksummed = all(info.CRC or not info.file_size for info in infos)
    return Archive(path, entries, checksummed)
