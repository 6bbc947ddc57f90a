"""Start runs, watch them, pause and stop them. Nothing here trains, and nothing here writes a trace."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprotui.race.launch import Recording, launch_environment, start_worker
    from reprotui.race.prepare import Member, prepare_race, prepare_run
    from reprotui.race.supervisor import RunProgress, Snapshot, Supervisor
    from reprotui.run_directory import members_of

__all__ = [
    "Member",
    "Recording",
    "RunProgress",
    "Snapshot",
    "Supervisor",
    "launch_environment",
    "members_of",
    "prepare_race",
    "prepare_run",
    "start_worker",
]

_HOMES = {
    "reprotui.race.launch": ("Recording", "launch_environment", "start_worker"),
    "reprotui.race.prepare": ("Member", "prepare_race", "prepare_run"),
    "reprotui.race.supervisor": ("RunProgress", "Snapshot", "Supervisor"),
    "reprotui.run_directory": ("members_of",),
}


def __getattr__(name: str) -> Any:
    # On demand: what starts runs needs pydantic, 70 ms that a dashboard on recorded runs does not wait for.
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
