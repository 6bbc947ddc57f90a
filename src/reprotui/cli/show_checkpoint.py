"""How checkpoints, verifications and differences are shown in the terminal."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from reprotui.checkpoints.diff import CheckpointDifference, LeafDifference
from reprotui.checkpoints.listing import ListedCheckpoint
from reprotui.cli import common
from reprotui.integrity.content import describe
from reprotui.integrity.status import Result, SignatureInfo, Status

FINDINGS_SHOWN = 12
"""Findings a checkpoint in the terminal; `--json` has them all."""
METER_SECONDS = 1.0
"""Nothing is said about what takes less; then a line so often, or one that is rewritten on a terminal."""
_COLOURS = {Status.VALID: "bold #0072b2", Status.UNREGISTERED: "bold", Status.UNCHECKED: "bold", Status.INCOMPLETE: "bold"}
_DAMAGE_COLOUR = "bold #d55e00"


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
        status = "not verified" if entry.problem is None else common.styled((entry.problem, _colour(entry.problem)))
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


def show_diff(found: CheckpointDifference) -> None:
    """Print which leaves differ and by how much."""
    from rich.table import Table

    console = common.console()
    total = found.equal + len(found.leaves)
    if found.same:
        console.print(common.styled(("SAME", _COLOURS[Status.VALID]), f"  {total} leaves are equal in dtype, shape and bits"))
    else:
        console.print(common.styled(("DIFFERENT", _DAMAGE_COLOUR), f"  {len(found.leaves)} of {total} leaves"))
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("leaf", overflow="fold")
        table.add_column("difference", overflow="fold")
        for column in ("elements", "first", "max |Δ|", "max relative", "max ulp"):
            table.add_column(column, justify="right", no_wrap=True)
        for leaf in found.leaves:
            table.add_row(leaf.path, _what(leaf), *_numbers(leaf))
        console.print(table)
        histogram = _ulps(found)
        if histogram:
            console.print(f"  ulp          {'   '.join(f'{label}: {count:,}' for label, count in histogram)}", style="dim")
    for a, b in found.renamed:
        console.print(f"  note         {a} and {b} are taken for one leaf", style="dim")
    for finding in found.unread:
        console.print(f"  {finding.status:<12} {finding}")


def _what(leaf: LeafDifference) -> str:
    if leaf.kind in ("dtype", "shape") and leaf.a is not None and leaf.b is not None:
        return f"{leaf.kind}: {describe(leaf.a)} → {describe(leaf.b)}"
    if leaf.elements is None or leaf.elements.first_values is None:
        return leaf.kind
    return f"content: {leaf.elements.first_values[0]} → {leaf.elements.first_values[1]}"


def _numbers(leaf: LeafDifference) -> list[str]:
    elements = leaf.elements
    if elements is None:
        return [""] * 5
    first = "" if elements.first_index is None else f"[{','.join(map(str, elements.first_index))}]"
    return [
        f"{elements.different:,} of {elements.elements:,}", first, _number(elements.max_abs), _number(elements.max_relative),
        "" if elements.max_ulp is None else f"{elements.max_ulp:,}",
    ]  # fmt: skip


def _ulps(found: CheckpointDifference) -> list[tuple[str, int]]:
    """Return the histogram of ulp over all leaves, without its empty bins."""
    counts: dict[str, int] = {}
    for leaf in found.leaves:
        for label, count in leaf.elements.ulp_histogram if leaf.elements is not None else ():
            counts[label] = counts.get(label, 0) + count
    return [(label, count) for label, count in counts.items() if count]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _colour(status: Status) -> str:
    return _COLOURS.get(status, _DAMAGE_COLOUR)


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
