"""Zip archives in which readers could see different content: what torch or numpy would load is verified, or it is said."""

import io
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.integrity import Identity, IntegrityError, Status
from reprotui.integrity.formats import open_checkpoint
from reprotui.integrity.formats.stored import StoredCheckpoint
from test_integrity_formats import Bomb

STATE = {"w": torch.arange(12.0).reshape(3, 4), "b": torch.ones(4, dtype=torch.bfloat16), "n": {"step": torch.tensor(7)}}

LOAD = """
import sys, torch
torch.load(sys.argv[1], weights_only=False)
"""


def saved(path: Path) -> Path:
    torch.save(STATE, path)
    return path


def rewritten(source: Path, target: Path, *, extra: dict[str, bytes] | None = None, rename: Any = str, **options: Any) -> Path:
    """Copy an archive entry by entry, with other names and with further entries at the end."""
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w", **options) as written:
        for info in read.infolist():
            written.writestr(rename(info.filename), read.read(info))
        for name, data in (extra or {}).items():
            written.writestr(name, data)
    return target


def outcome(path: Path) -> StoredCheckpoint | Status:
    """Return what was read, or the status of what was refused."""
    try:
        stored = open_checkpoint(path)
        for leaf in stored.leaves:
            leaf.read()
    except IntegrityError as error:
        return error.finding.status
    return stored.unread[0].status if stored.unread else stored


def register(path: Path) -> Status:
    """Register a file as it is, whatever it is, and verify it."""
    from reprotui.checkpoints.register import register_as_found

    register_as_found(path, Identity())
    return verify_checkpoint(path).status


@pytest.mark.slow
def test_a_second_pickle_that_torch_takes_for_the_first_is_never_valid(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.pt")
    evil = pickle.dumps(Bomb(tmp_path / "pwned"), 2)
    hostile = rewritten(whole, tmp_path / "evil.pt", extra={"a/DATA.PKL": evil})
    subprocess.run([sys.executable, "-c", LOAD, str(hostile)], check=True, capture_output=True)
    assert (tmp_path / "pwned").exists(), "torch does look names up without regard to case"
    (tmp_path / "pwned").rmdir()
    assert outcome(hostile) is Status.CORRUPT
    with pytest.raises(IntegrityError, match=r"a/data\.pkl and a/DATA\.PKL are one to torch"):
        register(hostile)
    assert not (tmp_path / "pwned").exists()
    assert register(rewritten(whole, tmp_path / "same.pt")) is Status.VALID


@pytest.mark.parametrize("name", ["a/OTHER.PKL", "a/extra/x.bin", "a/data/9", "a/.data/state"])
def test_every_pickle_is_read_and_listed_whatever_its_name(tmp_path: Path, name: str) -> None:
    whole = saved(tmp_path / "a.pt")
    evil = pickle.dumps({"x": Bomb(tmp_path / "pwned")}, 0)
    path = rewritten(whole, tmp_path / "b.pt", extra={name: evil})
    assert open_checkpoint(path).unsafe == (f"posix.mkdir (from {name})",)
    assert register(path) is Status.UNCHECKED
    twin = rewritten(whole, tmp_path / "c.pt", extra={name: pickle.dumps({"x": 1}, 2), "a/readme.txt": b"no pickle at all"})
    assert open_checkpoint(twin).unsafe == ()
    assert register(twin) is Status.VALID
    cut = rewritten(whole, tmp_path / "d.pt", extra={name: pickle.dumps({"x": [1, 2, 3]}, 2)[:-4]})
    assert register(cut) is Status.UNCHECKED


def test_torchscript_is_listed_as_code_that_loading_runs(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="deprecated|not supported"):
        torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "script.pt"))
    stored = open_checkpoint(tmp_path / "script.pt")
    said = "; ".join(stored.unsafe)
    assert "TorchScript (script/constants.pkl is there" in said and "the code in script/code/__torch__" in said
    assert verify_checkpoint(tmp_path / "script.pt").status is Status.UNCHECKED
    # Also where its state names nothing, and whatever the case of the names.
    plain = rewritten(saved(tmp_path / "a.pt"), tmp_path / "b.pt", extra={"a/CONSTANTS.pkl": b"\x80\x02).", "a/Code/x": b"x"})
    assert len(open_checkpoint(plain).unsafe) == 2
    assert open_checkpoint(tmp_path / "a.pt").unsafe == ()


def test_names_are_looked_up_as_torch_does(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.pt")
    for rename in (str.upper, str.title):
        path = rewritten(whole, tmp_path / "b.pt", rename=rename)
        assert torch.load(path)["w"].equal(STATE["w"])
        stored = outcome(path)
        assert isinstance(stored, StoredCheckpoint) and [leaf.spec.path for leaf in stored.leaves] == ["w", "b", "n/step"]
    # The folder is the one of the first entry; torch refuses what lies outside it.
    for name in ("other/data.pkl", "other/x", "data.pkl"):
        assert outcome(rewritten(whole, tmp_path / "c.pt", extra={name: b"\x80\x02}."})) is Status.UNCHECKED
    assert outcome(rewritten(whole, tmp_path / "d.pt", extra={"a/BYTEORDER": b"big"})) is Status.CORRUPT


def test_packed_storages_are_unchecked_because_mmap_reads_them_otherwise(tmp_path: Path) -> None:
    path = rewritten(saved(tmp_path / "a.pt"), tmp_path / "b.pt", compression=zipfile.ZIP_DEFLATED)
    assert torch.load(path)["w"].equal(STATE["w"])
    assert outcome(path) is Status.UNCHECKED
    assert outcome(rewritten(tmp_path / "a.pt", tmp_path / "c.pt", compression=zipfile.ZIP_STORED)) is not Status.UNCHECKED


@pytest.mark.parametrize(
    ("state", "sound"), [({1: "a", "1": "b"}, False), ({"a/b": 1, "a": {"b": 2}}, False), ({"a.b": 1, "a": {"b": 2}}, True)]
)
def test_leaves_that_would_share_a_name_are_unchecked(tmp_path: Path, state: dict[Any, Any], sound: bool) -> None:
    torch.save(state, tmp_path / "a.pt")
    assert isinstance(outcome(tmp_path / "a.pt"), StoredCheckpoint) == sound


def header(raw: bytes, name: bytes) -> tuple[int, int]:
    """Return where the header of an entry stands, and where its line of the directory does."""
    local = raw.index(name, 0) - 30
    assert raw[local : local + 4] == b"PK\x03\x04"
    central = raw.rindex(name) - 46
    assert raw[central : central + 4] == b"PK\x01\x02"
    return local, central


def put(raw: bytes, at: int, form: str, value: Any) -> bytes:
    return raw[:at] + struct.pack(form, value) + raw[at + struct.calcsize(form) :]


def with_end(raw: bytes, offset: int, form: str, value: Any) -> bytes:
    """Change a field of the end record, which is the last 22 bytes."""
    return put(raw, len(raw) - 22 + offset, form, value)


NAME = b"w.npy"
TRICKS: dict[str, tuple[Callable[[bytes], bytes], Status]] = {
    "another name in the header": (lambda raw: raw.replace(NAME, b"v.npy", 1), Status.CORRUPT),
    "another crc in the header": (lambda raw: put(raw, header(raw, NAME)[0] + 14, "<I", 1), Status.CORRUPT),
    "another size in the header": (lambda raw: put(raw, header(raw, NAME)[0] + 22, "<I", 1), Status.CORRUPT),
    "another method in the header": (lambda raw: put(raw, header(raw, NAME)[0] + 8, "<H", 8), Status.CORRUPT),
    "another encoding in the header": (lambda raw: put(raw, header(raw, NAME)[0] + 6, "<H", 1 << 11), Status.CORRUPT),
    "encrypted": (lambda raw: put(raw, header(raw, NAME)[1] + 8, "<H", 1), Status.UNCHECKED),
    "encrypted in the header": (lambda raw: put(raw, header(raw, NAME)[0] + 6, "<H", 1), Status.CORRUPT),
    "sizes said to follow": (
        lambda raw: put(put(raw, header(raw, NAME)[0] + 6, "<H", 8), header(raw, NAME)[1] + 8, "<H", 8), Status.CORRUPT
    ),
    "a zero byte in the name": (lambda raw: raw.replace(NAME, b"w\0npy"), Status.CORRUPT),
    "a backslash in the name": (lambda raw: raw.replace(NAME, b"\\.npy"), Status.UNCHECKED),
    "bytes in front": (lambda raw: raw[:30] + raw, Status.CORRUPT),
    "an archive in front": (lambda raw: raw + raw, Status.CORRUPT),
    "bytes behind": (lambda raw: raw + b"x", Status.CORRUPT),
    "a comment": (lambda raw: with_end(raw, 20, "<H", 5) + b"hello", Status.UNCHECKED),
    "a second end record in the comment": (lambda raw: with_end(raw, 20, "<H", 22) + raw[-22:], Status.CORRUPT),
    "a comment that is not there": (lambda raw: with_end(raw, 20, "<H", 5), Status.CORRUPT),
    "several disks": (lambda raw: with_end(raw, 4, "<H", 1), Status.CORRUPT),
    "fewer entries than there are": (lambda raw: with_end(with_end(raw, 8, "<H", 1), 10, "<H", 1), Status.CORRUPT),
    "the directory elsewhere": (lambda raw: with_end(raw, 16, "<I", 0), Status.CORRUPT),
    "a hidden byte between entry and directory": (
        lambda raw: with_end(
            raw[: (at := raw.index(b"PK\x01\x02"))] + b"\0" + raw[at:], 16, "<I", raw.index(b"PK\x01\x02") + 1
        ), Status.CORRUPT
    ),
    "a zip64 locator that leads nowhere": (
        lambda raw: raw[:-22] + struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 1) + raw[-22:], Status.CORRUPT
    ),
    "nothing": (lambda raw: raw, Status.VALID),
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_what_readers_could_see_differently_is_never_read(tmp_path: Path, trick: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in (("v0.npy", np.zeros(3)), (NAME.decode(), np.ones(3))):
            data = io.BytesIO()
            np.save(data, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(name), data.getvalue())
    change, status = TRICKS[trick]
    path = tmp_path / "a.npz"
    path.write_bytes(change(out.getvalue()))
    found = outcome(path)
    assert (Status.VALID if isinstance(found, StoredCheckpoint) else found) is status


def test_a_second_name_in_an_extra_field_is_unchecked(tmp_path: Path) -> None:
    for kind, status in ((0x7075, Status.UNCHECKED), (0x7076, None)):
        path = tmp_path / f"{kind}.npz"
        info = zipfile.ZipInfo("w.npy")
        info.extra = struct.pack("<HH", kind, 10) + b"\x01\0\0\0\0v.npy"
        data = io.BytesIO()
        np.save(data, np.ones(3), allow_pickle=False)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(info, data.getvalue())
        found = outcome(path)
        assert (None if isinstance(found, StoredCheckpoint) else found) is status


def test_numpy_looks_at_case_and_takes_an_entry_before_an_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "case.npz", allow_pickle=False, w=np.zeros(2), W=np.ones(2))
    stored = outcome(tmp_path / "case.npz")
    assert isinstance(stored, StoredCheckpoint)
    assert {leaf.spec.path: leaf.read().tolist() for leaf in stored.leaves} == {"w": [0.0, 0.0], "W": [1.0, 1.0]}
    np.savez(tmp_path / "both.npz", allow_pickle=False, **{"w": np.zeros(2), "w.npy": np.ones(2)})
    with np.load(tmp_path / "both.npz") as loaded:
        assert loaded["w.npy"].tolist() == [0.0, 0.0], "numpy takes the entry w.npy, not the array of that name"
    assert outcome(tmp_path / "both.npz") is Status.CORRUPT


class Stream(io.RawIOBase):
    """A file that cannot go back, such as a pipe: sizes must follow the content."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.written += data
        return len(data)


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("pack", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_from_a_stream_and_in_the_zip64_form_are_read(tmp_path: Path, zip64: bool, pack: int) -> None:
    stream = Stream()
    with zipfile.ZipFile(stream, "w", pack) as archive:  # ty: ignore[invalid-argument-type]
        for name in ("a.npy", "b.npy"):
            with archive.open(name, "w", force_zip64=zip64) as file:
                np.save(file, np.arange(100.0), allow_pickle=False)
    path = tmp_path / "a.npz"
    path.write_bytes(stream.written)
    stored = outcome(path)
    assert isinstance(stored, StoredCheckpoint) and len(stored.leaves) == 2
    # What follows the content must be what the directory says.
    at = bytes(stream.written).index(b"PK\x07\x08") + 4
    stream.written[at] ^= 1
    path.write_bytes(stream.written)
    assert outcome(path) is Status.CORRUPT


def test_what_is_read_is_what_torch_loads_whatever_is_flipped_in_the_structure(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        content = {at for i in archive.infolist() for at in range(i.header_offset + 30, i.header_offset + 30 + i.file_size)}
    structure = [at for at in range(len(whole)) if at not in content]
    generator = random.Random(7)
    path = tmp_path / "b.pt"
    sound = 0
    for _ in range(300):
        raw = bytearray(whole)
        raw[generator.choice(structure)] ^= 1 << generator.randrange(8)
        path.write_bytes(raw)
        stored = outcome(path)
        if not isinstance(stored, StoredCheckpoint):
            continue
        sound += 1
        loaded = torch.load(path)
        read = {leaf.spec.path: leaf.read().tobytes() for leaf in stored.leaves}
        assert read["w"] == loaded["w"].numpy().tobytes()
        assert read["b"] == loaded["b"].view(torch.int16).numpy().tobytes()
        assert read["n/step"] == loaded["n"]["step"].numpy().tobytes()
    assert 0 < sound < 300
