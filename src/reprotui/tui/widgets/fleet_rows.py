"""The list of a fleet: runs and races with their hosts and rate, and the signs of each group above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widget import Widget

from reprotui.numbers import rate as rate_said
from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.text import fit
from reprotui.tui.widgets.entries import EntryRows
from reprotui.tui.widgets.rows import Cell

if TYPE_CHECKING:  # reading traces needs numpy, which the first frame does not wait for
    from reprotui.race.entries import Condition, Entry
    from reprotui.race.fleet import Group

RATED = 98
"""Width from which rates have room."""
HOSTS = 18
"""Cells of the hosts of an entry, at most."""
MOST_NAME = 40
COUNT = 9
"""Cells of how many of a group's entries differ: `12/240`."""
COLOURS = {
    "torn": "differs", "differ": "differs", "not finite": "differs", "failed": "differs", "cannot tell": "unknown",
    "going on": "strong", "ended alone": "muted", "identical": "equal",
}  # fmt: skip
PLAIN = {"≠": "#", "·": ".", "–": "-"}


def sign_of(condition: Condition, symbols: Symbols) -> tuple[str, str]:
    """Return sign and colour of a condition."""
    from reprotui.race.fleet import SIGNS

    sign = SIGNS[condition]
    return PLAIN.get(sign, sign) if symbols.ascii else sign, COLOURS[condition]


class FleetRows(EntryRows):
    """Runs and races of a fleet, in the order in which they are given."""

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(symbols, id=id)
        self._names: Mapping[Path, str] = {}
        self._hosts = 5

    def show_fleet(self, entries: Sequence[Entry], names: Mapping[Path, str]) -> None:
        """Show entries under these names."""
        from reprotui.race.fleet import hosts_of

        hosts = max(5, min(HOSTS, max((len(" ".join(hosts_of(entry))) for entry in entries), default=0)))
        state = max((len(self._state(entry)[0]) for entry in entries), default=0)
        same = [entry.path for entry in entries] == [entry.path for entry in self.entries]
        if same and (names, hosts, state) == (self._names, self._hosts, self._state_width):
            # Most of what goes on are steps of a few: all other rows stay as they are drawn.
            before, self.entries = self.entries, tuple(entries)
            for index, (old, new) in enumerate(zip(before, entries, strict=True)):
                if old != new:
                    self.refresh_row(index)
            return
        self._names, self._hosts = names, hosts
        self.show(entries, ())
        self._name_width = min(MOST_NAME, max((len(name) for name in names.values()), default=8))
        self.refresh()

    def _headings(self, width: int) -> list[tuple[str, Cell]]:
        name, state, verdict = self._columns(width)
        texts = [("   name", name + 3, False), ("hosts", self._hosts + 1, False), (" state", state, False)]
        texts += [("rate", 9, True)] if width >= RATED else []
        texts.append(("  verdict", verdict, False))
        return [("", Cell(fit(text, room, self.symbols, right=right))) for text, room, right in texts]

    def cells(self, index: int, width: int) -> list[Cell]:
        from reprotui.race.fleet import hosts_of, rate_of

        entry, symbols = self.entries[index], self.symbols
        name, state, verdict = self._columns(width)
        sign, colour = sign_of(entry.condition, symbols)
        (both, _), rate = self._state(entry), rate_of(entry)
        return [
            Cell(f" {sign} ", colour),
            Cell(fit(self._names.get(entry.path, entry.name), name, symbols), "strong" if entry.alive else ""),
            Cell(f" {fit(' '.join(hosts_of(entry)) or '?', self._hosts, symbols)}", "muted"),
            Cell(fit(f" {both}", state, symbols), "muted"),
            *([Cell(fit("" if rate is None else rate_said(rate), 9, symbols, right=True), "muted")] if width >= RATED else []),
            Cell(f"  {fit(_said(entry), verdict - 2, symbols)}", colour if colour != "strong" else ""),
        ]

    def _columns(self, width: int) -> tuple[int, int, int]:
        """Return the widths of name, state and verdict."""
        state = self._short_state
        room = max(20, width - 3 - self._hosts - 1 - state - (9 if width >= RATED else 0))
        name = min(self._name_width, max(10, room // 3))
        return name, state, room - name


def _said(entry: Entry) -> str:
    """Return what is to be said of an entry in one line: its verdict, or what a run says of itself."""
    if entry.trouble:
        return entry.trouble.replace(f"{entry.path}/", "")
    alone = (text for member in entry.members for text in (*member.torn, member.why))
    verdict = entry.outcome.headline if entry.outcome else ""
    return f"{verdict or next(filter(None, alone), '')}{f'  · {entry.note}' if entry.note else ''}"


class GroupMap(Widget):
    """Groups against entries: a line a group, a sign an entry, the worst first. A click on a group chooses it."""

    DEFAULT_CSS = """
    GroupMap {
        width: 100%; height: auto; max-height: 40%; padding: 0 1; link-style: none; link-style-hover: underline;
        link-color: $foreground; link-color-hover: $foreground; link-background: transparent; link-background-hover: transparent;
    }
    """
    ALLOW_SELECT = False

    def __init__(self, symbols: Symbols, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.symbols = symbols
        self._groups: Sequence[Group] = ()
        self._by, self._chosen, self._told = "host", "", ""
        self._drawn: object = None

    def show(self, groups: Sequence[Group], by: str, chosen: str, told: str) -> None:
        """Show groups, which of them is chosen (none: empty), and a line below them."""
        drawn = (
            [(group.name, group.said, tuple(entry.condition for entry in group.entries)) for group in groups],
            by,
            chosen,
            told,
        )
        if drawn == self._drawn:
            return
        lines, self._drawn = (len(self._groups), bool(self._told)), drawn
        self._groups, self._by, self._chosen, self._told = groups, by, chosen, told
        self.refresh(layout=lines != (len(groups), bool(told)))

    @property
    def _most(self) -> int:
        """Return how many groups have room."""
        height = self.app.size.height
        return max(2, height // 3 - (1 if self._told else 0) - 1)

    def render(self) -> Content:
        width = max(20, self.size.width - 2)
        name = min(max([len(self._by), *(len(group.name) for group in self._groups)]), max(10, width // 3))
        lines = [Content.styled(f"  {fit(self._by, name, self.symbols)}{'differ':>{COUNT}}  worst first", "bold $muted")]
        shown = self._seen()
        lines += [self._line(index, group, name, width) for index, group in shown]
        if len(shown) < len(self._groups):
            lines[-1] = Content.styled(f"  and {len(self._groups) - len(shown) + 1} more", "$muted")
        if self._told:
            lines.append(Content.styled(fit(f"  {self._told}", width, self.symbols), "bold"))
        return Content("\n").join(lines)

    def _seen(self) -> list[tuple[int, Group]]:
        """Return the groups that have room, the chosen one among them."""
        most, numbered = self._most, list(enumerate(self._groups))
        place = next((index for index, group in numbered if group.name == self._chosen), 0)
        first = max(0, min(place - most + 2, len(numbered) - most))
        return numbered[first : first + most]

    def _line(self, index: int, group: Group, name: int, width: int) -> Content:
        chosen = group.name == self._chosen
        pointer = self.symbols.pointer if chosen else " "
        text = f"{pointer} {fit(group.name, name, self.symbols)}{group.said:>{COUNT}}  "
        style = "bold $on-verdict on $run-a" if chosen else "bold" if group.bad else ""
        head = Content.styled(text, style) if style else Content(text)
        head = head.stylize(f"@click=screen.group({index})")
        return head + self._signs(group.entries, width - len(text))

    def _signs(self, entries: Sequence[Entry], room: int) -> Content:
        more = f" +{len(entries) - room + 6}" if len(entries) > room else ""
        shown = entries[: max(0, room - 6) if more else room]
        # One span for neighbours of one condition: hundreds of them cost more than all else that is drawn.
        runs = groupby(shown, key=lambda entry: entry.condition)
        parts = [self._run(condition, sum(1 for _ in run)) for condition, run in runs]
        return Content("").join([*parts, Content.styled(plain(more, self.symbols), "$muted")])

    def _run(self, condition: Condition, count: int) -> Content:
        sign, colour = sign_of(condition, self.symbols)
        return Content.styled(sign * count, "bold" if colour == "strong" else f"${colour}")
