"""The configuration of an experiment as a file: `config.json` beside its logs, from whatever kind of config, and back."""

import argparse
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, TypeVar, overload

from reprotui.errors import BadInputError
from reprotui.run_directory import read_json, write_json

FILE = "config.json"

T = TypeVar("T")


def save_experiment_config(config: Any, log_dir: Path | str) -> Path:
    """Write a config to `config.json` in a directory, atomically; return the file.

    Args:
        config: a dict or another mapping, a dataclass, a pydantic model, an `ml_collections.ConfigDict`, an OmegaConf object, an
            `argparse.Namespace`; with texts, numbers, true, false, None, and lists and such configs of them. Tuples become
            lists, paths texts, enums their values.
        log_dir: made where it does not exist.

    Raises:
        BadInputError: something in it has no form in JSON, or the file cannot be written. The error names the entry.
    """
    value = json_value(config, "the config")
    if not isinstance(value, dict):
        raise BadInputError(f"a {type(config).__name__} is no config: give named entries, such as a dict or a dataclass")
    path = Path(log_dir) / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from None
    return path


@overload
def load_experiment_config(path: Path | str) -> dict[str, Any]: ...


@overload
def load_experiment_config(path: Path | str, kind: Callable[..., T]) -> T: ...


def load_experiment_config(path: Path | str, kind: Any = None) -> Any:
    """Read a config that `save_experiment_config` wrote.

    Args:
        path: the file, or the directory in which it lies as `config.json`.
        kind: what it is made into: a dataclass or a pydantic model, validated, or a function that takes a dict, such as
            `ml_collections.ConfigDict` and `OmegaConf.create`. A dict where it is left out.

    Raises:
        BadInputError: there is no such file, it holds something else, or it does not fit `kind`.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    value = read_json(path)
    if kind is None:
        return value
    if not (dataclasses.is_dataclass(kind) or hasattr(kind, "model_validate")):
        return kind(value)
    from pydantic import TypeAdapter, ValidationError

    try:
        config = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInputError(f"{path} does not fit {kind.__name__}: {place}: {first['msg']}") from None
    if lost := _lost(value, json_value(config, kind.__name__)):
        raise BadInputError(f"{path} does not fit {kind.__name__}, which has no entry {lost}")
    return config


def json_value(value: Any, place: str) -> Any:
    """Return a config or the like as JSON values.

    Args:
        value: see `save_experiment_config`.
        place: what it is called in errors.

    Raises:
        BadInputError: something in it has no form in JSON; the error names the entry.
    """
    match value:
        case Enum():
            return json_value(value.value, place)
        case None | bool() | int():
            return value
        case str() | PurePath():
            if not str(value).isascii():
                _check_text(str(value), place)
            return str(value)
        case float():
            if not math.isfinite(value):
                raise BadInputError(f"{place} is {value}, for which JSON has no form: leave it out, or give it as text")
            return value
        case argparse.Namespace():
            return json_value(vars(value), place)
        case Mapping():
            return {_key(key, place): json_value(item, f"{place}.{key}") for key, item in _items(value, place)}
        case Sequence() if not isinstance(value, bytes | bytearray | memoryview):
            return [json_value(item, f"{place}[{number}]") for number, item in _items(value, place)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: json_value(getattr(value, item.name), f"{place}.{item.name}") for item in dataclasses.fields(value)}
    if not isinstance(value, type):
        if callable(model_dump := getattr(value, "model_dump", None)):  # pydantic
            return json_value(model_dump(mode="json"), place)
        if callable(to_dict := getattr(value, "to_dict", None)):  # ml_collections
            return json_value(to_dict(), place)
        if getattr(value, "shape", None) == () and callable(item := getattr(value, "item", None)):  # a number of numpy's or jax's
            return json_value(item(), place)
    kind = value.__name__ if isinstance(value, type) else f"a {type(value).__name__}"
    raise BadInputError(f"{place} is {kind}, for which JSON has no form: give texts, numbers, and lists and mappings of them")


def _items(value: Mapping[Any, Any] | Sequence[Any], place: str) -> list[tuple[Any, Any]]:
    """Return keys and values of a container, which may compute them."""
    try:
        return list(value.items() if isinstance(value, Mapping) else enumerate(value))
    except Exception as error:  # an interpolation of OmegaConf that leads nowhere, an entry that must be given and is not
        raise BadInputError(f"{place} cannot be read: {str(error).splitlines()[0]}") from error


def _key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise BadInputError(f"{place} has the key {key!r}, for which JSON has no form: keys are texts")
    return _check_text(key, place)


def _check_text(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInputError(f"{place} holds {text!r}, which is no Unicode text") from None
    return text


def _lost(saved: Any, kept: Any, place: str = "") -> str | None:
    """Return an entry of saved JSON values that others do not have."""
    if not isinstance(saved, dict) or not isinstance(kept, dict):
        return None
    for name, value in saved.items():
        if name not in kept:
            return f"{place}{name}"
        if lost := _lost(value, kept[name], f"{place}{name}."):
            return lost
    return None
