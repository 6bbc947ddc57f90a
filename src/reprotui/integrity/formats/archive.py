"""Zip archives of numbers: their entries, with the checksums checked."""

import zlib
from dataclasses import dataclass
from pathlib import Path

from reprotui.integrity.formats.zip_directory import DEFLATED, Entry, corrupt, read_entries, unchecked

BOMB_RATIO, BOMB_SIZE = 100, 1 << 28
"""An entry that unpacks to more than this many times its size, and to more than this many bytes, is not unpacked."""


@dataclass(frozen=True)
class Archive:
    """A zip file whose directory was read and found sound.

    Attributes:
        path: the file.
        entries: by name, in the order of the directory.
        checksummed: whether every entry with content has a CRC. torch can be told to leave them out.
    """

    path: Path
    entries: dict[str, Entry]
    checksummed: bool

    def read(self, name: str) -> bytes:
        """Read and unpack an entry, and check its CRC where it has one.

        Raises:
            IntegrityError: CORRUPT where content and CRC or size do not fit.
        """
        entry = self.entries[name]
        with self.path.open("rb") as file:
            file.seek(entry.start)
            data = file.read(entry.packed)
        if entry.method == DEFLATED:
            try:
                unpacker = zlib.decompressobj(-15)
                packed, data = data, unpacker.decompress(data, entry.size + 1)
            except zlib.error as error:
                raise corrupt(f"{name} cannot be unpacked: {error}", entry.start) from None
            if not unpacker.eof or unpacker.unused_data:
                raise corrupt(f"{name} does not end where its {len(packed)} packed bytes do", entry.start)
        if len(data) != entry.size:
            raise corrupt(f"{name} has {len(data)} bytes, recorded are {entry.size}", entry.start)
        if entry.crc and zlib.crc32(data) != entry.crc:
            raise corrupt(f"the CRC of {name} does not fit its content", entry.start)
        return data


def open_archive(path: Path) -> Archive:
    """Read the directory of a zip archive, whatever it holds."""
    entries = read_entries(path)
    for entry in entries:
        if entry.size > max(BOMB_SIZE, BOMB_RATIO * entry.packed):
            said = f"{entry.name} would unpack {entry.packed} bytes to {entry.size}: it is not unpacked"
            raise unchecked(said, entry.header)
    checksummed = all(entry.crc or not entry.size for entry in entries)
    archive = Archive(path, {entry.name: entry for entry in entries}, checksummed)
    if len(archive.entries) != len(entries):
        raise corrupt("two entries have one name, written in different encodings: readers disagree on which is meant")
    return archive
