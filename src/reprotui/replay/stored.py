"""A state that was replayed, as files: one `.npy` a leaf and `state.json`, kept for a while under the run."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (registers bfloat16 and float8 with numpy)
import numpy as np
from numpy.typing import NDArray

from reprotui.checksum import LeafSpec
from reprotui.errors import BadInputError
from reprotui.integrity.content import ContentDigest, content_from_json, digest_leaf
from reprotui.integrity.status import Finding, IntegrityError, Status
from reprotui.names import entry_of
from reprotui.run_directory import RunDirectory, read_json

DIRECTORY = "replay"
KEPT = 4
"""States kept a run: the steps that somebody looks at one after the other; any other can be replayed again."""
VERSION = 2
"""Of kept states: those of version 1 have a phase `update`, and are replayed again."""


@dataclass(frozen=True)
class ReplayedLeaf:
    """A leaf of the record: its phase, what it is, and the file that holds it."""

    phase: str
    spec: LeafSpec
    file: str


@dataclass(frozen=True)
class ReplayedState:
    """The exact state at a step: every leaf of its record, proved by the checksums of the trace.

    Attributes:
        run: the run.
        step: the step.
        directory: where the files lie.
        leaves: in the order of the record: batch, rng, loss and metrics, gradients, optimizer state, parameters.
        content: their content digest, taken before they were written; `read` holds every leaf against it.
        started_from: the step of the checkpoint that the replay began with, None for init.
        compared: how many recorded steps were compared on the way, all equal.
        notes: differences of environment that did not matter, checkpoints that were passed over.
    """

    run: RunDirectory
    step: int
    directory: Path
    leaves: tuple[ReplayedLeaf, ...]
    content: ContentDigest
    started_from: int | None
    compared: int
    notes: tuple[str, ...]

    def leaf(self, path: str) -> ReplayedLeaf:
        """Return a leaf by its path; raise BadInputError where there is none."""
        found = next((leaf for leaf in self.leaves if leaf.spec.path == path), None)
        if found is None:
            raise BadInputError(f"step {self.step} of {self.run.path} has no leaf {path!r}")
        return found

    def read(self, path: str) -> NDArray[Any]:
        """Read one leaf, of a PRNG key its `key_data`.

        Raises:
            BadInputError: there is no such leaf.
            IntegrityError: its file is gone or holds other bits than were replayed: replay again.
        """
        leaf = self.leaf(path)
        file = self.directory / leaf.file
        try:
            array = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise IntegrityError(Finding(Status.UNREADABLE, str(file), f"cannot be read: {error}", path)) from None
        if not leaf.spec.dtype.startswith("key<"):
            # numpy stores the types of ml_dtypes as raw bytes.
            array = array.view(np.dtype(leaf.spec.dtype))
        recorded = next(item for item in self.content.leaves if item.spec.path == path)
        if digest_leaf(leaf.spec, array) != recorded:
            said = "is not what was replayed: delete it and replay again"
            raise IntegrityError(Finding(Status.CORRUPT, str(file), said, path))
        return array


def open_state(run: RunDirectory, directory: Path) -> ReplayedState | None:
    """Return a stored state, None where the directory holds none that can be understood."""
    try:
        value = read_json(directory / "state.json")
        leaves = [
            ReplayedLeaf(leaf["phase"], LeafSpec(leaf["path"], leaf["dtype"], tuple(leaf["shape"])), leaf["file"])
            for leaf in value["leaves"]
        ]
        if value["version"] != VERSION:
            return None
        for leaf in leaves:
            entry_of(directory, leaf.file, str(directory / "state.json"))
        return ReplayedState(
            run, value["step"], directory, tuple(leaves), content_from_json(value["content"]), value["started_from"],
            value["compared"], tuple(value["notes"]),
        )  # fmt: skip
    except (BadInputError, KeyError, TypeError, ValueError):
        return None


def find_cached(run: RunDirectory, step: int, proof: Mapping[str, Any]) -> ReplayedState | None:
    """Return the state of a step if it was replayed before and the record and the config that prove it are the same."""
    directory = run.path / DIRECTORY / f"step-{step}"
    state = open_state(run, directory)
    if state is None or read_json(directory / "state.json").get("proof") != dict(proof):
        return None
    return state


def cached_states(run: RunDirectory) -> list[int]:
    """Return the steps whose states are kept, in order."""
    names = [entry.name.removeprefix("step-") for entry in (run.path / DIRECTORY).glob("step-*")]
    return sorted(int(name) for name in names if name.isdigit())


def keep(run: RunDirectory, written: Path, step: int) -> Path:
    """Put a state that was written aside into its place, and let the oldest go; return where it lies."""
    place = run.path / DIRECTORY / f"step-{step}"
    shutil.rmtree(place, ignore_errors=True)
    written.rename(place)
    ages = {number: _created(run.path / DIRECTORY / f"step-{number}") for number in cached_states(run)}
    for number in sorted(ages, key=ages.__getitem__)[:-KEPT]:
        shutil.rmtree(run.path / DIRECTORY / f"step-{number}", ignore_errors=True)
    return place


def _created(directory: Path) -> int:
    try:
        return int(json.loads((directory / "state.json").read_bytes())["created_ns"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
