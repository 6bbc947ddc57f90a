"""The process that trains: one a run, started by `python -m reprotui.worker DIRECTORY` with its environment complete."""
