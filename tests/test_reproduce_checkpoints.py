"""Checkpoints for scripts: hashes, a verifier of a directory, and the seed inside."""

import hashlib
import json
import os
import random

import numpy as np
import pytest
import torch

from reprotui.errors import BadInputError, CannotTellError
from reprotui.integrity import IntegrityError
from reprotui.reproduce import (
    CheckpointMetadata,
    CheckpointVerifier,
    FrameworkMissingError,
    add_seed_to_checkpoint,
    compute_checkpoint_hash,
    create_integrity_manifest,
    get_seed_state,
    restore_seed_from_checkpoint,
    restore_seed_state,
    set_global_seed,
    validate_checkpoint_seed,
    verify_checkpoint_integrity,
)


@pytest.fixture
def directory(tmp_path):
    torch.save({"w": torch.arange(4.0)}, tmp_path / "model.pt")
    np.savez(tmp_path / "arrays.npz", w=np.arange(3))
    (tmp_path / "100" / "d").mkdir(parents=True)
    (tmp_path / "100" / "d" / "values").write_bytes(b"values")
    (tmp_path / "100" / "meta").write_bytes(b"meta")
    return tmp_path


@pytest.fixture(autouse=True)
def unchanged():
    state = get_seed_state()
    yield
    restore_seed_state(state)


def flip(path, offset=-30):
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    status = path.stat()
    path.write_bytes(raw)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "blake2b", "md5"])
def test_the_hash_of_a_file_is_that_of_every_other_tool(directory, algorithm):
    path = directory / "model.pt"
    expected = hashlib.new(algorithm, path.read_bytes()).hexdigest()
    assert compute_checkpoint_hash(path, algorithm) == expected
    assert verify_checkpoint_integrity(path, expected, algorithm)
    assert verify_checkpoint_integrity(path, f"{algorithm}:{expected.upper()}")
    flip(path)
    result = verify_checkpoint_integrity(path, expected, algorithm)
    assert not result and result.status == "CORRUPT"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_hash_of_a_directory_is_over_its_files_in_path_order(directory, algorithm):
    parts = [hashlib.new(algorithm, data).digest() for data in (b"values", b"meta")]
    assert compute_checkpoint_hash(directory / "100", algorithm) == hashlib.new(algorithm, b"".join(parts)).hexdigest()


def test_the_content_hash_is_that_of_the_state_in_any_format(directory):
    torch.save({"w": torch.arange(3)}, directory / "a.pt")
    np.savez(directory / "b.npz", w=np.arange(3))
    hashes = {compute_checkpoint_hash(directory / name, kind="content") for name in ("a.pt", "b.npz")}
    assert len(hashes) == 1
    np.savez(directory / "b.npz", w=np.arange(1, 4))
    assert compute_checkpoint_hash(directory / "b.npz", kind="content") not in hashes


def test_progress_counts_every_byte(directory):
    for algorithm in ("sha256", "blake2b"):
        sizes = []
        compute_checkpoint_hash(directory / "model.pt", algorithm, progress=sizes.append)
        assert sum(sizes) == (directory / "model.pt").stat().st_size


def test_what_cannot_be_hashed_or_compared_is_refused(directory):
    path = directory / "model.pt"
    for call, error in (
        (lambda: compute_checkpoint_hash(directory / "absent"), BadInputError),
        (lambda: compute_checkpoint_hash(path, "crc32"), BadInputError),
        (lambda: compute_checkpoint_hash(path, "sha512", kind="content"), BadInputError),
        (lambda: compute_checkpoint_hash(path, kind="leaves"), BadInputError),
        (lambda: verify_checkpoint_integrity(path, "abc"), BadInputError),
        (lambda: verify_checkpoint_integrity(path, "g" * 64), BadInputError),
        (lambda: verify_checkpoint_integrity(path, "md5:" + "0" * 32, "sha256"), BadInputError),
    ):
        with pytest.raises(error):
            call()
    assert verify_checkpoint_integrity(directory / "absent", "0" * 64).status == "MISSING"
    (directory / "100" / "link").symlink_to("meta")
    with pytest.raises(IntegrityError):
        compute_checkpoint_hash(directory / "100", "sha512")
    assert not verify_checkpoint_integrity(directory / "100", "0" * 64)


def test_blake3_is_used_where_it_is_installed_and_asked_for_elsewhere(directory):
    try:
        import blake3
    except ImportError:
        with pytest.raises(FrameworkMissingError, match="blake3"):
            compute_checkpoint_hash(directory / "model.pt", "blake3")
    else:
        expected = blake3.blake3((directory / "model.pt").read_bytes()).hexdigest()
        assert compute_checkpoint_hash(directory / "model.pt", "blake3") == expected


def test_registered_checkpoints_are_valid_until_a_bit_flips(directory):
    verifier = CheckpointVerifier(directory)
    metadata = CheckpointMetadata(step=3, seed=7, framework="torch", extra={"loss": 0.5})
    verifier.register_checkpoint(directory / "model.pt", metadata)
    verifier.register_checkpoint("arrays.npz")
    verifier.register_checkpoint("100")
    found = CheckpointVerifier(directory).verify_all_checkpoints()
    assert {name: result.status for name, result in found.items()} == dict.fromkeys(("100", "arrays.npz", "model.pt"), "VALID")
    assert found["model.pt"].metadata == metadata
    assert found["model.pt"].step == 3
    assert found["model.pt"].level == "content"
    assert found["model.pt"].content == compute_checkpoint_hash(directory / "model.pt", kind="content")
    assert found["100"].level == "files"
    assert verifier.export_verification_report(directory / "report.json")["valid"]
    for name in ("model.pt", "arrays.npz", "100/meta"):
        flip(directory / name, -1)
    assert {result.status for result in verifier.verify_all_checkpoints().values()} == {"CORRUPT"}
    report = verifier.export_verification_report(directory / "report.json")
    assert report == json.loads((directory / "report.json").read_text())
    assert not report["valid"]
    assert report["checkpoints"]["100"]["findings"][0]["path"] == "meta"


def test_unregistered_extra_and_missing_checkpoints_are_never_left_out(directory):
    verifier = CheckpointVerifier(directory)
    verifier.register_checkpoint("100")
    (directory / "notes.txt").write_text("no checkpoint")
    (directory / "100" / "extra").write_text("x")
    found = verifier.verify_all_checkpoints()
    assert {name: str(result.status) for name, result in found.items()} == {
        "100": "EXTRA", "model.pt": "UNREGISTERED", "arrays.npz": "UNREGISTERED",
    }  # fmt: skip
    verifier.register_checkpoint("model.pt")
    (directory / "model.pt").unlink()
    assert verifier.verify_checkpoint("model.pt").status == "MISSING"


def test_edited_manifests_and_metadata_are_corrupt(directory):
    verifier = CheckpointVerifier(directory)
    verifier.register_checkpoint("model.pt", CheckpointMetadata(step=1))
    verifier.register_checkpoint("arrays.npz", CheckpointMetadata(step=2))
    one, other = (directory / f"{name}.metadata.json" for name in ("model.pt", "arrays.npz"))
    text = one.read_text()
    one.write_text(other.read_text())
    assert verifier.verify_checkpoint("model.pt").status == "CORRUPT"
    one.write_text(text)
    assert verifier.verify_checkpoint("model.pt")
    manifest = directory / "model.pt.manifest.json"
    manifest.write_text(manifest.read_text().replace('"step": 1', '"step": 2'))
    assert verifier.verify_checkpoint("model.pt").status == "CORRUPT"


def test_what_cannot_be_registered_is_refused(directory, tmp_path_factory):
    verifier = CheckpointVerifier(directory)
    verifier.register_checkpoint("model.pt")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x.pt"
    elsewhere.write_bytes(b"x")
    for call in (
        lambda: verifier.register_checkpoint("model.pt"),
        lambda: verifier.register_checkpoint("absent.pt"),
        lambda: verifier.register_checkpoint(elsewhere),
        lambda: verifier.register_checkpoint("100", CheckpointMetadata(extra={"x": object()})),
        lambda: verifier.register_checkpoint("100", {"loss": float("nan")}),
        lambda: CheckpointVerifier(directory / "model.pt"),
        lambda: create_integrity_manifest(directory / "model.pt"),
    ):
        with pytest.raises(BadInputError):
            call()
    assert verifier.verify_checkpoint("100").status == "UNREGISTERED"


def test_a_damaged_checkpoint_cannot_be_registered_as_good(directory):
    raw = bytearray((directory / "model.pt").read_bytes())
    at = raw.index(np.arange(4.0, dtype=np.float32).tobytes())
    raw[at] ^= 1
    (directory / "model.pt").write_bytes(raw)
    with pytest.raises(IntegrityError):
        CheckpointVerifier(directory).register_checkpoint("model.pt")


def test_seed_and_generators_come_back_from_a_checkpoint_with_weights_only(tmp_path):
    info = set_global_seed(7, deterministic=False)
    random.gauss(0, 1)
    checkpoint = {"model": torch.nn.Linear(2, 2).state_dict()}
    assert add_seed_to_checkpoint(checkpoint, info) is checkpoint
    torch.save(checkpoint, tmp_path / "model.pt")
    expected = [random.gauss(0, 1), np.random.standard_normal(), torch.rand(2).tolist()]
    loaded = torch.load(tmp_path / "model.pt", weights_only=True)
    assert loaded["seed_info"]["seed"] == 7
    for source in (loaded, tmp_path / "model.pt"):
        assert validate_checkpoint_seed(source, 7)
        assert not validate_checkpoint_seed(source, 8)
        set_global_seed(1, deterministic=False)
        restore_seed_from_checkpoint(source)
        assert [random.gauss(0, 1), np.random.standard_normal(), torch.rand(2).tolist()] == expected


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb",)


def test_no_pickle_is_executed_and_a_missing_seed_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"seed_info": {"seed": 7}, "x": Bomb()}, "bomb.pt")
    with pytest.raises(BadInputError, match="weights_only"):
        validate_checkpoint_seed("bomb.pt", 7)
    assert not (tmp_path / "bomb").exists()
    for old in ({}, {"seed_info": {"seed": "7"}}, {"seed_info": 7}):
        with pytest.warns(UserWarning, match="records no seed"):
            assert validate_checkpoint_seed(old, 7) is False
    with pytest.raises(CannotTellError, match="rng_state"):
        restore_seed_from_checkpoint({})
    with pytest.raises(BadInputError):
        add_seed_to_checkpoint(add_seed_to_checkpoint({}, 1), 1)
    with pytest.raises(BadInputError):
        add_seed_to_checkpoint([], 1)
    with pytest.raises(BadInputError, match="damaged"):
        restore_seed_from_checkpoint({"seed_state": {**get_seed_state().to_json(), "python": 3}})
