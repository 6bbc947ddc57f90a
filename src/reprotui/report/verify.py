"""What a report verifies, where it is asked to: traces, checkpoints, exact differences; and how it says how far it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprotui.checkpoints.listing import list_checkpoints
from reprotui.checkpoints.signature import Signers
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.compare import RunView
from reprotui.errors import ReprotuiError
from reprotui.integrity.status import Status
from reprotui.report.model import Exact, Verification
from reprotui.trace import verify_trace

READ_BACK = "read back at its save"
"""Status of a checkpoint that the run read when it had saved it, and that nobody read since."""
NOT_VERIFIED = "not verified"
"""Status of a checkpoint that is whole at a glance and that nobody read."""
BEFORE = "verified before, not read again for this report"
MEGABYTE = 1 << 20

Say = Callable[[str], object]
"""Is called with what is being read, often; what it raises ends the report."""


@dataclass(frozen=True)
class Verify:
    """What is verified.

    Attributes:
        traces: the chain of every trace is recomputed, so that an edited or lost row is found.
        checkpoints: files and content of every checkpoint are read.
        exact: gives the exact difference of two runs at a step, by replaying both; None where that is not wanted.
        known: statuses that were found before, by the resolved path of the checkpoint: (status, message).
        say: how far it is.
    """

    traces: bool = False
    checkpoints: bool = False
    exact: Callable[[RunView, RunView, int, Say], Exact] | None = None
    known: Mapping[Path, tuple[str, str]] = field(default_factory=dict)
    say: Say = lambda text: None

    @property
    def flags(self) -> list[str]:
        """Return the options of `reprotui report` that ask for the same."""
        both = ["--verify"] if self.traces and self.checkpoints else []
        one = (
            ["--verify-traces"] if self.traces and not both else ["--verify-checkpoints"] if self.checkpoints and not both else []
        )
        return [*both, *one, *(["--exact"] if self.exact else [])]


def written(path: Path) -> bool:
    """Say whether a trace is there; one may vanish at any moment, with its directory."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def verify_run(view: RunView, wanted: Verify) -> Verification | None:
    """Verify the trace of a run where that is wanted; a run that has recorded nothing yet has nothing to verify."""
    path = view.run.trace_path
    if not wanted.traces or not written(path):
        return None
    what = f"verifying the trace of {view.label}"
    wanted.say(what)
    try:
        found = verify_trace(path, view.manifest.seal, lambda records: wanted.say(f"{what}: {records:,} records"))
    except ReprotuiError as error:
        return Verification(0, str(error))
    return Verification(found.records, found.problem or "")


def checkpoints_of(view: RunView, wanted: Verify, signers: Signers) -> tuple[Mapping[str, Any], ...]:
    """List the checkpoints of a run with their statuses: what is wrong at a glance, what was found before, or everything."""
    found = []
    try:
        listed = list_checkpoints(view.run.path, signers)
    except (ReprotuiError, OSError) as error:
        return ({"name": "checkpoints", "status": Status.UNREADABLE.value, "message": str(error)},)
    for entry in listed:
        unread = READ_BACK if entry.read_back else NOT_VERIFIED
        status, message, signature = entry.problem.value if entry.problem else unread, entry.message, entry.signature
        if wanted.checkpoints and entry.problem is None:
            progress = _Bytes(f"verifying checkpoint {entry.path.name} of {view.label}", wanted.say)
            try:
                result = verify_checkpoint(entry.path, signers=signers, progress=progress)
                status, message, signature = result.status.value, "; ".join(map(str, result.findings[:3])), result.signature
            except ReprotuiError as error:
                status, message = Status.UNREADABLE.value, str(error)
        elif entry.problem is None and (place := entry.path.resolve()) in wanted.known:
            status, said = wanted.known[place]
            message = f"{BEFORE}{f': {said}' if said and status != Status.VALID.value else ''}"
        item = {
            "name": entry.path.name, "status": status, "content": entry.content, "message": message,
            "signature": "" if signature is None else str(signature),
            "not signed": "" if signature is None else "; ".join(signature.not_signed),
        }  # fmt: skip
        found.append({key: value for key, value in item.items() if value})
    return tuple(found)


class _Bytes:
    """Count bytes, and say how many they are."""

    def __init__(self, what: str, say: Say) -> None:
        self._what, self._say, self._done = what, say, 0
        say(what)

    def __call__(self, read: int) -> None:
        self._done += read
        self._say(f"{self._what}: {self._done / MEGABYTE:,.0f} MB")
