"""Checkpoints for the campaign `faults`, written by the frameworks' own savers in a process of its own."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from reprotui.checksum import LeafSpec
from reprotui.integrity.content import ContentDigest, digest_state

WIDTH = 32
FORMATS = ("orbax", "torch", "safetensors", "npz")
_SAFETENSORS = {"float32": "F32", "bfloat16": "BF16", "int64": "I64", "uint32": "U32"}


def state(seed: int, bfloat16: bool = True) -> dict[str, np.ndarray]:
    """Return a small training state by path, drawn from a seed."""
    generator = np.random.default_rng(seed)
    shapes = {"dense_0/kernel": (64, WIDTH), "dense_0/bias": (WIDTH,), "dense_1/kernel": (WIDTH, 10), "dense_1/bias": (10,)}
    leaves = {f"params/{path}": generator.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()}
    leaves |= {f"opt_state/0/mu/{path}": generator.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()}
    if bfloat16:
        leaves["extra/scale"] = generator.standard_normal(WIDTH).astype(ml_dtypes.bfloat16)
    leaves["rng"] = generator.integers(0, 1 << 32, 2, np.uint32)
    return leaves


def content(leaves: dict[str, np.ndarray]) -> ContentDigest:
    """Return the content digest of a state."""
    return digest_state((LeafSpec(path, array.dtype.name, array.shape), array) for path, array in leaves.items())


def has_bfloat16(format_: str) -> bool:
    """Say whether a format keeps bfloat16: npz does not."""
    return format_ != "npz"


def run(count: int | None = None, seed: int = 0, *, directory: str, formats: list[str]) -> dict[str, Any]:
    """Write checkpoints.

    Args:
        count: of each format; the state of number `i` is drawn from the seed `seed + i`.
        seed: of the first.
        directory: gets `<format>-<i>` each.
        formats: of `FORMATS`; torch is left out where it is not installed.

    Returns:
        A row a format, with how many were written.
    """
    rows = []
    for format_ in formats:
        if format_ == "torch" and importlib.util.find_spec("torch") is None:
            continue
        for number in range(count or 1):
            leaves = state(seed + number, has_bfloat16(format_))
            _WRITERS[format_](Path(directory) / f"{format_}-{number}", leaves)
        rows.append({"format": format_, "written": count or 1})
    return {"rows": rows}


def _write_orbax(path: Path, leaves: dict[str, np.ndarray]) -> None:
    import jax
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        arrays = jax.tree.map(jax.numpy.asarray, _nested(leaves))
        checkpointer.save(path.absolute(), args=ocp.args.Composite(state=ocp.args.StandardSave(arrays)))


def _write_torch(path: Path, leaves: dict[str, np.ndarray]) -> None:
    import torch

    def tensor(array: np.ndarray) -> Any:
        if array.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    torch.save(_nested({name: tensor(array) for name, array in leaves.items()}), path)


def _write_safetensors(path: Path, leaves: dict[str, np.ndarray]) -> None:
    header, data = {}, b""
    for name, array in leaves.items():
        raw = array.tobytes()
        header[name] = {
            "dtype": _SAFETENSORS[array.dtype.name], "shape": array.shape, "data_offsets": [len(data), len(data) + len(raw)],
        }  # fmt: skip
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def _write_npz(path: Path, leaves: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **leaves)


_WRITERS = {"orbax": _write_orbax, "torch": _write_torch, "safetensors": _write_safetensors, "npz": _write_npz}


def _nested(leaves: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree
