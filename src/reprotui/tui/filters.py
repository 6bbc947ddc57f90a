"""The last doors before the terminal: nothing is obeyed, and in ASCII mode whatever a widget draws becomes ASCII."""

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from reprotui.foreign import unseen

_SIGNS = {
    "-": "─━╌╍═╴╶▔–−", "_": "▁", "|": "│┃║▊▎▐▌▏▕▋▍▉", "+": "╭╮╰╯┌┐└┘├┤┬┴┼╔╗╚╝┏┓┗┛╋", " ": "▂▃▄▅▆▇▀\u00a0",
    "#": "█▓▒░≠■", "*": "•●○◉", ".": "…·", ">": "→▸▶❯", "<": "←◂◀❮", "v": "↓▾▼", "^": "↑▴▲", "x": "×✕", "d": "Δ",
}  # fmt: skip
_TABLE = {ord(sign): plain for plain, signs in _SIGNS.items() for sign in signs}


class UnseenFilter(LineFilter):
    """Leave out what a terminal would obey: widgets show it as escapes, and a text that is pasted comes another way."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return segments of the same width: what is left out takes no cell."""
        return [
            segment if segment.control or segment.text.isprintable() else Segment(_seen(segment.text), segment.style)
            for segment in segments
        ]


def _seen(text: str) -> str:
    return "".join(character for character in text if not unseen(character))


class AsciiFilter(LineFilter):
    """Replace every other character by one that is as wide, so that columns stand."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return segments of ASCII alone."""
        return [
            segment if segment.control or segment.text.isascii() else Segment(to_ascii(segment.text), segment.style)
            for segment in segments
        ]


def to_ascii(text: str) -> str:
    """Return a text in ASCII that takes as many cells; what has no likeness is a question mark."""
    text = text.translate(_TABLE)
    return text if text.isascii() else "".join(sign if sign.isascii() else "?" * cell_len(sign) for sign in text)
