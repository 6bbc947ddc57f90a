"""Reading what others wrote and signed, strictly: whatever is not exactly the format is named, never guessed at."""

import json
from typing import Any, TypeVar

Kind = TypeVar("Kind")


class MalformedError(Exception):
    """It is not what it claims to be; the text ends a sentence that begins with its name."""


class UnsupportedError(Exception):
    """It may be good, and cannot be checked here; the text names the method that it was made by."""


def strict_json(raw: bytes, what: str) -> dict[str, Any]:
    """Return a JSON object of UTF-8 text without byte-order mark, in which no key stands twice.

    Raises:
        MalformedError: it is something else.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError(f"{what} is not UTF-8 text") from None
    if text.startswith("\ufeff"):
        raise MalformedError(f"{what} begins with a byte-order mark")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise MalformedError(f"{what} is nested too deep") from None
    except ValueError:
        raise MalformedError(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, inner in pairs:
        if name in value:
            raise MalformedError(f"holds the field {shown(name)} twice")
        value[name] = inner
    return value


def _no_constant(name: str) -> None:
    raise MalformedError(f"holds {name}, which JSON has not")


def field(value: dict[str, Any], name: str, kind: type[Kind], what: str) -> Kind:
    """Return a field that must be there and be of a kind."""
    if name not in value:
        raise MalformedError(f"{what} has no {name}")
    found = value[name]
    if not isinstance(found, kind):
        raise MalformedError(f"{what} has a {name} of another type than the format's")
    return found


def only(value: dict[str, Any], names: tuple[str, ...], what: str) -> None:
    """Raise where there are fields besides these."""
    if unknown := sorted(set(value) - set(names)):
        raise MalformedError(f"{what} has an unknown field {shown(unknown[0])}")


def shown(text: object) -> str:
    """Return foreign text so that it cannot be taken for anything else: quoted, escaped, cut."""
    return ascii(str(text)[:80])
