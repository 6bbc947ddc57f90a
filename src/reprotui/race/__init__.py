"""Start runs, watch them, pause and stop them. Nothing here trains, and nothing here writes a trace."""

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
