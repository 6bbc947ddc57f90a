"""What a readable report is made of: cards, and sections of tables and blocks. Markdown and HTML print the same ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cell:
    """A cell of a table: `code` for what is typed or computed, `mark` (`=`, `≠`, `?` or nothing) before the text."""

    text: str
    code: bool = False
    mark: str = ""


def mark_of(reference: Any, value: Any) -> str:
    """Return `=` or `≠` for a value against the reference's, `?` where one of them has none."""
    if (reference is None) != (value is None):
        return "?"
    return "=" if reference == value else "≠"


@dataclass(frozen=True)
class Table:
    """A table; `runs` says which columns belong to which run (its index), `strong` which row is the one to look at."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    runs: Mapping[int, int]
    strong: int | None = None


@dataclass(frozen=True)
class Block:
    """Lines as they are: commands, the end of a log."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """The place of the loss chart."""


@dataclass(frozen=True)
class Section:
    """A section with its title and content; a text is a paragraph."""

    title: str
    content: tuple[Table | Block | Chart | str, ...]


@dataclass(frozen=True)
class Card:
    """A verdict for the top of the page: `kind` as in Verdict, `rows` are (name, text), an empty name continues."""

    title: str
    kind: str
    symbol: str
    headline: str
    sentence: str
    rows: tuple[tuple[str, str], ...]
