"""The one door for texts of others: leaf paths, configs, names, logs, messages. Whatever they hold, they are data to be shown.

A terminal obeys control characters, a page hides or turns what stands behind some of them, and two names that differ only in
such a character look alike. So each of them is written as its escape (`\\x1b`, `\\n`, `\\u202e`) wherever a text is shown.
"""

import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Control characters, format characters (those that turn the direction of writing too), halves of characters, separators."""


def visible(text: str) -> str:
    """Return a text on one line in which every character that is obeyed or not seen is written as its escape."""
    if text.isprintable():
        return text
    return "".join(character.encode("unicode_escape").decode() if unseen(character) else character for character in text)


def visible_log(line: str) -> str:
    """Return a line of a log or of a program, where tabs are meant: they are spaces, everything else is made visible."""
    return visible(line.rstrip("\r\n").expandtabs(4))


def unseen(character: str) -> bool:
    """Say whether a character is obeyed or not seen, and therefore escaped."""
    return unicodedata.category(character) in _UNSEEN


def json_text(value: Any) -> str:
    """Return a value as JSON text; NaN and infinities are the strings `nan`, `inf` and `-inf`, never bare tokens.

    What a terminal would obey is escaped as JSON does it, so that reading the text again gives the very same strings.
    """
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(_json_escape(character) if character != "\n" and unseen(character) else character for character in text)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it and UTF-8 can encode it; what JSON has no form for becomes text."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            # A file name that is not UTF-8 reaches Python with lone surrogates, which no encoder takes.
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case Mapping():
            return {plain(str(key)): plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [plain(entry) for entry in value]
    return plain(str(value))
