"""Manifests: what they record, what they refuse, and that nothing but what was written is read back."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprotui.checksum import LeafSpec
from reprotui.errors import BadInputError
from reprotui.integrity import (
    Identity,
    IntegrityError,
    Manifest,
    Status,
    build_manifest,
    check_files,
    content_digest,
    content_from_json,
    content_to_json,
    digest_state,
    manifest_path,
    read_manifest,
    sync_tree,
    write_manifest,
)
from reprotui.integrity.files import CHUNK, files_digest, hash_file, names_problem, walk
from reprotui.integrity.status import Finding, worst

STATE = [
    (LeafSpec("params/kernel", "float32", (2, 2)), np.arange(4, dtype=np.float32).reshape(2, 2)),
    (LeafSpec("params/bias", "float32", (2,)), np.float32([0.5, -0.5])),
]
CONTENT = digest_state(STATE)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a directory with files of several kinds, registered."""
    path = tmp_path / "100"
    (path / "state" / "d").mkdir(parents=True)
    (path / "empty").mkdir()
    (path / "_METADATA").write_text("{}")
    (path / "state" / "d" / "a").write_bytes(bytes(range(256)) * 40)
    (path / "state" / "d" / "b").write_bytes(bytes(reversed(range(256))) * 40)
    (path / "state" / "nothing").touch()
    write_manifest(manifest_path(path), build_manifest(path, Identity(run="r", step=100), CONTENT))
    return path


def found(path: Path) -> list[tuple[str, str]]:
    """Return status and path of what is wrong with the files."""
    manifest, _ = read_manifest(manifest_path(path))
    return [(finding.status.value, finding.path) for finding in check_files(path, manifest)[0]]


def test_what_was_written_is_read_back_and_whole(checkpoint: Path) -> None:
    manifest, digest = read_manifest(manifest_path(checkpoint))
    assert isinstance(manifest, Manifest)
    assert digest == hashlib.sha256(manifest_path(checkpoint).read_bytes()).hexdigest()
    assert (manifest.identity, manifest.content) == (Identity(run="r", step=100), CONTENT)
    assert [entry.path for entry in manifest.files] == ["_METADATA", "state/d/a", "state/d/b", "state/nothing"]
    assert manifest.directories == ("empty", "state", "state/d")
    assert found(checkpoint) == []
    assert not [path for path in checkpoint.rglob("*") if "manifest" in path.name]


def test_digests_are_those_of_sha256sum_and_of_model_signing(checkpoint: Path) -> None:
    manifest, _ = read_manifest(manifest_path(checkpoint))
    names = [entry.path for entry in manifest.files]
    lines = subprocess.run(["sha256sum", *names], cwd=checkpoint, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [entry.sha256 for entry in manifest.files]
    raw = b"".join(bytes.fromhex(entry.sha256) for entry in manifest.files)
    assert manifest.files_digest == hashlib.sha256(raw).hexdigest() == files_digest(reversed(manifest.files))


def test_content_digests_are_the_ones_of_final_states() -> None:
    assert CONTENT.root == content_digest((spec, array.tobytes()) for spec, array in STATE)
    assert content_from_json(json.loads(json.dumps(content_to_json(CONTENT)))) == CONTENT
    swapped = [(spec, array.astype(array.dtype.newbyteorder(">"))[..., ::1]) for spec, array in STATE]
    assert digest_state(swapped) == CONTENT
    assert digest_state([(spec, np.asfortranarray(array)) for spec, array in STATE]) == CONTENT


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        ("flip", lambda p: flip(p / "state/d/a", 0), ("CORRUPT", "state/d/a")),
        ("flip last", lambda p: flip(p / "state/d/b", -1), ("CORRUPT", "state/d/b")),
        ("truncate", lambda p: os.truncate(p / "state/d/a", 100), ("CORRUPT", "state/d/a")),
        ("empty", lambda p: os.truncate(p / "_METADATA", 0), ("CORRUPT", "_METADATA")),
        ("append", lambda p: (p / "state/nothing").write_bytes(b"x"), ("CORRUPT", "state/nothing")),
        ("remove", lambda p: (p / "state/nothing").unlink(), ("MISSING", "state/nothing")),
        ("remove directory", lambda p: (p / "empty").rmdir(), ("MISSING", "empty")),
        ("add", lambda p: (p / "state/x").touch(), ("EXTRA", "state/x")),
        ("dot file", lambda p: (p / ".gitignore").touch(), ("EXTRA", ".gitignore")),
        ("empty directory", lambda p: (p / "more").mkdir(), ("EXTRA", "more")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_change_is_found_and_named(checkpoint: Path, name: str, harm: Any, said: tuple[str, str]) -> None:
    harm(checkpoint)
    assert found(checkpoint) == [said]


def test_two_files_of_one_size_cannot_change_places(checkpoint: Path) -> None:
    a, b, other = checkpoint / "state/d/a", checkpoint / "state/d/b", checkpoint / "other"
    a.rename(other), b.rename(a), other.rename(b)
    assert found(checkpoint) == [("CORRUPT", "state/d/a"), ("CORRUPT", "state/d/b")]


def test_time_and_size_prove_nothing(checkpoint: Path) -> None:
    path = checkpoint / "state/d/a"
    before = path.stat()
    flip(path, 1000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(checkpoint) == [("CORRUPT", "state/d/a")]
    flip(path, 1000)
    os.utime(path, ns=(0, 0))
    assert found(checkpoint) == []


@pytest.mark.parametrize("target", ["state/d/a", "/etc/hostname", "loop", "nowhere"])
def test_symbolic_links_are_refused(checkpoint: Path, target: str) -> None:
    (checkpoint / "loop").symlink_to(target)
    assert found(checkpoint) == [("CORRUPT", "loop")]
    with pytest.raises(IntegrityError, match="symbolic link"):
        build_manifest(checkpoint, Identity())
    (checkpoint / "loop").unlink()
    shutil.move(checkpoint / "state/d/a", checkpoint / "state/d/c")
    (checkpoint / "state/d/a").symlink_to("c")
    assert ("CORRUPT", "state/d/a") in found(checkpoint)


def test_a_fifo_does_not_hang(checkpoint: Path) -> None:
    (checkpoint / "state/nothing").unlink()
    os.mkfifo(checkpoint / "state/nothing")
    assert found(checkpoint) == [("UNREADABLE", "state/nothing")]
    with pytest.raises(IntegrityError, match="UNREADABLE"):
        hash_file(checkpoint, "state/nothing")
    with pytest.raises(IntegrityError, match="UNREADABLE"):
        sync_tree(checkpoint)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
def test_what_may_not_be_read_is_unreadable(checkpoint: Path) -> None:
    (checkpoint / "state/d/a").chmod(0)
    assert found(checkpoint) == [("UNREADABLE", "state/d/a")]
    (checkpoint / "state/d/a").chmod(0o600)
    assert found(checkpoint) == []


@pytest.mark.parametrize("change", ["replace", "grow", None])
def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path, change: str | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * CHUNK))
    seen = []

    def meddle(count: int) -> None:
        seen.append(count)
        if len(seen) > 1 or change is None:
            return
        if change == "replace":
            (tmp_path / "new").write_bytes(bytes(3 * CHUNK))
            (tmp_path / "new").replace(path)
        else:
            os.truncate(path, 4 * CHUNK)

    if change is None:
        assert hash_file(tmp_path, "file", meddle).size == sum(seen) == 3 * CHUNK
    else:
        with pytest.raises(IntegrityError, match="changed while it was read"):
            hash_file(tmp_path, "file", meddle)


@pytest.mark.parametrize(
    "name",
    [
        "../x", "a/../b", "/etc/passwd", "a//b", "", "./a", "a\x00b", "a\nb", "C:x", "a\\b", "nul", "d/AUX.txt", "a.", "a ",
        "e\u0301", "\udc80",
    ],
)  # fmt: skip
def test_names_that_other_systems_would_store_otherwise_are_refused(name: str) -> None:
    assert names_problem([name]) is not None
    assert names_problem(["a", "d/b.c", "params.dense_0.kernel", ".zarray", "\u00e9", "."]) is None


def test_names_that_collide_are_refused(checkpoint: Path) -> None:
    assert "differ only by case" in (names_problem(["a/B", "A/b"]) or "")
    (checkpoint / "_metadata").touch()
    with pytest.raises(BadInputError, match="differ only by case"):
        build_manifest(checkpoint, Identity())


def test_an_empty_directory_has_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with pytest.raises(BadInputError, match="holds no file"):
        build_manifest(tmp_path / "1", Identity())


def edited(text: str, **changes: Any) -> str:
    """Return a manifest with other values, and with the digest that fits them."""
    value = {**json.loads(text), **changes}
    body = {name: entry for name, entry in value.items() if name != "digest"}
    canonical = json.dumps(body, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    return json.dumps({**body, "digest": hashlib.sha256(canonical).hexdigest()}, indent=2, ensure_ascii=False) + "\n"


FILE = ["_METADATA", 2, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda text: "", "CORRUPT"),
        (lambda text: text[: len(text) // 2], "CORRUPT"),
        (lambda text: text + " ", "CORRUPT"),
        (lambda text: text.replace("100", "101"), "CORRUPT"),
        (lambda text: text.replace('"step": 100', '"step": 100, "step": 100'), "CORRUPT"),
        (lambda text: json.dumps(json.loads(text)), "CORRUPT"),
        (lambda text: "[" * 100_000, "CORRUPT"),
        (lambda text: "null", "CORRUPT"),
        (lambda text: '{"manifest_version": 1, "algorithm": "sha256"}', "CORRUPT"),
        (lambda text: edited(text, files=[]), "CORRUPT"),
        (lambda text: edited(text, files=[["../x", 2, FILE[2]]]), "CORRUPT"),
        (lambda text: edited(text, files=[["/x", 2, FILE[2]]]), "CORRUPT"),
        (lambda text: edited(text, files=[FILE, ["_metadata", *FILE[1:]]]), "CORRUPT"),
        (lambda text: edited(text, files=[["_METADATA", 2, FILE[2][:-1]]]), "CORRUPT"),
        (lambda text: edited(text, files=[["_METADATA", "2", FILE[2]]]), "CORRUPT"),
        (lambda text: edited(text, files_digest="0" * 64), "CORRUPT"),
        (lambda text: edited(text, identity={"secret": 1}), "CORRUPT"),
        (lambda text: edited(text, content={"content_digest": "0" * 64, "leaves": []}), "CORRUPT"),
        (lambda text: edited(text, algorithm="md5"), "UNREADABLE"),
        (lambda text: edited(text, manifest_version=2), "UNREADABLE"),
        (None, "UNREGISTERED"),
    ],
)  # fmt: skip
def test_a_manifest_that_was_not_written_is_refused(checkpoint: Path, change: Any, status: str) -> None:
    path = manifest_path(checkpoint)
    text = path.read_text()
    assert edited(text) == text
    path.unlink() if change is None else path.write_text(change(text))
    with pytest.raises(IntegrityError) as refused:
        read_manifest(path)
    assert refused.value.finding.status == status
    assert refused.value.exit_code == (1 if status == "CORRUPT" else 3)


def test_every_single_byte_of_a_manifest_counts(checkpoint: Path) -> None:
    path = manifest_path(checkpoint)
    raw = path.read_bytes()
    for at in range(0, len(raw), 7):
        changed = bytearray(raw)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        with pytest.raises(IntegrityError):
            read_manifest(path)
    path.write_bytes(raw)
    read_manifest(path)


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_a_manifest_that_is_no_file_is_refused(checkpoint: Path, kind: str) -> None:
    path = manifest_path(checkpoint)
    path.rename(path.with_name("moved"))
    {"link": lambda: path.symlink_to("moved"), "directory": path.mkdir, "fifo": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(IntegrityError, match="not a regular file"):
        read_manifest(path)


def test_a_huge_manifest_is_not_read(checkpoint: Path) -> None:
    with manifest_path(checkpoint).open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(IntegrityError, match="not a manifest"):
        read_manifest(manifest_path(checkpoint))


def test_syncing_reaches_every_file_directory_and_the_parent(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    sync_tree(checkpoint)
    assert set(synced) == {*checkpoint.rglob("*"), checkpoint, checkpoint.parent}
    # The names of what a directory holds are safe only once the directory is.
    assert synced[-2:] == [checkpoint, checkpoint.parent]


def test_the_worst_status_is_said_and_only_valid_is_success() -> None:
    assert worst([]) is Status.VALID
    assert worst([Status.UNCHECKED, Status.EXTRA, Status.CORRUPT]) is Status.CORRUPT
    assert {status.value for status in Status if status.exit_code == 0} == {"VALID"}
    damage = {"TAMPERED", "CORRUPT", "MISSING", "EXTRA", "STALE"}
    assert {status.value for status in Status if status.exit_code == 1} == damage
    assert str(Finding(Status.CORRUPT, "f", "is wrong", "w", 8)) == "f, leaf w, byte 8: is wrong"


def test_many_files_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("a.b", "a/b", "a-b", "a/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    # Part by part, as PurePosixPath: `a/…` comes before `a-b`, which plain text would put first.
    assert walk(tmp_path).files == tuple(
        str(p.relative_to(tmp_path)) for p in sorted(p for p in tmp_path.rglob("*") if p.is_file())
    )
