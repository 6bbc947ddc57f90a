"""The title of the chart, on a rule of its own: a border's title would draw the whole chart again whenever it changes."""

from textual.content import Content
from textual.reactive import var
from textual.widget import Widget

from reprotui.compare.curves import View
from reprotui.numbers import short
from reprotui.race.status import RaceStatus
from reprotui.tui.symbols import Symbols, plain
from reprotui.tui.widgets.chart import LossChart


class ChartTitle(Widget):
    """What the chart shows, and the values at the crosshair; the class `-focused` says that the chart has the focus.

    Runs with one value share it (`A=B 0.897`), in the colour of what is equal: that is the chart's legend too.
    """

    DEFAULT_CSS = """
    ChartTitle {
        height: 1; color: $muted; background: $background;
        &.-focused { color: $foreground; text-style: bold; }
    }
    """
    ALLOW_SELECT = False
    status: var[RaceStatus | None] = var(None)
    step: var[int | None] = var(None)
    view: var[View] = var(View())

    def __init__(self, symbols: Symbols, chart: LossChart, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._symbols, self._chart = symbols, chart
        self._text = Content("")

    def on_mount(self) -> None:
        for name in ("log_scale", "part"):
            self.watch(self._chart, name, self.write, init=False)

    def write(self) -> None:
        """Write the title anew; nothing is drawn where it is the one that stands there."""
        room = self.size.width - 2 or 10_000
        # Where there is no room for all of it, what can be seen on the chart goes first, and the digits last.
        wordings = [(6, True, True), (5, True, True), (5, False, True), (4, False, True), (4, False, False), (3, False, False)]
        text = next(
            (text for wording in wordings if (text := self._content(*wording)).cell_length <= room),
            self._content(3, False, False),
        )
        if text != self._text or text.spans != self._text.spans:
            self._text = text
            self.refresh()

    watch_status = watch_step = watch_view = write

    def on_resize(self) -> None:
        self.write()

    def _content(self, digits: int, scale: bool, at: bool) -> Content:
        symbols, chart = self._symbols, self._chart
        dot = f" {symbols.dot} "
        words = [f"1 {self.view.title(symbols.delta)}"]
        if scale:
            words[0] += f", {'log' if chart.log_scale else 'linear'}"
            words += ["over time"] if self.view.clock else []
        words += ["zoomed"] if chart.zoomed else []
        parts = [Content(plain(dot.join(words), symbols))]
        if self.status is not None and self.step is not None:
            parts.append(Content(f"{dot}step {self.step}" if at else ""))
            parts += self._values(self.step, digits)
        return Content("").join(parts)

    def _values(self, step: int, digits: int) -> list[Content]:
        """Return what runs have at a step, those with one value together."""
        assert self.status is not None
        groups: dict[str, list[int]] = {}
        values = [run.at(step) for run in self._chart.curves.by_step]
        for index, value in enumerate(values):
            if not (self.view.apart and index == 0):
                groups.setdefault(repr(value), []).append(index)
        labels = [run.label for run in self.status.runs]
        parts = []
        for members in groups.values():
            together = len(members) > 1 and values[members[0]] is not None and not self.view.apart
            name = (" " if values[members[0]] is None else "=").join(labels[index] for index in members if index < len(labels))
            text = plain(f"{name} {short(values[members[0]], digits)}", self._symbols)
            parts += [Content("  "), Content.styled(text, "$equal" if together else f"$run-{'abcdefgh'[members[0]]}")]
        return parts

    def render(self) -> Content:
        rule, colour = "-" if self._symbols.ascii else "─", "$run-a" if self.has_class("-focused") else "$panel"
        room = max(0, self.size.width - self._text.cell_length - 1)
        return Content.assemble((rule, colour), self._text, (rule * room, colour))
