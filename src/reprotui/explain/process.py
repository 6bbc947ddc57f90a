"""The process that takes a step again and reads its kernels: `python -m reprotui.explain.process DIRECTORY`.

It leaves `result.json` in the directory that holds its `request.json`, and then waits for one question on stdin: which
kernels' values are wanted.
"""

import json
import sys
from pathlib import Path

from reprotui.environment import capture_environment
from reprotui.errors import SAME, WORKER_FAILED, ReprotuiError
from reprotui.run_directory import write_json


def main(directory: Path) -> int:
    """Take the step that a directory's `request.json` asks for."""
    try:
        request = json.loads((directory / "request.json").read_text(encoding="utf-8"))
        # As a worker does: before jax is imported, which sets variables of its own.
        environment = capture_environment()
        from reprotui.explain.recompute import recompute, serve

        result, recomputation = recompute(request, directory)
        write_json(directory / "result.json", {**result, "environment": environment})
        print(json.dumps({"doing": "done", "step": 1, "of": 1}), flush=True)
        if recomputation is not None:
            serve(recomputation, directory)
    except ReprotuiError as error:
        write_json(directory / "result.json", {"error": str(error), "exit_code": error.exit_code})
        return error.exit_code or WORKER_FAILED
    return SAME


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
