"""reprotui: find when, where and why two training runs that should be the same are not."""

import importlib
from typing import TYPE_CHECKING, Any

from reprotui.version import __version__

if TYPE_CHECKING:
    from reprotui.record.recorder import Recorder
    from reprotui.record.session import StopTraining

__all__ = ["Recorder", "StopTraining", "__version__"]

_ON_DEMAND = {"Recorder": "reprotui.record.recorder", "StopTraining": "reprotui.record.session"}
"""Names that are loaded when they are asked for: whoever only reads runs starts without numpy and without a framework."""


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND:
        return getattr(importlib.import_module(_ON_DEMAND[name]), name)
    raise AttributeError(f"module 'reprotui' has no attribute {name!r}")
