"""What results and settings of this library have in common: results that are mappings too, and settings with two names."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from reprotui.errors import BadInputError


class Record(Mapping[str, Any]):
    """A result whose entries are read as attributes or by name: `info.seed` and `info["seed"]`; `dict(info)` is JSON."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the entries as a JSON object."""

    def __getitem__(self, name: str) -> Any:
        return self.to_json()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_json())

    def __len__(self) -> int:
        return len(self.to_json())


class _NotGiven:
    def __repr__(self) -> str:
        return "not given"


NOT_GIVEN: Any = _NotGiven()
"""The default of a setting that has two names, so that it is known which of them was given."""


def one_of(name: str, value: Any, other: str, other_value: Any, default: Any = NOT_GIVEN) -> Any:
    """Return a setting that can be given under two names.

    Raises:
        BadInputError: both were given, with different values; or neither was, and there is no default.
    """
    if value is NOT_GIVEN:
        value = default if other_value is NOT_GIVEN else other_value
    elif other_value is not NOT_GIVEN and other_value != value:
        raise BadInputError(f"{name}={value!r} contradicts {other}={other_value!r}: they are one setting, give it once")
    if value is NOT_GIVEN:
        raise BadInputError(f"{name} is not given")
    return value
