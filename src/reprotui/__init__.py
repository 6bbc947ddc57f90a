"""reprotui: find when, where and why two training runs that should be the same are not."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprotui.record.recorder import Recorder
    from reprotui.record.session import StopTraining

__version__ = "0.1.0"
__all__ = ["Recorder", "StopTraining", "__version__"]


def __getattr__(name: str) -> Any:
    # On demand: whoever only reads runs starts without numpy and without a framework.
    if name == "Recorder":
        from reprotui.record.recorder import Recorder

        return Recorder
    if name == "StopTraining":
        from reprotui.record.session import StopTraining

        return StopTraining
    raise AttributeError(f"module 'reprotui' has no attribute {name!r}")
