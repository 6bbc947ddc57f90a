"""How fast a large checkpoint is verified, against SHA-256 of the same bytes alone."""

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import at_least, interleaved, ratio, say
from reprotui.checkpoints.orbax_v0 import write
from reprotui.checkpoints.register import register
from reprotui.checkpoints.save import nested
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.checksum import LeafSpec
from reprotui.errors import WorkerFailedError
from reprotui.integrity import content_to_json, digest_state, identity_of_run
from reprotui.integrity.formats.orbax import INTEGRITY_ITEM
from reprotui.integrity.status import Status
from reprotui.manifest import RunManifest

ROUNDS = 5
LEAVES = 16
ELEMENTS = 7_000_000
"""Of each leaf, float32: 448 MB together, of which Orbax makes 399 MB of files."""
FILES_BAR = 0.8
"""Lowest acceptable speed of `files`, as a share of SHA-256's."""
CONTENT_BAR, REFERENCE = 500.0, 2000.0
"""Lowest acceptable speed of `content` in MB/s of the checkpoint, where SHA-256 alone runs at so many."""
SHA256 = "SHA-256 of the files alone"


def run(count: int | None = None, seed: int = 0, *, elements: int = ELEMENTS) -> dict[str, Any]:
    """Verify an Orbax checkpoint of random weights, which is in the page cache, again and again.

    Args:
        count: rounds.
        seed: of the weights.
        elements: of each leaf.

    Returns:
        A row each: MB of files, median seconds and MB of files a second. Both levels of verification read the files' bytes;
        `content` decodes and hashes the leaves besides.
    """
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        say("writing a checkpoint")
        path = Path(folder) / "1"
        _write(path, seed, elements)
        size = sum(file.stat().st_size for file in _files(path)) / 1e6
        variants = {SHA256: lambda: _hash(path), **{level: _verification(path, level) for level in ("files", "content")}}
        for block in variants.values():
            block()
        seconds = interleaved(variants, count or ROUNDS, "verifying")
    speed = {name: size / statistics.median(times) for name, times in seconds.items()}
    rows = [
        {"what": name, "MB": round(size), "s": round(statistics.median(seconds[name]), 3), "MB/s": round(speed[name])}
        for name in variants
    ]
    scaled = speed["content"] * REFERENCE / speed[SHA256]
    notes = [
        at_least("`files`, as a share of SHA-256's speed", ratio(seconds[SHA256], seconds["files"]), FILES_BAR),
        at_least(f"`content`, where SHA-256 alone runs at {REFERENCE:,.0f} MB/s", scaled, CONTENT_BAR, " MB/s"),
    ]
    return {"rows": rows, "notes": notes}


def _write(path: Path, seed: int, elements: int) -> None:
    generator = np.random.default_rng(seed)
    leaves = {f"params/layer_{number}/kernel": generator.random(elements, np.float32) for number in range(LEAVES)}
    content = digest_state((LeafSpec(name, array.dtype.name, array.shape), array) for name, array in leaves.items())
    write(path, nested(leaves), {INTEGRITY_ITEM: content_to_json(content)})
    register(path, identity_of_run(RunManifest.parse({"manifest_version": 1}, "run.json"), 1), content)


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()]


def _hash(path: Path) -> float:
    start = time.perf_counter()
    for file in _files(path):
        with file.open("rb") as opened:
            hashlib.file_digest(opened, "sha256")
    return time.perf_counter() - start


def _verification(path: Path, level: str) -> Callable[[], float]:
    def block() -> float:
        start = time.perf_counter()
        result = verify_checkpoint(path, level)
        if result.status is not Status.VALID:
            raise WorkerFailedError(f"the checkpoint of the benchmark is {result.status}: {result.findings[0].message}")
        return time.perf_counter() - start

    return block
