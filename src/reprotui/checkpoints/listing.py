"""What checkpoints a run has, and the newest one that verifies."""

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reprotui.checkpoints.against_signature import hold_listed
from reprotui.checkpoints.places import (
    candidates,
    checkpoints_directory,
    incompleteness,
    run_of,
    size_of,
    step_of,
)
from reprotui.checkpoints.register import registered_as
from reprotui.checkpoints.registry import read_registry
from reprotui.checkpoints.signature import Signers
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.errors import ReprotuiError
from reprotui.integrity.files import Progress
from reprotui.integrity.manifest import SUFFIX, Manifest, manifest_path, read_manifest
from reprotui.integrity.status import Finding, IntegrityError, Result, SignatureInfo, Status
from reprotui.trace import Trace

_READ_BACK = re.compile(r"checkpoint of step (\d{1,18}), read back")
"""What a run writes into its trace when it has read its last checkpoint."""


@dataclass(frozen=True)
class ListedCheckpoint:
    """A checkpoint as it can be described without hashing it.

    Attributes:
        path, step: where it is; the step that its name says.
        problem: the status that it has already without a look into its files, None where only verification can tell.
        message: why.
        size: bytes that lie there now.
        created_ns: when its manifest was made, None without one.
        files, content: the digests that its manifest records.
        signature: what is known of its signature without reading the files, None where there is none.
        read_back: whether the run read all of it when it had saved it, and found it VALID.
    """

    path: Path
    step: int | None
    problem: Status | None
    message: str
    size: int
    created_ns: int | None = None
    files: str | None = None
    content: str | None = None
    signature: SignatureInfo | None = None
    read_back: bool = False

    @property
    def signed(self) -> bool:
        """Say whether it has a signature: whether that is good is another question."""
        return self.signature is not None and self.signature.method != "none"

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "path": str(self.path), "step": self.step, "problem": None if self.problem is None else self.problem.value,
            "message": self.message, "bytes": self.size, "created_ns": self.created_ns, "files": self.files,
            "content": self.content, "read_back": self.read_back, "signed": self.signed,
            "signature": None if self.signature is None else self.signature.to_json(),
        }  # fmt: skip


def list_checkpoints(run: Path, signers: Signers | None = None) -> list[ListedCheckpoint]:
    """List the checkpoints of a run (or of a checkpoints directory), by step; what is no step comes last.

    What a crash left behind (temporary directories, empty ones, those without state) is INCOMPLETE, and what the
    registry or a manifest knows and the disk does not is MISSING. Signatures are held against whom one trusts and
    against the manifests.
    """
    # Whoever lists a run that trains meets names that are renamed or removed a moment later.
    listed = [
        entry
        for entry in (_describe(path, signers or Signers()) for path in candidates(run))
        if entry.path.exists() or entry.path.is_symlink()
    ]
    directory = checkpoints_directory(run)
    names = {entry.path.name for entry in listed}
    try:
        registry = read_registry(directory) if directory.is_dir() else None
    except IntegrityError:
        registry = None  # each of the checkpoints says so itself
    known = dict.fromkeys(registry.names() if registry is not None else [], "the registry knows it, and it is not there")
    removed = {entry.name for entry in registry.entries} if registry is not None else set()
    for name in sorted(path.name.removesuffix(SUFFIX) for path in directory.glob(f"*{SUFFIX}")):
        if name not in removed:
            known.setdefault(name, "the manifest is there, and it is not")
    for name, said in known.items():
        if name not in names and not (directory / name).exists():
            listed.append(ListedCheckpoint(directory / name, step_of(name), Status.MISSING, said, 0))
    read = read_back(run)
    listed = [replace(entry, read_back=True) if entry.step in read and entry.problem is None else entry for entry in listed]
    return sorted(listed, key=lambda entry: (entry.step is None, entry.step or 0, entry.path.name))


def read_back(path: Path) -> frozenset[int]:
    """Return the steps whose checkpoints a run read itself when it had saved them, and found VALID, as its trace says.

    Args:
        path: the run, or its checkpoints directory; of anything else nobody knows.
    """
    run = run_of(path) or run_of(path.absolute().parent)
    if run is None or not run.trace_path.is_file():
        return frozenset()
    found = []
    with contextlib.suppress(ReprotuiError, OSError), Trace(run.trace_path) as trace:
        found = [_READ_BACK.fullmatch(event.text) for event in trace.events() if event.kind == "verified"]
    return frozenset(int(match[1]) for match in found if match)


def listed_result(entry: ListedCheckpoint, level: str) -> Result:
    """Return the result of a verification for what is wrong without a look into the files."""
    findings = () if entry.problem is None else (Finding(entry.problem, entry.path.name, entry.message),)
    return Result(entry.path, level, findings, step=entry.step)


def latest_good(
    run: Path,
    level: str = "content",
    *,
    at_least: int | None = None,
    at_most: int | None = None,
    progress: Progress | None = None,
) -> tuple[Result | None, list[Result]]:
    """Walk back from the newest step on the disk to the first checkpoint that is VALID.

    Args:
        run: the run, or its checkpoints directory.
        level: of verification.
        at_least, at_most: only steps from and up to these.
        progress: called with bytes hashed or read.

    Returns:
        The result of the newest valid one, None where there is none, and the results of those that were verified and
        passed over. Nothing is trusted but what lies on the disk now: no list of a live manager, no time.
    """
    passed: list[Result] = []
    for entry in reversed(list_checkpoints(run)):
        if entry.step is None or entry.problem is not None or (at_most is not None and entry.step > at_most):
            continue
        if at_least is not None and entry.step < at_least:
            break
        result = verify_checkpoint(entry.path, level, run=run_of(run), progress=progress)
        if result.status is Status.VALID:
            return result, passed
        passed.append(result)
    return None, passed


def _describe(path: Path, signers: Signers) -> ListedCheckpoint:
    manifest: Manifest | None = None
    problem, message = (incompleteness(path) if path.is_dir() else None) or (None, "")
    if path.is_symlink():
        problem, message = Status.CORRUPT, "is a symbolic link: a checkpoint holds files and directories only"
    if problem is None:
        try:
            manifest, digest = read_manifest(manifest_path(path))
            if (wrong := registered_as(path, digest)) is not None:
                problem, message = wrong.status, wrong.message
        except IntegrityError as error:
            problem, message = error.finding.status, error.finding.message
    return ListedCheckpoint(
        path, step_of(path.name), problem, message, size_of(path),
        created_ns=None if manifest is None else manifest.created_ns,
        files=None if manifest is None else manifest.files_digest,
        content=None if manifest is None or manifest.content is None else manifest.content.root,
        signature=hold_listed(path, manifest, signers),
    )  # fmt: skip
