"""What the writer of a checkpoint says of it, and what verifying it showed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from reprotui.integrity.status import Result, Status
from reprotui.reproduce.values import Record

_TYPES = {"step": int, "seed": int, "framework": str, "description": str}


@dataclass(frozen=True, eq=False)
class CheckpointMetadata(Record):
    """What a checkpoint is of, as far as its writer says: JSON values. Kept beside the manifest, and bound to it.

    As a mapping it is what its writer gave: `metadata["step"]`, `metadata["hardware"]["num_gpus"]`; the entries of `extra` stand
    beside the fields.
    """

    step: int | None = None
    seed: int | None = None
    framework: str | None = None
    description: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> Self:
        """Return the metadata with these entries; those that are called like a field, and are of its type, are that field."""
        own = {name: value for name, value in entries.items() if name in _TYPES and type(value) is _TYPES[name] and value != ""}
        return cls(**own, extra={name: value for name, value in entries.items() if name not in own})

    def to_json(self) -> dict[str, Any]:
        """Return the entries as a JSON object."""
        own = {name: getattr(self, name) for name in _TYPES}
        return {name: value for name, value in own.items() if value not in (None, "")} | dict(self.extra)


@dataclass(frozen=True)
class Verification(Result):
    """The outcome of a verification: its `status`, the findings, the digests. True in a condition only where VALID."""

    metadata: CheckpointMetadata | None = None

    def __bool__(self) -> bool:
        return self.status is Status.VALID

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {**super().to_json(), "metadata": None if self.metadata is None else self.metadata.to_json()}
