"""Hold a JSON object against dataclasses that declare its form: entries by name, each of the type of its field."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import MISSING
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_origin


class UnfitError(Exception):
    """An entry is not what is expected."""


_WORDS = {str: "text", int: "whole number", bool: "true or false", Mapping: "object", tuple: "list"}


def entries(kind: type[Any], value: Mapping[str, Any], inside: str) -> Any:
    """Return a dataclass made of the entries of a JSON object that it has fields for."""
    found = {}
    for name, form, required in _form(kind):
        entry = value.get(name)
        if entry is not None:
            found[name] = _entry(form, entry, f"{inside}{name}")
        elif required:
            raise UnfitError(f"{f'{inside}{name}'!r} is missing")
    return kind(**found)


@functools.cache
def _form(kind: type[Any]) -> tuple[tuple[str, Any, bool], ...]:
    """Return name, type and whether there must be one of every field; of `X | None` the type is X."""
    found = []
    for item in dataclasses.fields(kind):
        form: Any = item.type
        if isinstance(form, UnionType):
            form = next(part for part in get_args(form) if part is not type(None))
        found.append((item.name, form, item.default is MISSING and item.default_factory is MISSING))
    return tuple(found)


def _entry(form: Any, value: Any, name: str) -> Any:
    """Return a JSON value as what a field is declared to be."""
    if form is Any:
        return value
    plain, item, has_fields = _declared(form)
    if has_fields:
        return entries(plain, _entry(Mapping, value, name), f"{name}.")
    if plain is tuple:
        return _items(item, value, name)
    if issubclass(plain, StrEnum):
        if value not in list(plain):
            raise UnfitError(f"{name!r} is {str(value)[:40]!r}, expected one of {', '.join(plain)}")
        return plain(value)
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise UnfitError(f"{name!r} is no {_WORDS[plain]} but {_kind(value)}")
    return value


@functools.cache
def _declared(form: Any) -> tuple[Any, Any, bool]:
    """Return what a type is without its arguments, the first of these, and whether it is a dataclass."""
    plain = get_origin(form) or form
    return plain, next(iter(get_args(form)), None), dataclasses.is_dataclass(plain)


def _items(item: Any, value: Any, name: str) -> tuple[Any, ...]:
    items = value if isinstance(value, list | tuple) else None
    if items is not None and dataclasses.is_dataclass(item):
        return tuple(_entry(item, one, f"{name}[{number}]") for number, one in enumerate(items))
    if items is None or not all(isinstance(one, item) for one in items):
        raise UnfitError(f"{name!r} is no list of {_WORDS.get(item, 'object')}s but {_kind(value)}")
    return tuple(items)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    names = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")
