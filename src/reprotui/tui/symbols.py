"""The signs on the screen, and their plain forms where the terminal shows no Unicode."""

import locale
import os
from dataclasses import dataclass

from reprotui.foreign import visible


@dataclass(frozen=True)
class Symbols:
    """Signs by what they mean; each is one cell wide, so that columns stand."""

    ascii: bool
    equal: str
    differs: str
    near: str
    unknown: str
    nothing: str
    pointer: str
    marked: str
    open: str
    closed: str
    line: str
    cross: str
    dot: str
    delta: str
    arrow: str
    left: str
    right: str

    def judge(self, differs: bool | None) -> tuple[str, str]:
        """Return sign and colour of what differs, is equal, or cannot be told (None)."""
        if differs is None:
            return self.unknown, "unknown"
        return (self.differs, "differs") if differs else (self.equal, "equal")

    def checked(self, found: str) -> tuple[str, str]:
        """Return text and colour of what a run's own checks found at a step; see `compare.watched.marks_of`."""
        signs = {"recomputed": (self.equal, "equal"), "corrupt": (self.differs, "differs"), "spike": ("!", "unknown")}
        sign, colour = signs.get(found, ("", "muted"))
        return f"{sign} {found}".strip(), colour


UNICODE = Symbols(False, "=", "≠", "≈", "?", "–", "▸", "●", "▾", "▸", "│", "┊", "·", "Δ", "→", "◂", "▸")
ASCII = Symbols(True, "=", "#", "~", "?", "-", ">", "*", "v", ">", "|", ":", ".", "d", "->", "<", ">")


def choose(setting: str) -> Symbols:
    """Return the signs that a setting (`auto`, `unicode`, `ascii`) means; `auto` asks the locale.

    Python reads UTF-8 under the C locale too, so the variables are asked: a terminal in that locale draws boxes as letters.
    """
    if setting == "auto":
        variables = (os.environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG"))
        named = next((value for value in variables if value), "")
        encoding = locale.getencoding() if named else "ascii"
        utf8 = "utf" in named.lower() or ("utf" in encoding.lower() and named not in ("C", "POSIX"))
        return UNICODE if utf8 else ASCII
    return ASCII if setting == "ascii" else UNICODE


def plain(text: str, symbols: Symbols) -> str:
    """Return a text for the screen, on one line: nothing of it is obeyed, and signs are in their plain forms where `symbols` are.

    Every text of the runs passes here on its way to a widget.
    """
    text = visible(text)
    if not symbols.ascii:
        return text
    for fancy, simple in (("≠", "!="), ("·", "-"), ("→", "->"), ("–", "-"), ("−", "-"), ("×", "x"), ("…", "..."), ("Δ", "d")):
        text = text.replace(fancy, simple)
    return text.encode("ascii", "replace").decode()
