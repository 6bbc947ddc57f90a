"""Text for the eye: numbers, times, and what a hostile name may not do to a page."""

import re
from datetime import UTC, datetime
from typing import Any

_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, marks that turn the direction of writing, and halves of characters."""
_MARKDOWN = re.compile(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))")
_LINE_START = re.compile(r"^(\s*)([#+>=-]|\d+[.)](?=\s))")


def clean(value: str) -> str:
    """Return text without characters that a page must not hold; each becomes U+FFFD."""
    return _UNFIT.sub("\ufffd", value)


def number(value: Any, digits: int = 6) -> str:
    """Return a number in few digits, other values as text, and a dash for None."""
    if value is None:
        return "–"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


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
    line = " ".join(clean(value).split())
    escaped = _MARKDOWN.sub(r"\\\1", line)
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LINE_START.sub(r"\1\\\2", escaped)


def markdown_code(value: str) -> str:
    """Return text as a code span that fits into a table cell; text that holds backticks is escaped instead."""
    line = " ".join(clean(value).split())
    if not line or "`" in line or "\\" in line:
        return markdown_text(line)
    return "`" + line.replace("|", "\\|") + "`"


def markdown_block(value: str) -> str:
    """Return lines as a fenced block; the fence is longer than any run of backticks in them."""
    longest = max((len(found) for found in re.findall("`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{clean(value)}\n{fence}"
