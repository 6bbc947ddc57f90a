"""The process that replays: `python -m reprotui.replay.process DIRECTORY`, started by `reprotui.replay.replay`.

It leaves `result.json` and the files of the state in the directory that holds its `request.json`. Progress goes to stdout, a
line a step.
"""

import json
import sys
from pathlib import Path

from reprotui.environment import capture_environment
from reprotui.errors import SAME, WORKER_FAILED, ReprotuiError
from reprotui.run_directory import write_json


def main(directory: Path) -> int:
    """Replay what a directory's `request.json` asks for."""
    try:
        request = json.loads((directory / "request.json").read_text(encoding="utf-8"))
        # As a worker does: before jax is imported, which sets variables of its own.
        environment = capture_environment()
        from reprotui.replay.rerun import Replay

        replay = Replay(request, directory)
        write_json(directory / "result.json", {**replay.run(), **replay.describe(), "environment": environment})
    except ReprotuiError as error:
        write_json(directory / "result.json", {"error": str(error), "exit_code": error.exit_code})
        return error.exit_code or WORKER_FAILED
    return SAME


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
