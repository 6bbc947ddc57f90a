"""Load a checkpoint that verifies, and prove of what was loaded that it is what was saved. No framework: numpy arrays."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.checksum import LeafSpec
from reprotui.errors import BadInputError
from reprotui.integrity.content import compare_digests, compare_specs, describe
from reprotui.integrity.files import Progress
from reprotui.integrity.formats import digest_stored, open_checkpoint
from reprotui.integrity.manifest import Identity, manifest_path, read_manifest
from reprotui.integrity.status import Finding, IntegrityError, Status

SHOWN = 6
"""Leaves named in an error: enough to see what is wrong with a model that is not the one that was saved."""


@dataclass(frozen=True)
class Loaded:
    """A state in memory.

    Attributes:
        identity: which state it is.
        specs: what each leaf is, by path.
        arrays: their elements; of a PRNG key its `key_data`.
        content: the content digest, computed from these very arrays and equal to the recorded one.
        meta: what the run wrote about itself; empty for a checkpoint that reprotui did not save.
    """

    identity: Identity
    specs: Mapping[str, LeafSpec]
    arrays: Mapping[str, NDArray[Any]]
    content: str
    meta: Mapping[str, Any]


def load_checkpoint(path: Path, progress: Progress | None = None) -> Loaded:
    """Read a checkpoint into memory, verified: manifest, registry, identity and files first, then every leaf as loaded.

    The digests are taken of the arrays that are returned, not of a second reading, so nothing can change in between.
    Leaves without elements, which Orbax cannot store, are left to the caller (`meta["empty"]`).

    Raises:
        BadInputError: the path does not exist.
        IntegrityError: it is not VALID; the finding says where.
    """
    result = verify_checkpoint(path, "files", progress=progress)
    if result.findings:
        raise IntegrityError(result.findings[0])
    manifest, _ = read_manifest(manifest_path(path))
    if manifest.content is None:
        said = "records no content digests: what is loaded cannot be held against anything"
        raise IntegrityError(Finding(Status.UNCHECKED, manifest_path(path).name, said))
    stored = open_checkpoint(path)
    specs = {leaf.spec.path: leaf.spec for leaf in stored.leaves}
    places = {leaf.spec.path: leaf.place for leaf in stored.leaves}
    arrays: dict[str, NDArray[Any]] = {}
    findings = [*stored.unread, *compare_specs(manifest.content, specs, lambda leaf: places.get(leaf, "."))]
    if not findings:
        content, findings = digest_stored(stored, progress, lambda leaf, array: arrays.__setitem__(leaf.spec.path, array))
        findings += compare_digests(manifest.content, content, places.__getitem__)
    if findings:
        raise IntegrityError(findings[0])
    return Loaded(manifest.identity, specs, arrays, manifest.content.root, read_meta(path))


def read_meta(path: Path) -> dict[str, Any]:
    """Return what a run wrote about itself into its checkpoint; empty where that is missing or no JSON object."""
    try:
        value = json.loads((path / "meta" / "metadata").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def check_structure(stored: Mapping[str, LeafSpec], expected: Mapping[str, LeafSpec], path: Path) -> None:
    """Hold the leaves of a checkpoint against those that the training expects; nothing is ever cast, cut or filled up.

    Args:
        stored: the leaves of the checkpoint's training state, by path.
        expected: those of the experiment, by path.
        path: the checkpoint, for the error.

    Raises:
        BadInputError: another dtype or shape, a missing or an extra leaf; all at once.
    """
    wrong = [f"{name} is in the checkpoint only" for name in stored if name not in expected]
    for name, spec in expected.items():
        if name not in stored:
            wrong.append(f"{name} is not in the checkpoint")
        elif stored[name] != spec:
            wrong.append(f"{name} is {describe(stored[name])}, the experiment has {describe(spec)}")
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise BadInputError(
            f"{path} does not fit the experiment and its config: {'; '.join(wrong[:SHOWN])}{more}; nothing is cast or filled up"
        )
