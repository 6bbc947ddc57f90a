"""The checkpoints of runs as they stand in a list, and what is found by reading them. No textual here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprotui.errors import ReprotuiError
from reprotui.manifest import Kind, RunState
from reprotui.run_directory import RunDirectory

if TYPE_CHECKING:  # what reads checkpoints is imported by the thread that does
    from reprotui.checkpoints.diff import LeafDifference
    from reprotui.checkpoints.signature import Signers
    from reprotui.integrity.status import Result
    from reprotui.race.resume import Resumed

Progress = Callable[[int], None]
"""Is called with each number of bytes that were read."""


@dataclass(frozen=True)
class Item:
    """A checkpoint of a run as it stands in the list; `status` is empty until it was verified, `signature` without one."""

    run: int
    label: str
    path: Path
    step: int | None
    size: int
    created_ns: int | None
    content: str | None
    status: str
    message: str
    signature: str = ""
    read_back: bool = False
    """Whether the run read all of it when it had saved it."""

    @property
    def said(self) -> str:
        """Return its status in words, also where nobody has read it since it was saved."""
        return self.status or ("read back" if self.read_back else "not verified")


@dataclass(frozen=True)
class Found:
    """What came of reading: in a word, what is known of the checkpoint now (None of two), and in full."""

    text: str
    item: Item | None = None
    details: Sequence[str] = ()


def list_items(runs: Sequence[tuple[str, RunDirectory]], signers: Signers | None) -> list[Item]:
    """Return the checkpoints of runs, those of a step together; a run that cannot be read is a line that says why."""
    from reprotui.checkpoints.listing import list_checkpoints

    items = []
    for index, (label, run) in enumerate(runs):
        try:
            found = list_checkpoints(run.path, signers)
        except ReprotuiError as error:
            items.append(Item(index, label, run.path, None, 0, None, None, "UNREADABLE", str(error)))
            continue
        items += [
            Item(
                index, label, entry.path, entry.step, entry.size, entry.created_ns, entry.content,
                entry.problem.value if entry.problem else "", entry.message,
                "" if entry.signature is None else entry.signature.brief, entry.read_back,
            )
            for entry in found
        ]  # fmt: skip
    # Those of one step stand together, so that a look tells whether they are equal.
    return sorted(items, key=lambda item: (item.step is None, item.step or 0, item.run))


def keep_status(item: Item, before: Item | None) -> Item:
    """Return a checkpoint with the status it had before, as long as size and time are what they were."""
    if before is None or item.status or (before.size, before.created_ns) != (item.size, item.created_ns):
        return item
    return replace(item, status=before.status, message=before.message)


def same_step(item: Item, items: Sequence[Item]) -> list[Item]:
    """Return the checkpoints of all runs at the step of one, itself among them."""
    return [other for other in items if other.step == item.step] if item.step is not None else [item]


def partner(item: Item, items: Sequence[Item]) -> Item | None:
    """Return the checkpoint of another run at the same step: of the first for the others, of the next run for the first."""
    return next((other for other in same_step(item, items) if other.run != item.run), None)


def equal_content(item: Item, items: Sequence[Item]) -> bool | None:
    """Say whether a checkpoint records the content of the first run's at its step; None where there is none, or no digest."""
    first = same_step(item, items)[0]
    if first is item or first.run == item.run or not first.content or not item.content:
        return None
    return first.content == item.content


def described(item: Item, items: Sequence[Item], read: Sequence[str]) -> list[str]:
    """Return what is known of a checkpoint, and of those of the other runs at its step.

    Args:
        item: the checkpoint.
        items: all that are listed.
        read: what reading it came to, line by line; empty where nobody has read it here.
    """
    unread = "the run read it back when it had saved it, and found it VALID" if item.read_back else "nobody has read it yet"
    lines = list(read) or [str(item.path), *(item.message.splitlines() or [unread])]
    together = same_step(item, items)
    if len(together) > 1:
        lines.append(f"at step {item.step}:")
    for other in together if len(together) > 1 else ():
        same = equal_content(other, items)
        against = "" if same is None else f"  {'=' if same else '≠'} {together[0].label}"
        lines.append(f"  {other.label} {other.said:<13} content {(other.content or 'unknown')[:16]:<16}{against}")
    return lines


def saved(run: RunDirectory) -> set[str]:
    """Return which checkpoints a run has finished, as its directory tells: cheap enough to ask again and again."""
    return {path.name for path in (run.path / "checkpoints").glob("*.manifest.json")}


def why_not_save(label: str, run: RunDirectory) -> str | None:
    """Return why a run cannot be asked to save, None where it can."""
    try:
        manifest = run.manifest()
        if run.state(manifest) is not RunState.RUNNING:
            return f"run {label} does not run: there is nothing to save now"
        return None if manifest.kind is Kind.EXPERIMENT else "a script of its own saves in its own way: reprotui does not"
    except ReprotuiError as error:
        return str(error)


def signers_of(answer: str) -> Signers | None:
    """Return whose signatures count: of a public key, of certificates, of nobody where the answer is empty."""
    from reprotui.checkpoints.signature import load_signers
    from reprotui.checkpoints.signature.certificates import holds_certificates

    path = Path(answer).expanduser()
    if not answer:
        return None
    return load_signers(certificate_chain=[path]) if holds_certificates(path) else load_signers(path)


def verify(item: Item, signers: Signers | None, progress: Progress) -> Found:
    """Read every byte of a checkpoint; one that cannot be read is a finding too."""
    from reprotui.checkpoints.verify import verify_checkpoint

    # Without a key the deepest level is asked for; with one, what was signed may be files alone.
    options: dict[str, Any] = {"level": "content"} if signers is None else {"level": None, "signers": signers}
    try:
        result = verify_checkpoint(item.path, progress=progress, **options)
    except ReprotuiError as error:
        return Found("", replace(item, status="UNREADABLE", message=str(error)), [str(error)])
    return _found(item, result, result.status.value)


def sign(item: Item, private_key: Path, progress: Progress) -> Found:
    """Verify a checkpoint, and sign it where it is VALID."""
    from reprotui.checkpoints.sign import sign_verified

    result = sign_verified(item.path, private_key, progress=progress)
    return _found(item, result, "signed" if result.status.value == "VALID" else f"not signed, {result.status.value}")


def _found(item: Item, result: Result, text: str) -> Found:
    said = "every file and every leaf is what was saved" if result.level != "files" else "every file is what was saved"
    if result.findings:
        # A row has room for little: a leaf says more than a file whose name Orbax has drawn.
        first = next((finding for finding in result.findings if finding.leaf), result.findings[0])
        said = f"{first.leaf}: {first.message}" if first.leaf else f"{first.message} ({first.path})"
    details = [str(item.path), *(map(str, result.findings) if result.findings else [said])]
    signature = result.signature
    if signature is not None:
        details.append(f"signature: {signature}")
        details += [f"not signed: {'; '.join(signature.not_signed)}"] if signature.not_signed else []
    known = replace(
        item, status=result.status.value, message=said, content=result.content or item.content,
        signature="" if signature is None else signature.brief,
    )  # fmt: skip
    return Found(text, known, [*details, *result.notes])


def compare(a: Item, b: Item, progress: Progress) -> Found:
    """Compare two checkpoints leaf by leaf."""
    from reprotui.checkpoints.diff import diff_checkpoints

    found = diff_checkpoints(a.path, b.path, progress)
    if not found.leaves:
        return Found("all leaves are equal to the bit", None, ["all leaves are equal to the bit"])
    text = f"{len(found.leaves)} of {found.equal + len(found.leaves)} leaves differ"
    rows = [(leaf.path, *_difference(leaf)) for leaf in found.leaves]
    path, count, ulp = (max(len(row[column]) for row in rows) for column in range(3))
    lines = [f"≠ {row[0]:<{path}}  {row[1]:>{count}}  {row[2]:>{ulp}}  {row[3]}".rstrip() for row in rows]
    return Found(text, None, [text, *lines])


def _difference(leaf: LeafDifference) -> tuple[str, str, str]:
    """Return how many elements differ, by how much at most, and where first; else what is different."""
    elements = leaf.elements
    if elements is None:
        return leaf.kind, "", ""
    ulp = "" if elements.max_ulp is None else f"max {elements.max_ulp:,} ulp"
    return f"{elements.different:,} of {elements.elements:,}", ulp, f"first {list(elements.first_index or ())}"


def restore(run: Path, step: int, answer: str, into: Path, progress: Progress, trusted: bool) -> Resumed:
    """Start a run that goes on from a checkpoint; `answer` are the fields that are to be other than they were.

    Raises:
        BadInputError: a field is none, or the checkpoint cannot be restored.
        UntrustedError: the run was not recorded here, and nobody said that it may be run.
    """
    from reprotui.experiments.config import parse_overrides
    from reprotui.race.prepare import Request
    from reprotui.race.resume import resume_command, start_resumed

    overrides = parse_overrides(answer.split())
    request = Request(into, None, resume_command(run, step, overrides))
    return start_resumed(request, run, step, overrides, progress, trusted=trusted)
