"""Text for the eye: numbers, times, and what a hostile name may not do to a page."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from reprotui.foreign import visible, visible_log
from reprotui.numbers import short

_MARKDOWN = re.compile(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))")
_BLANKS = re.compile(r"[ \t\r\n]+")
_LINE_START = re.compile(r"^(\s*)([#+>=-]|\d+[.)](?=\s))")


def number(value: Any, digits: int = 6) -> str:
    """Return a number in few digits, other values as text, and a dash for None."""
    if value is None:
        return "–"
    return short(value, digits) if isinstance(value, float) else str(value)


def timestamp(time_ns: Any) -> str | None:
    """Return a UTC ISO time of nanoseconds since 1970, None where it is no such number."""
    if not isinstance(time_ns, int):
        return None
    try:
        return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, OSError, ValueError):
        return None


def markdown_text(value: str) -> str:
    """Return text that Markdown shows as it is, on one line, in a table too; HTML in it stays text."""
    line = _line(value)
    escaped = _MARKDOWN.sub(r"\\\1", line)
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LINE_START.sub(r"\1\\\2", escaped)


def markdown_code(value: str) -> str:
    """Return text as a code span that fits into a table cell; text that holds backticks is escaped instead."""
    line = _line(value)
    if not line or "`" in line or "\\" in line:
        return markdown_text(line)
    return "`" + line.replace("|", "\\|") + "`"


def _line(value: str) -> str:
    """Return text on one line: ends of lines are spaces here, as Markdown has them."""
    return visible(_BLANKS.sub(" ", value).strip(" "))


def markdown_block(lines: Iterable[str]) -> str:
    """Return lines as a fenced block; the fence is longer than any run of backticks in them."""
    value = "\n".join(map(visible_log, lines))
    longest = max((len(found) for found in re.findall("`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{value}\n{fence}"
