"""The directory of a zip archive, read so that no two readers can see different content in it.

A zip file says most things twice: in each entry's own header and in the directory at the end. miniz (torch) and Python's
zipfile (numpy) believe one or the other, and search for the directory in different ways. So everything that is said twice
must agree, and every byte of the file must belong to an entry, to the directory or to its end record.

The format: APPNOTE.TXT of PKWARE.
"""

import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from reprotui.integrity.status import Finding, IntegrityError, Status

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<4sIQI")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
"""What stands where the number is in the zip64 form instead."""
_ZIP64, _OTHER_NAME = 0x0001, 0x7075
"""Extra fields: sizes of 64 bits; a second name, which some readers take instead of the first."""
_DESCRIBED, _UTF8 = 1 << 3, 1 << 11
_FLAGS = _DESCRIBED | _UTF8 | 0b110
"""Flags that are understood: sizes follow the content, the name is UTF-8, how hard the packer tried."""


@dataclass(frozen=True)
class Entry:
    """An entry.

    Attributes:
        name, raw: its name, and the bytes that it was decoded from.
        method: `STORED` or `DEFLATED`.
        crc: of the content; 0 where the writer left it out.
        packed, size: bytes in the file, and unpacked.
        header, start: where its header begins, and its content.
    """

    name: str
    raw: bytes
    method: int
    crc: int
    packed: int
    size: int
    header: int
    start: int


@dataclass(frozen=True)
class _Listed:
    """An entry as the directory has it; `start` is not known there."""

    raw: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    header: int


def read_entries(path: Path) -> list[Entry]:
    """Return the entries of an archive in the order of its directory.

    Raises:
        IntegrityError: CORRUPT where it is damaged or contradicts itself, UNCHECKED for what is not read here.
    """
    try:
        with path.open("rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise corrupt(f"the zip directory is damaged or cut off ({error})") from None
    except OSError as error:
        raise corrupt(f"the zip directory cannot be read ({error.strerror or error})") from None


def corrupt(message: str, offset: int | None = None) -> IntegrityError:
    """Return the error for an archive that is not what a writer wrote."""
    return IntegrityError(Finding(Status.CORRUPT, ".", message, offset=offset))


def unchecked(message: str, offset: int | None = None) -> IntegrityError:
    """Return the error for what is not read here."""
    return IntegrityError(Finding(Status.UNCHECKED, ".", message, offset=offset))


def _read(file: BinaryIO, size: int) -> list[Entry]:
    count, length, begin = _find_directory(file, size)
    listed = _list(_bytes(file, begin, length), count, begin)
    entries: dict[int, Entry] = {}
    end = 0
    in_order = sorted(listed, key=lambda item: item.header)
    for item, after in zip(in_order, [*(item.header for item in in_order[1:]), begin], strict=True):
        if item.header != end:
            text = "overlaps what stands before it" if item.header < end else f"follows {item.header - end} bytes of no entry"
            raise corrupt(f"the entry {_shown(item.raw)} {text}", min(end, item.header))
        entry = _check_header(file, item)
        end = entry.start + entry.packed
        if end > after:
            raise corrupt(f"the entry {entry.name} overlaps what stands after it", item.header)
        if _bytes(file, end, after - end) not in (_descriptors(item) if item.flags & _DESCRIBED else (b"",)):
            raise corrupt(f"{after - end} bytes after the entry {entry.name} belong to no entry, or its sizes are wrong", end)
        end = after
        entries[item.header] = entry
    if end != begin:
        raise corrupt(f"{begin - end} bytes before the zip directory belong to no entry", end)
    return [entries[item.header] for item in listed]


def _find_directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return number of entries, length and place of the directory; it must end where its end record begins."""
    tail = _bytes(file, max(0, size - _END.size - _FULL16), min(size, _END.size + _FULL16))
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise corrupt("the zip directory is damaged or cut off (there is no end record)")
    _, disk, first_disk, here, count, length, begin, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise corrupt("bytes follow the end of the zip archive", size - len(tail) + at + _END.size)
    if comment:
        raise unchecked("carries a comment, which torch and numpy never write: readers search for its end in different ways")
    if disk or first_disk or here != count:
        raise corrupt("the zip directory is damaged (it speaks of several disks)")
    end = size - _END.size
    locator = _bytes(file, end - _LOCATOR64.size, _LOCATOR64.size) if end >= _LOCATOR64.size else b""
    if locator[:4] == b"PK\x06\x07":
        count, length, begin, end = _find_directory64(file, locator, end - _LOCATOR64.size, (count, length, begin))
    elif _FULL32 in (length, begin):
        raise corrupt("the zip directory is damaged (its zip64 form is missing)")
    if begin + length != end:
        raise corrupt(f"the zip directory should lie from byte {begin} to {begin + length}, its end record stands at {end}", end)
    return count, length, begin


def _find_directory64(file: BinaryIO, locator: bytes, end: int, short: tuple[int, int, int]) -> tuple[int, int, int, int]:
    _, disk, place, disks = _LOCATOR64.unpack(locator)
    if place + _END64.size != end or disk or disks != 1:
        raise corrupt("the zip directory is damaged (its zip64 end record does not lie where it should)", end)
    signature, rest, _, _, disk, first_disk, here, count, length, begin = _END64.unpack(_bytes(file, place, _END64.size))
    if signature != b"PK\x06\x06" or rest != _END64.size - 12 or disk or first_disk or here != count:
        raise corrupt("the zip directory is damaged (its zip64 end record)", place)
    for said, short_form, full in zip((count, length, begin), short, (_FULL16, _FULL32, _FULL32), strict=True):
        if short_form not in (said, full):
            raise corrupt("the zip directory is damaged (its two end records differ)", place)
    return count, length, begin, place


def _list(raw: bytes, count: int, begin: int) -> list[_Listed]:
    listed: list[_Listed] = []
    names: set[bytes] = set()
    at = 0
    while at < len(raw):
        fields = _CENTRAL.unpack_from(raw, at)
        signature, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment, disk, _, _, header = fields
        if signature != b"PK\x01\x02" or disk:
            raise corrupt("the zip directory is damaged", begin + at)
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_length
        following = extra_at + extra_length + comment
        if following > len(raw):
            raise corrupt("the zip directory is damaged (an entry of it is cut off)", begin + at)
        name = raw[name_at:extra_at]
        size, packed, header = _long(_extras(raw[extra_at : extra_at + extra_length], name), (size, packed, header), name)
        if name in names:
            raise corrupt(f"two entries are named {_shown(name)}: readers disagree on which is meant", begin + at)
        names.add(name)
        _check_name(name)
        if method not in (STORED, DEFLATED) or flags & ~_FLAGS:
            raise unchecked(f"{_shown(name)} is encrypted, or packed in a way not read here", begin + at)
        if method == STORED and packed != size:
            raise corrupt(f"{_shown(name)} is not packed, and has {packed} bytes for {size}", begin + at)
        listed.append(_Listed(name, flags, method, crc, packed, size, header))
        at = following
    if len(listed) != count:
        raise corrupt(f"the zip directory has {len(listed)} entries, its end record says {count}", begin)
    return listed


def _check_header(file: BinaryIO, item: _Listed) -> Entry:
    """Hold the header of an entry against the directory."""
    fields = _LOCAL.unpack(_bytes(file, item.header, _LOCAL.size))
    signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = fields
    rest = _bytes(file, item.header + _LOCAL.size, name_length + extra_length)
    name = _shown(item.raw)
    if signature != b"PK\x03\x04":
        raise corrupt(f"the header of {name} is damaged", item.header)
    if rest[:name_length] != item.raw:
        raise corrupt(f"an entry is named {name} in the directory and {_shown(rest[:name_length])} in its header", item.header)
    size, packed, _ = _long(_extras(rest[name_length:], item.raw), (size, packed, 0), item.raw)
    # Where the sizes follow the content, the header has them or zeros.
    open_ = (0,) if item.flags & _DESCRIBED else ()
    agree = crc in (item.crc, *open_) and packed in (item.packed, *open_) and size in (item.size, *open_)
    if not agree or method != item.method or (flags ^ item.flags) & (_DESCRIBED | _UTF8) or flags & ~_FLAGS:
        raise corrupt(f"the directory and the header of {name} differ in size, CRC or kind", item.header)
    start = item.header + _LOCAL.size + name_length + extra_length
    return Entry(
        item.raw.decode("utf-8" if item.flags & _UTF8 else "cp437"), item.raw, item.method, item.crc, item.packed, item.size,
        item.header, start,
    )  # fmt: skip


def _descriptors(item: _Listed) -> tuple[bytes, ...]:
    """Return what may follow the content of an entry whose sizes were not known before: with or without its mark."""
    found = [struct.pack(form, item.crc, item.packed, item.size) for form in ("<IQQ",)]
    if max(item.packed, item.size) <= _FULL32:
        found.append(struct.pack("<III", item.crc, item.packed, item.size))
    return tuple(mark + one for mark in (b"PK\x07\x08", b"") for one in found)


def _extras(raw: bytes, name: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(raw):
        kind, length = struct.unpack_from("<HH", raw, at)
        if at + 4 + length > len(raw) or kind in found:
            raise corrupt(f"an extra field of {_shown(name)} is damaged")
        found[kind] = raw[at + 4 : at + 4 + length]
        at += 4 + length
    if any(raw[at:]):
        raise corrupt(f"an extra field of {_shown(name)} is damaged")
    if _OTHER_NAME in found:
        raise unchecked(f"{_shown(name)} has a second name, which some readers take instead")
    return found


def _long(extras: dict[int, bytes], short: tuple[int, int, int], name: bytes) -> tuple[int, int, int]:
    """Return size, packed size and place, from the zip64 field where the short form says that they stand there."""
    numbers = list(short)
    wanted = [index for index, number in enumerate(numbers) if number == _FULL32]
    raw = extras.get(_ZIP64, b"")
    if len(raw) < 8 * len(wanted):
        raise corrupt(f"the sizes of {_shown(name)} are damaged (their zip64 form is missing)")
    for turn, index in enumerate(wanted):
        numbers[index] = struct.unpack_from("<Q", raw, 8 * turn)[0]
    return numbers[0], numbers[1], numbers[2]


def _check_name(name: bytes) -> None:
    if not name or b"\0" in name:
        raise corrupt(f"an entry has the name {_shown(name)}: some readers end it at the zero byte")
    if b"\\" in name or b".." in name.split(b"/"):
        raise unchecked(f"an entry has the name {_shown(name)}, which means another place elsewhere")


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _bytes(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    raw = file.read(length)
    if len(raw) != length:
        raise corrupt("the zip directory is damaged or cut off", offset)
    return raw
