"""Formats read without their frameworks: the same state in each has the same content, and nothing is executed."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch

from benchmarks import checkpoint_samples as samples
from reprotui.integrity import IntegrityError, Status, content_from_json
from reprotui.integrity.formats import digest_stored, open_checkpoint

LAYOUTS = ("v0", "v1", "plain2", "plain3")

MAKE = """
import json, pathlib, sys
import jax, jax.numpy as jnp, numpy as np, optax, orbax.checkpoint as ocp
from orbax.checkpoint import v1
from reprotui.checksum.leaves import spec_of
from reprotui.checksum import jax_form
from reprotui.integrity import content_to_json, digest_state

def bits(leaf):
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)

def content(tree):
    return content_to_json(digest_state((spec_of(p, leaf), bits(leaf)) for p, leaf in jax_form.named_leaves(tree)))

root = pathlib.Path(sys.argv[1])
params = {"dense_0": {"kernel": jnp.arange(12.0).reshape(3, 4), "bias": jnp.ones(4, jnp.bfloat16)}}
tree = {"params": params, "opt_state": optax.adam(1e-3).init(params), "list": [jnp.int8(1), jnp.array([jnp.nan, -0.0])],
        "raw": jax.random.PRNGKey(1), "a/b": jnp.ones(1), "bool": jnp.array([True]), "f8": jnp.ones(2, jnp.float8_e4m3fn)}
keys = {"rng": jax.random.key(3), "rbg": jax.random.split(jax.random.key(1, impl="rbg"), 4)}
found = {}
for name, value in {"plain2": tree, "v0": tree | keys}.items():
    found[name] = content(value)
found |= {"plain3": found["plain2"], "v1": found["v0"]}
with ocp.CheckpointManager(root / "v0") as manager:
    items = ocp.args.Composite(state=ocp.args.StandardSave(tree | keys), integrity=ocp.args.JsonSave(found["v0"]))
    manager.save(7, args=items)
    manager.wait_until_finished()
    assert manager.all_steps() == [7]
v1.save(root / "v1", tree | keys)
for name, zarr3 in (("plain2", False), ("plain3", True)):
    ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_zarr3=zarr3)).save(root / name, tree)
# Orbax goes on listing steps where files of ours lie beside them.
(root / "v0" / "7.manifest.json").write_text("{}"), (root / "v0" / "registry.jsonl").touch()
with ocp.CheckpointManager(root / "v0") as manager:
    assert manager.all_steps() == [7]
(root / "content.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def orbax(once: Any, bare_environment: dict[str, str]) -> Path:
    """Return a directory with one state in four layouts, written by Orbax, and its content digests from memory."""

    def build(path: Path) -> None:
        done = subprocess.run([sys.executable, "-c", MAKE, str(path)], env=bare_environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return once("orbax-layouts", build)


def layout(orbax: Path, name: str) -> Path:
    return orbax / "v0" / "7" if name == "v0" else orbax / name


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_of_orbax_has_the_content_that_was_in_memory(orbax: Path, name: str) -> None:
    stored = open_checkpoint(layout(orbax, name))
    content, findings = digest_stored(stored)
    assert findings == []
    assert content == content_from_json(json.loads((orbax / "content.json").read_text())[name])
    # The writer's own record inside is found where there is one, in v0 here.
    assert stored.recorded == (content if name == "v0" else None)


def test_keys_keep_their_implementation(orbax: Path) -> None:
    specs = {leaf.spec.path: leaf.spec for leaf in open_checkpoint(layout(orbax, "v1")).leaves}
    assert specs["rng"] == ("rng", "key<fry>", ())
    assert specs["rbg"] == ("rbg", "key<rbg>", (4,))
    assert specs["raw"] == ("raw", "uint32", (2,))


WRITERS: dict[str, Callable[[Path, dict[str, np.ndarray]], None]] = {
    name: samples._WRITERS[name] for name in ("torch", "safetensors", "npz")
}


@pytest.mark.parametrize("name", WRITERS)
def test_one_state_has_one_content_in_every_format(tmp_path: Path, name: str) -> None:
    for seed in (0, 1):
        state = samples.state(seed, samples.has_bfloat16(name))
        WRITERS[name](tmp_path / f"{seed}", state)
        stored = open_checkpoint(tmp_path / f"{seed}")
        assert stored.format == name
        content, findings = digest_stored(stored)
        assert findings == []
        assert content == samples.content(state)
        assert content != samples.content(samples.state(seed + 1, samples.has_bfloat16(name)))
        if name != "torch":
            continue
        # The offset is where the bytes of the leaf lie.
        leaf = next(leaf for leaf in stored.leaves if leaf.spec.path == "params/dense_0/kernel")
        raw = state["params/dense_0/kernel"].tobytes()
        assert (tmp_path / f"{seed}").read_bytes()[leaf.offset : leaf.offset + len(raw)] == raw


def test_what_safetensors_writes_is_read(tmp_path: Path) -> None:
    arrays = {"w": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.ones(3, ml_dtypes.bfloat16), "e": np.zeros((0, 2))}
    safetensors.numpy.save_file(arrays, tmp_path / "f", metadata={"made": "by us"})
    assert digest_stored(open_checkpoint(tmp_path / "f")) == (samples.content(arrays), [])


def test_compressed_and_fortran_arrays_are_read(tmp_path: Path) -> None:
    arrays = {"f": np.asfortranarray(np.arange(6).reshape(2, 3)), "s": np.array(3.0), "z": np.zeros(10_000)}
    np.savez_compressed(tmp_path / "a.npz", allow_pickle=False, **arrays)
    assert digest_stored(open_checkpoint(tmp_path / "a.npz")) == (samples.content(arrays), [])


def save(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


@pytest.mark.slow
def test_a_training_state_of_torch_is_read_whole(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    view = torch.arange(12.0).reshape(3, 4).T[1:]
    state = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state(), "step": 7, "big": 1 << 80,
        "view": view, "spread": torch.ones(1).expand(5), "none": None, "name": "é", "dtype": torch.float32,
        "size": torch.Size([2]), "parameter": torch.nn.Parameter(torch.ones(2)), "f8": torch.ones(2).to(torch.float8_e4m3fn),
        "device": torch.device("cpu"), "raw": b"\x00\xff", "shared": [view, view], "u16": torch.ones(2).to(torch.uint16),
        "c": torch.tensor([1 + 2j]),
    }  # fmt: skip
    stored = open_checkpoint(save(tmp_path / "a.pt", state))
    assert (stored.unsafe, stored.unread, stored.checksummed) == ((), (), True)
    arrays = {leaf.spec.path: leaf.read() for leaf in stored.leaves}
    assert (arrays["view"] == view.numpy()).all() and (arrays["shared/1"] == view.numpy()).all()
    assert (arrays["model/0.weight"] == model[0].weight.detach().numpy()).all()
    assert (arrays["optimizer/state/0/exp_avg"] == optimizer.state_dict()["state"][0]["exp_avg"].numpy()).all()
    assert arrays["spread"].tolist() == [1.0] * 5
    specs = {leaf.spec.path: leaf.spec.dtype for leaf in stored.leaves}
    kinds = {"step": "int64", "big": "int", "none": "none", "name": "str", "f8": "float8_e4m3fn", "raw": "bytes", "dtype": "str"}
    assert {path: specs[path] for path in kinds} == kinds
    assert arrays["name"].tobytes().decode() == "é"
    assert digest_stored(stored)[0] != digest_stored(open_checkpoint(save(tmp_path / "b.pt", state | {"step": 8})))[0]


class Bomb:
    """What a hostile file asks the loader to call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def test_a_pickle_bomb_is_named_and_not_executed(tmp_path: Path) -> None:
    stored = open_checkpoint(save(tmp_path / "a.pt", {"w": torch.ones(3), "x": Bomb(tmp_path / "pwned")}))
    assert stored.unsafe == ("posix.mkdir",)
    assert [(found.status, found.leaf) for found in stored.unread] == [(Status.UNCHECKED, "x")]
    assert [leaf.spec.path for leaf in stored.leaves] == ["w"]
    assert not (tmp_path / "pwned").exists()
    # The twin: a file that would do it.
    pickle.loads(pickle.dumps(Bomb(tmp_path / "pwned")))
    assert (tmp_path / "pwned").exists()


def with_pickle(path: Path, data: bytes) -> Path:
    """Write a torch file whose pickle is this."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/data/0", bytes(16))
    return path


def nested(depth: int) -> bytes:
    """Return a pickle of a few bytes that names ten lists in each of ten lists …"""
    out = io.BytesIO()
    out.write(b"\x80\x02]q\x00")
    for level in range(depth):
        out.write(b"](" + b"h" + bytes([level]) + (b"h" + bytes([level])) * 9 + b"e" + b"q" + bytes([level + 1]))
    return out.getvalue() + b"."


@pytest.mark.parametrize(
    "data",
    [
        nested(9),
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
        b"\x80\x02r\xff\xff\xff\xff",
        b"\x80\x02K\x01K\x02R.",
        b"",
        b"\x80\x02",
        b"garbage",
        b"\x80\x04\x82\x01.",
        b"\x80\x02cposix\nsystem\nU\x02lsR.",
        b"\x80\x02(K\x01e.",
        b"\x80\x02}cos\nsystem\nb.",
    ],
    ids=[
        "laughs",
        "cycle",
        "deep",
        "memo",
        "call-of-a-number",
        "empty",
        "cut",
        "garbage",
        "extension",
        "system",
        "append",
        "build",
    ],
)
def test_hostile_pickles_are_refused_or_listed(tmp_path: Path, data: bytes) -> None:
    path = with_pickle(tmp_path / "a.pt", data)
    try:
        stored = open_checkpoint(path)
    except IntegrityError as error:
        assert error.finding.status is Status.UNCHECKED
    else:
        assert stored.unsafe or stored.unread
    assert open_checkpoint(with_pickle(tmp_path / "b.pt", pickle.dumps({"a": 1}, 2))).leaves[0].spec.path == "a"


def test_a_whole_module_is_named(tmp_path: Path) -> None:
    stored = open_checkpoint(save(tmp_path / "a.pt", torch.nn.Linear(1, 1)))
    assert "torch.nn.modules.linear.Linear" in stored.unsafe
    assert stored.unread


@pytest.mark.parametrize("legacy", [True, False])
def test_the_legacy_format_is_unchecked(tmp_path: Path, legacy: bool) -> None:
    path = save(tmp_path / "a.pt", {"w": torch.ones(3)}, _use_new_zipfile_serialization=not legacy)
    if not legacy:
        assert open_checkpoint(path).checksummed
        return
    with pytest.raises(IntegrityError, match="legacy") as refused:
        open_checkpoint(path)
    assert refused.value.finding.status is Status.UNCHECKED


def test_a_file_without_crc_is_read_and_says_so(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save(tmp_path / "a.pt", {"w": torch.ones(3)})
    finally:
        torch.serialization.set_crc32_options(True)
    stored = open_checkpoint(path)
    assert not stored.checksummed
    assert digest_stored(stored)[0] == digest_stored(open_checkpoint(save(tmp_path / "b.pt", {"w": torch.ones(3)})))[0]


def test_zip_bombs_are_unchecked_and_overlaps_and_doubles_corrupt(tmp_path: Path) -> None:
    bomb, double, overlap = (tmp_path / f"{name}.npz" for name in ("bomb", "double", "overlap"))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("w.npy", "w", force_zip64=True) as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    with zipfile.ZipFile(double, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("w.npy", "a")
        archive.writestr("w.npy", "b")
    np.savez(overlap, allow_pickle=False, a=np.ones(3), b=np.ones(3))
    whole = overlap.read_bytes()
    assert digest_stored(open_checkpoint(overlap))[1] == []
    second = whole.rfind(b"PK\x01\x02")
    overlap.write_bytes(whole[: second + 42] + bytes(4) + whole[second + 46 :])
    for path in (bomb, double, overlap):
        with pytest.raises(IntegrityError) as refused:
            open_checkpoint(path)
        assert refused.value.finding.status is (Status.UNCHECKED if path == bomb else Status.CORRUPT), path


def test_objects_in_an_npz_are_never_unpickled(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez(file, x=np.array([Bomb(tmp_path / "pwned")], object), y=np.ones(2))
    stored = open_checkpoint(tmp_path / "a.npz")
    assert [(found.status, found.leaf) for found in stored.unread] == [(Status.UNCHECKED, "x")]
    assert [leaf.spec.path for leaf in stored.leaves] == ["y"]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw[:-1], "the header describes"),
        (lambda raw: raw + b"x", "the header describes"),
        (lambda raw: (1 << 60).to_bytes(8, "little") + raw[8:], None),
        (lambda raw: raw.replace(b'"F32"', b'"F16"'), "are not those of"),
        (lambda raw: raw.replace(b"[0,", b"[4,"), "are not those of"),
        (lambda raw: raw.replace(b'{"w"', b'{"v"').replace(b'"v":', b'"v" '), "cannot be read"),
        (lambda raw: raw, ""),
    ],
    ids=["cut", "appended", "huge header", "dtype", "hole", "broken", "whole"],
)
def test_the_structure_of_safetensors_must_fit(tmp_path: Path, change: Any, said: str | None) -> None:
    path = tmp_path / "a"
    safetensors.numpy.save_file({"w": np.ones(8, np.float32)}, path)
    path.write_bytes(change(path.read_bytes()))
    if said == "":
        open_checkpoint(path)
        return
    with pytest.raises(IntegrityError, match=said):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["torch", "npz"])
def test_a_flip_in_a_zip_names_leaf_and_byte(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a"
    state = samples.state(0, samples.has_bfloat16(name))
    WRITERS[name](path, state)
    raw = bytearray(path.read_bytes())
    at = raw.find(state["params/dense_1/kernel"].tobytes()) + 100
    raw[at] ^= 4
    path.write_bytes(raw)
    try:
        findings = digest_stored(open_checkpoint(path))[1] or list(open_checkpoint(path).unread)
    except IntegrityError as error:
        findings = [error.finding]
    assert [found.leaf for found in findings] == ["params/dense_1/kernel"]
    assert findings[0].status is Status.CORRUPT
    assert findings[0].offset is not None and at - 300 <= findings[0].offset <= at


def test_unknown_files_are_unchecked_and_missing_ones_bad_input(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no numbers here")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "config.json").write_text("{}")
    for name in ("a.txt", "directory"):
        with pytest.raises(IntegrityError) as refused:
            open_checkpoint(tmp_path / name)
        assert refused.value.finding.status is Status.UNCHECKED
    with pytest.raises(Exception, match="does not exist"):
        open_checkpoint(tmp_path / "nothing")
