"""The file of a lesson: numbered lines in colours, with a pointer at the one where the fault lies."""

from textual.content import Content
from textual.highlight import highlight
from textual.reactive import reactive
from textual.widgets import Static

from reprotui.tui.symbols import Symbols, plain


class LessonCode(Static):
    """Python code; `pointed` is the number of the line that the pointer stands at, None where it is nowhere."""

    DEFAULT_CSS = """
    LessonCode { width: auto; height: auto; text-wrap: nowrap; }
    """
    pointed: reactive[int | None] = reactive(None, layout=False)

    def __init__(self, symbols: Symbols, code: str) -> None:
        super().__init__()
        self._symbols = symbols
        text = "\n".join(plain(line, symbols) for line in code.rstrip().split("\n"))
        self._lines = highlight(text, language="python").split("\n", include_separator=False, allow_blank=True)

    def render(self) -> Content:
        lines = []
        for number, line in enumerate(self._lines, 1):
            at = number == self.pointed
            mark = (f"{self._symbols.pointer}{number:>3} ", "bold $differs") if at else (f" {number:>3} ", "$muted")
            lines.append(Content.assemble(mark, line.stylize("on $first-row") if at else line))
        return Content("\n").join(lines)
