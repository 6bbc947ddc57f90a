"""What Home says about the entry under the cursor, and how to begin where there is none."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content

from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.text import fit, loss, progress
from reprotui.tui.widgets.entries import sign_of

if TYPE_CHECKING:
    from reprotui.race.entries import Entry
    from reprotui.race.presets import Preset

MEMBERS_SHOWN = 4


def describe_entry(entry: Entry, symbols: Symbols) -> Content:
    """Return verdict, members and command of an entry."""
    sign, colour = sign_of(entry.outcome, symbols)
    if entry.trouble:
        first = Content.styled(f"{symbols.unknown} {plain(entry.trouble, symbols)}", "$unknown")
    elif entry.outcome:
        first = Content.styled(plain(f"{sign} {entry.outcome.headline}", symbols), f"bold ${colour}")
    else:
        first = Content.styled(plain(f"{entry.name} {symbols.dot} {entry.state}", symbols), "bold")
    lines = [first]
    for member in entry.members[:MEMBERS_SHOWN]:
        label = member.label.upper() or "A"
        said, differs = member.problem or member.why, "  ".join(member.differs)
        far = progress(member.step, member.steps)
        lines.append(
            Content.assemble(
                (plain(f"{label:<2}", symbols), f"bold $run-{label[0].lower() if label[0] in 'ABCDEFGH' else 'a'}"),
                f"{fit(member.state, 11, symbols)}{fit(f'step {far}' if far else '', 18, symbols)}",
                fit(f"loss {loss(member.loss)}" if member.loss is not None else "", 20, symbols),
                (plain(said or differs, symbols), "$unknown" if said else "$muted"),
            )
        )
    if len(entry.members) > MEMBERS_SHOWN:
        lines.append(Content.styled(f"and {len(entry.members) - MEMBERS_SHOWN} more", "$muted"))
    if entry.command:
        lines.append(Content.styled(plain(f"$ {shlex.join(entry.command)}", symbols), "$muted"))
    return Content("\n").join(lines)


def describe_preset(preset: Preset, runs: Path, symbols: Symbols) -> Content:
    """Return what a ready-made race does, and the command line that does the same."""
    lines = [
        Content.styled(preset.name, "bold"),
        Content(plain(preset.sentence, symbols)),
        Content(""),
        Content.styled(plain(f"$ {shlex.join(preset.command(runs))}", symbols), "$muted"),
    ]
    return Content("\n").join(lines)


def invitation(runs: Path, problem: str, searched: str, symbols: Symbols, width: int) -> Content:
    """Return what stands in the middle of an empty list: how to begin, or why nothing is shown."""
    if searched:
        return Content.assemble(("nothing contains ", ""), (plain(searched, symbols), "bold"), ("\n\nesc shows all", "$muted"))
    if problem:
        return Content.assemble((plain(problem, symbols), "bold $unknown"), ("\n\nr looks again", "$muted"))
    keys = (
        ("f", "first", "start the first race", "the same training twice, compared to the bit"),
        ("n", "new", "set up a race", "experiment, configs, what differs"),
        ("tab", "tab", "ready-made races", "six ways to differ, and the sample runs"),
    )
    why = "No runs yet" if runs.is_dir() else "No runs yet: the directory is made when the first race starts"
    lines = [
        Content.styled(why, "bold"),
        Content.styled(fit(str(runs), min(len(str(runs)), max(20, width - 8)), symbols), "$muted"),
    ]
    for key, action, text, more in keys:
        told = f"   [$muted]{more}[/]" if width >= 76 else ""
        markup = f"[@click=screen.do('home.{action}')][bold $on-verdict on $run-a] {key:^3} [/]  [bold]{text:<20}[/]{told}[/]"
        lines += [Content(""), Content.from_markup(markup)]
    return Content("\n").join(lines)
