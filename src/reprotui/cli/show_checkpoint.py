"""How checkpoints, verifications and differences are shown in the terminal."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from reprotui.checkpoints.diff import CheckpointDifference
from reprotui.checkpoints.listing import ListedCheckpoint
from reprotui.cli import common
from reprotui.integrity.content import describe
from reprotui.integrity.leaves import LeafDifference
from reprotui.integrity.status import Result, SignatureInfo, Status
from reprotui.numbers import short

FINDINGS_SHOWN = 12
"""Findings a checkpoint in the terminal; `--json` has them all."""
METER_SECONDS = 1.0
"""Nothing is said about what takes less; then a line so often, or one that is rewritten on a terminal."""
GOOD, BAD = "bold #0072b2", "bold #d55e00"
_COLOURS = {Status.VALID: GOOD, Status.UNREGISTERED: "bold", Status.UNCHECKED: "bold", Status.INCOMPLETE: "bold"}


class Meter:
    """Count bytes, and say on stderr how many there were and how fast, for whoever waits."""

    def __init__(self, what: str) -> None:
        self._what, self._done = what, 0
        self._started = self._said = time.monotonic()
        self._live = sys.stderr.isatty()
        self._written = False

    def __call__(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._said >= METER_SECONDS:
            self._said = now
            text = f"  {self._what} {size(self._done)}, {size(round(self._done / (now - self._started)))}/s"
            if self._live:
                common.say_over(text)
            else:
                common.say(text, stderr=True)
            self._written = True

    def clear(self) -> None:
        """Take the line away, so that results begin on their own."""
        if self._live and self._written:
            common.say_over("", "\r")
            self._written = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.clear()


def show_list(entries: list[ListedCheckpoint]) -> None:
    """Print a table of checkpoints."""
    from rich.table import Table

    console = common.console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("step", "size", "age"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("status", "content", "signature"):
        table.add_column(column, no_wrap=True)
    table.add_column("", overflow="fold")
    for entry in entries:
        unread = "read back at its save" if entry.read_back else "not verified"
        status = unread if entry.problem is None else common.styled((entry.problem, _colour(entry.problem)))
        table.add_row(
            entry.path.name if entry.step is None else str(entry.step), size(entry.size), _age(entry.created_ns), status,
            (entry.content or "")[:16], "" if entry.signature is None else entry.signature.brief, entry.message,
        )  # fmt: skip
    console.print(table)


def show_result(result: Result) -> None:
    """Print the outcome of a verification."""

    console = common.console()
    step = "" if result.step is None else f", step {result.step}"
    about = f"  {common.short(result.path)}  ({result.level}{step}, {size(result.size)} read)"
    console.print(common.styled((result.status, _colour(result.status)), about))
    for finding in result.findings[:FINDINGS_SHOWN]:
        console.print(f"  {finding.status:<12} {finding}")
    if len(result.findings) > FINDINGS_SHOWN:
        console.print(f"  and {len(result.findings) - FINDINGS_SHOWN} more; --json has them all")
    if result.files is not None:
        console.print(f"  files        {result.files}", style="dim")
    if result.content is not None:
        console.print(f"  content      {result.content}", style="dim")
    if result.signature is not None:
        show_signature(result.signature)
    for note in result.notes:
        console.print(f"  note         {note}", style="dim")


def show_signature(signature: SignatureInfo) -> None:
    """Print whose signature it is, and what it leaves out."""
    console = common.console()
    console.print(f"  signature: {signature}")
    if signature.not_signed:
        console.print(f"  not signed   {'; '.join(signature.not_signed)}", style="dim")


def show_leaves(equal: int, leaves: Sequence[LeafDifference], most: int | None = None) -> bool:
    """Print how many leaves of two states differ, and a table of (at most so many of) them; say whether any does."""
    from rich.table import Table

    console = common.console()
    total = equal + len(leaves)
    if not leaves:
        console.print(common.styled(("SAME", GOOD), f"  {total} leaves are equal in dtype, shape and bits"))
        return False
    console.print(common.styled(("DIFFERENT", BAD), f"  {len(leaves)} of {total} leaves"))
    phases = any(leaf.phase for leaf in leaves)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (*(["phase"] if phases else []), "leaf", "difference"):
        table.add_column(column, overflow="fold")
    for column in ("elements", "first", "max |Δ|", "max relative", "max ulp"):
        table.add_column(column, justify="right", no_wrap=True)
    for leaf in leaves[:most]:
        table.add_row(*([leaf.phase] if phases else []), leaf.path, *_difference(leaf))
    console.print(table)
    if most is not None and len(leaves) > most:
        console.print(f"  and {len(leaves) - most} more; --json has them all")
    return True


def show_diff(found: CheckpointDifference) -> None:
    """Print which leaves differ and by how much."""
    console = common.console()
    if show_leaves(found.equal, found.leaves) and (histogram := _ulps(found)):
        console.print(f"  ulp          {'   '.join(f'{label}: {count:,}' for label, count in histogram)}", style="dim")
    for a, b in found.renamed:
        console.print(f"  note         {a} and {b} are taken for one leaf", style="dim")
    for finding in found.unread:
        console.print(f"  {finding.status:<12} {finding}")


def _difference(leaf: LeafDifference) -> list[str]:
    """Return a leaf's first two values and its numbers; of one without partners on the other side, what it is."""
    elements = leaf.elements
    if elements is None or elements.first_values is None:
        sides = [describe(spec) for spec in (leaf.a, leaf.b) if spec is not None]
        return [f"{leaf.kind}: {' → '.join(sides)}", *[""] * 5]
    first = f"[{','.join(map(str, elements.first_index or ()))}]"
    numbers = ["" if number is None else short(number, 3) for number in (elements.max_abs, elements.max_relative)]
    ulp = "" if elements.max_ulp is None else f"{elements.max_ulp:,}"
    values = f"{elements.first_values[0]} → {elements.first_values[1]}"
    return [values, f"{elements.different:,} of {elements.elements:,}", first, *numbers, ulp]


def _ulps(found: CheckpointDifference) -> list[tuple[str, int]]:
    """Return the histogram of ulp over all leaves, without its empty bins."""
    counts: dict[str, int] = {}
    for leaf in found.leaves:
        for label, count in leaf.elements.ulp_histogram if leaf.elements is not None else ():
            counts[label] = counts.get(label, 0) + count
    return [(label, count) for label, count in counts.items() if count]


def _colour(status: Status) -> str:
    return _COLOURS.get(status, BAD)


def size(count: int) -> str:
    """Return a number of bytes for people."""
    amount: float = count
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB"


def _age(created_ns: int | None) -> Any:
    if created_ns is None:
        return ""
    seconds = max(0, round(time.time() - created_ns / 1e9))
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // divisor} {unit}"
    return f"{seconds // 86_400} d"
