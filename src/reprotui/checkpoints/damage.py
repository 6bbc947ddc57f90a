"""Harm a checkpoint on purpose, by a seed: so that anybody can test what verification promises."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reprotui.checkpoints.places import owner, signature_path
from reprotui.checkpoints.registry import registry_path
from reprotui.errors import BadInputError
from reprotui.integrity.files import SINGLE_FILE, locate, walk
from reprotui.integrity.manifest import manifest_path

BLOCK = 4096
"""What a file system loses or mixes up at once."""
_TRIES = 64


@dataclass(frozen=True)
class Damage:
    """What was done: the kind, the file within the checkpoint, and the rest in words."""

    kind: str
    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.file}: {self.text}"


class _NotHere(Exception):  # noqa: N818  (says that a kind does not apply, not that something failed)
    pass


def copy_checkpoint(checkpoint: Path, directory: Path) -> Path:
    """Copy a checkpoint with what accompanies it into a directory; return the copy.

    Raises:
        BadInputError: a checkpoint of that name is there already.
    """
    copy = directory / checkpoint.name
    if copy.exists():
        raise BadInputError(f"{copy} exists already: choose another directory, or delete it first")
    directory.mkdir(parents=True, exist_ok=True)
    if checkpoint.is_dir():
        shutil.copytree(checkpoint, copy, symlinks=True)
    else:
        shutil.copy2(checkpoint, copy)
    for beside in (manifest_path(checkpoint), signature_path(checkpoint), registry_path(checkpoint.parent)):
        if beside.is_file():
            shutil.copy2(beside, directory / beside.name)
    return copy


def damage(checkpoint: Path, kind: str, generator: random.Random) -> Damage:
    """Harm a checkpoint where it lies, once; every kind changes at least one byte or name.

    Args:
        checkpoint: a directory or a file.
        kind: one of `KINDS`.
        generator: draws the place.

    Raises:
        BadInputError: that kind of damage cannot be done to it (a file cannot be added to a file).
    """
    try:
        return KINDS[kind](checkpoint, generator)
    except _NotHere as error:
        raise BadInputError(f"{checkpoint} cannot be damaged by {kind!r}: {error}") from None


def applicable(checkpoint: Path) -> list[str]:
    """Return the kinds of damage that can be done to a checkpoint."""
    files = _files(checkpoint)
    not_here = {
        "add": files == [SINGLE_FILE], "manifest": not manifest_path(checkpoint).is_file(),
        "registry": not _has_lines(registry_path(checkpoint.parent)),
    }  # fmt: skip
    return [kind for kind in KINDS if not not_here.get(kind, False)]


def _flip(checkpoint: Path, generator: random.Random) -> Damage:
    name, data = _draw(checkpoint, generator)
    at, bit = generator.randrange(len(data)), generator.randrange(8)
    data[at] ^= 1 << bit
    locate(checkpoint, name).write_bytes(data)
    return Damage("flip", name, f"bit {bit} of byte {at} inverted")


def _zero(checkpoint: Path, generator: random.Random) -> Damage:
    for _ in range(_TRIES):
        name, data = _draw(checkpoint, generator)
        at = generator.randrange((len(data) + BLOCK - 1) // BLOCK) * BLOCK
        length = min(BLOCK, len(data) - at)
        if any(data[at : at + length]):
            data[at : at + length] = bytes(length)
            locate(checkpoint, name).write_bytes(data)
            return Damage("zero", name, f"{length} bytes from {at} on set to zero")
    raise _NotHere("it holds zeros only")


def _truncate(checkpoint: Path, generator: random.Random) -> Damage:
    name, data = _draw(checkpoint, generator)
    keep = generator.choice([0, len(data) - 1, len(data) // 2, generator.randrange(len(data))])
    locate(checkpoint, name).write_bytes(data[:keep])
    return Damage("truncate", name, f"cut from {len(data)} to {keep} bytes")


def _append(checkpoint: Path, generator: random.Random) -> Damage:
    name = generator.choice(_files(checkpoint))
    count = generator.choice([1, 100, BLOCK])
    with locate(checkpoint, name).open("ab") as file:
        file.write(generator.randbytes(count))
    return Damage("append", name, f"{count} bytes appended")


def _swap(checkpoint: Path, generator: random.Random) -> Damage:
    names = _files(checkpoint)
    if names == [SINGLE_FILE]:
        return _swap_blocks(checkpoint, generator)
    contents = {name: locate(checkpoint, name).read_bytes() for name in names}
    pairs = [(a, b) for a in names for b in names if a < b and contents[a] != contents[b]]
    # Two files of one size change places without any size to notice.
    alike = [(a, b) for a, b in pairs if len(contents[a]) == len(contents[b])]
    if not pairs:
        raise _NotHere("it has no two different files")
    a, b = generator.choice(alike if alike and generator.random() < 0.5 else pairs)
    locate(checkpoint, a).write_bytes(contents[b])
    locate(checkpoint, b).write_bytes(contents[a])
    return Damage("swap", a, f"exchanged with {b}")


def _swap_blocks(checkpoint: Path, generator: random.Random) -> Damage:
    data = bytearray(checkpoint.read_bytes())
    size = min(BLOCK, len(data) // 4)
    for _ in range(_TRIES):
        a, b = (generator.randrange(len(data) // size) * size for _ in range(2)) if size else (0, 0)
        first, second = data[a : a + size], data[b : b + size]
        if first != second and len(first) == len(second):
            data[a : a + size], data[b : b + size] = second, first
            checkpoint.write_bytes(data)
            return Damage("swap", SINGLE_FILE, f"{size} bytes at {a} exchanged with those at {b}")
    raise _NotHere("it has no two different blocks")


def _remove(checkpoint: Path, generator: random.Random) -> Damage:
    name = generator.choice(_files(checkpoint))
    locate(checkpoint, name).unlink()
    return Damage("remove", name, "deleted")


def _add(checkpoint: Path, generator: random.Random) -> Damage:
    if not checkpoint.is_dir():
        raise _NotHere("it is a single file")
    directory = generator.choice([SINGLE_FILE, *walk(checkpoint).directories])
    name = generator.choice([".gitignore", f"{generator.randrange(1 << 32):08x}", ".hidden", "empty/"])
    path = locate(checkpoint, directory) / name
    if path.exists():
        raise _NotHere(f"{path} exists")
    if name.endswith("/"):
        path.mkdir()
        return Damage("add", directory, "an empty directory added")
    path.write_bytes(generator.randbytes(generator.choice([0, 10, BLOCK])))
    return Damage("add", directory, f"a file {name} added")


def _manifest(checkpoint: Path, generator: random.Random) -> Damage:
    path = manifest_path(checkpoint)
    if not path.is_file():
        raise _NotHere("it has no manifest")
    data = bytearray(path.read_bytes())
    how = generator.choice(["flip", "flip", "flip", "truncate", "empty", "delete", "digit"])
    if how == "delete":
        path.unlink()
        return Damage("manifest", path.name, "deleted")
    text = _edit(data, how, generator)
    path.write_bytes(data)
    return Damage("manifest", path.name, text)


def _registry(checkpoint: Path, generator: random.Random) -> Damage:
    """Harm the registry. Whole lines that are cut off go back before this checkpoint: later ones say nothing of it."""
    path = registry_path(checkpoint.parent)
    if not _has_lines(path):
        raise _NotHere("it has no registry")
    data = bytearray(path.read_bytes())
    # Outside of a run a checkpoint with its manifest alone is whole.
    gone = ["delete"] if owner(checkpoint) is not None else []
    how = generator.choice(["flip", "flip", "digit", "truncate", "end", "append", "line", "lines", *gone])
    if how == "delete":
        path.unlink()
        return Damage("registry", path.name, "deleted")
    lines = bytes(data).splitlines(keepends=True)
    if how == "append":
        # A crash leaves what begins with #: that is no damage.
        added = generator.choice([lines[-1][: generator.randrange(1, len(lines[-1]))], b"x" + generator.randbytes(20), b"\n"])
        data += added
        text = f"{len(added)} bytes appended"
    elif how == "end":
        data[-1] ^= 1 << generator.randrange(8)
        text = "a bit of its last byte inverted"
    elif how == "line":
        at = generator.randrange(len(lines))
        doubled = generator.random() < 0.5 or f'"name":"{checkpoint.name}"'.encode() not in b"".join(lines[at:])
        data = bytearray(b"".join([*lines[:at], *([lines[at]] * 2 if doubled else []), *lines[at + 1 :]]))
        text = f"line {at + 1} {'doubled' if doubled else 'taken out'}"
    elif how == "lines" and len(lines) > 1:
        at = generator.randrange(len(lines) - 1)
        data = bytearray(b"".join([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]))
        text = f"lines {at + 1} and {at + 2} exchanged"
    else:
        own = data.rfind(f'"name":"{checkpoint.name}"'.encode())
        end = data.find(b"\n", own) + 1 if own >= 0 else len(data)
        text = _edit(data, "truncate" if how == "lines" else how, generator, end)
    path.write_bytes(data)
    return Damage("registry", path.name, text)


def _has_lines(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _edit(data: bytearray, how: str, generator: random.Random, end: int | None = None) -> str:
    """Change text in memory in one of the ways `flip`, `digit`, `truncate`, `empty`; return what was done."""
    if how == "digit":
        digits = [at for at, byte in enumerate(data) if 0x30 <= byte <= 0x39]
        at = generator.choice(digits)
        old = chr(data[at])
        data[at] = ord(generator.choice([digit for digit in "0123456789" if digit != old]))
        return f"byte {at} changed from {old!r} to {chr(data[at])!r}"
    if how == "flip":
        at, bit = generator.randrange(len(data)), generator.randrange(8)
        data[at] ^= 1 << bit
        return f"bit {bit} of byte {at} inverted"
    before, keep = len(data), 0 if how == "empty" else generator.randrange(len(data) if end is None else end)
    del data[keep:]
    return f"cut from {before} to {keep} bytes"


KINDS: dict[str, Callable[[Path, random.Random], Damage]] = {
    "flip": _flip, "zero": _zero, "truncate": _truncate, "append": _append, "swap": _swap, "remove": _remove, "add": _add,
    "manifest": _manifest, "registry": _registry,
}  # fmt: skip
"""One bit; a block of zeros; cut off; bytes appended; files (or blocks of the one file) exchanged; a file deleted; a file or
directory added; the manifest edited, cut off or deleted; the registry edited, cut off, its lines exchanged, or deleted."""


def _files(checkpoint: Path) -> list[str]:
    files = list(walk(checkpoint).files)
    if not files:
        raise BadInputError(f"{checkpoint} holds no file")
    return files


def _draw(checkpoint: Path, generator: random.Random) -> tuple[str, bytearray]:
    """Return a file that is not empty: half of the time any, half of the time by size, where most bytes are."""
    sizes = {name: locate(checkpoint, name).stat().st_size for name in _files(checkpoint)}
    names = [name for name, size in sizes.items() if size]
    if not names:
        raise _NotHere("all of its files are empty")
    by_size = generator.random() < 0.5
    name = generator.choices(names, [sizes[name] for name in names])[0] if by_size else generator.choice(names)
    return name, bytearray(locate(checkpoint, name).read_bytes())
