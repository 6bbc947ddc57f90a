"""The preview of a race or run: verdict and cause, both losses, what differs, checkpoints, size on disk, the command."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from textual.content import Content

from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.text import fit, loss, progress, spark
from reprotui.tui.widgets.entries import sign_of

if TYPE_CHECKING:
    from reprotui.race.entries import Entry, RunEntry
    from reprotui.race.preview import Preview

MEMBERS_SHOWN = 8
SPARK = 24
"""Cells of a run's losses where they share their line with what else is said of it."""


def describe_entry(entry: Entry, seen: Preview | None, symbols: Symbols, room: int, beside: bool) -> Content:
    """Return what a preview says.

    Args:
        entry: what the list knows.
        seen: what was read besides, None as long as nobody has.
        symbols: the signs of this terminal.
        room: cells of a line.
        beside: the preview is high and narrow, beside the list; else it is low and wide, below it.
    """
    lines = [_headline(entry, symbols)]
    if seen and seen.cause:
        lines.append(Content(plain(seen.cause, symbols)))
    if entry.note:
        lines.append(Content.styled(plain(f"note: {entry.note}", symbols), "italic"))
    lines += [Content("")] if beside else []
    scale = _scale(seen)
    for index, member in enumerate(entry.members[:MEMBERS_SHOWN]):
        losses = seen.losses[index] if seen else ()
        steps = seen.checkpoints[index] if seen else ()
        lines += _member(member, losses, steps, scale, symbols, room, beside)
    if len(entry.members) > MEMBERS_SHOWN:
        lines.append(Content.styled(f"and {len(entry.members) - MEMBERS_SHOWN} more", "$muted"))
    lines += [Content("")] if beside else []
    if seen:
        from reprotui.race.preview import size_said

        facts = [f"{size_said(seen.size)} on disk", *seen.asked]
        lines.append(Content.styled(plain(f" {symbols.dot} ".join(facts), symbols), "$muted"))
    if entry.command:
        lines.append(Content.styled(plain(f"$ {shlex.join(entry.command)}", symbols), "$muted"))
    return Content("\n").join(lines)


def _headline(entry: Entry, symbols: Symbols) -> Content:
    sign, colour = sign_of(entry.outcome, symbols)
    if entry.trouble:
        return Content.styled(f"{symbols.unknown} {plain(entry.trouble, symbols)}", "$unknown")
    if entry.outcome:
        return Content.styled(plain(f"{sign} {entry.outcome.headline}", symbols), f"bold ${colour}")
    return Content.styled(plain(f"{entry.name} {symbols.dot} {entry.state}", symbols), "bold")


def _scale(seen: Preview | None) -> tuple[float, float] | None:
    """Return the smallest and the largest loss of all runs, which share one scale."""
    losses = [value for line in (seen.losses if seen else ()) for value in line if value is not None]
    return (min(losses), max(losses)) if losses else None


def _member(
    member: RunEntry, losses: tuple[float | None, ...], steps: tuple[int, ...], scale: tuple[float, float] | None,
    symbols: Symbols, room: int, beside: bool,
) -> list[Content]:  # fmt: skip
    label = member.label.upper() or "A"
    letter = label[0].lower() if label[0] in "ABCDEFGH" else "a"
    far, last = progress(member.step, member.steps), f"loss {loss(member.loss)}" if member.loss is not None else ""
    said, differs = member.problem or member.why, "  ".join(member.differs)
    saved = f"{len(steps)} checkpoint{'s' if len(steps) > 1 else ''}, {steps[0]} to {steps[-1]}" if len(steps) > 1 else (
        f"checkpoint {steps[0]}" if steps else ""
    )  # fmt: skip
    name = (plain(f"{label:<2}", symbols), f"bold $run-{letter}")
    rest = (plain(said or differs, symbols), "$unknown" if said else "$muted")
    if not beside:
        picture = spark(losses, min(SPARK, room - 60), scale, symbols)
        facts = f"{fit(member.state, 10, symbols)}{fit(f'step {far}' if far else '', 16, symbols)}{fit(last, 16, symbols)}"
        told = f" {saved}" if saved else ""
        return [Content.assemble(name, facts, (picture, f"$run-{letter}"), "  " if picture else "", rest, (told, "$muted"))]
    lines = [
        Content.assemble(
            name, plain("  ".join(part for part in (member.state, f"step {far}" if far else "", last) if part), symbols)
        )
    ]
    if picture := spark(losses, room - 2, scale, symbols):
        lines.append(Content.assemble("  ", (picture, f"$run-{letter}")))
    for text, colour in (rest, (saved, "$muted")):
        lines += [Content.styled(f"  {text}", colour)] if text else []
    return lines
