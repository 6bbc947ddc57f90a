"""Start the process that takes a run's steps again, in the run's environment, and follow it to its result."""

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError, CannotTellError, ReprotuiError, WorkerFailedError
from reprotui.experiments.discovery import python_of
from reprotui.foreign import plain
from reprotui.manifest import to_json
from reprotui.replay.plan import Plan
from reprotui.run_directory import read_json, write_json
from reprotui.trust import directory_of, made_here
from reprotui.variables import recorded_environment

Progress = Callable[[int, int], None]
"""Called with steps done and steps to do; what it raises cancels the replay."""
LOG_LINES = 3


@contextlib.contextmanager
def workspace(place: Path | None) -> Generator[Path]:
    """Make a directory for one replay, gone at the end unless it was put into its place."""
    directory = Path(tempfile.mkdtemp(prefix=".replaying-", dir=place))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def started(
    plan: Plan, directory: Path, module: str, further: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """Start `python -m MODULE DIRECTORY` with the plan as its `request.json`; at the end it is gone.

    Args:
        plan: what is to be replayed.
        directory: gets `request.json` and `log`, and what the process leaves.
        module: of the process; questions go to its stdin, news come from its stdout.
        further: what the request says besides the plan.
        environment: of the process; None for the one that the run recorded.
    """
    request = {
        "manifest": {**plan.manifest.document, "restore": to_json(plan.restore)},
        "trace": str(plan.run.trace_path.absolute()), "step": plan.step, "until": plan.until, **further,
    }  # fmt: skip
    write_json(directory / "request.json", plain(request))  # a manifest of somebody else's may hold what JSON cannot, such as NaN
    environment = recorded_environment(plan.manifest) if environment is None else environment
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*python_of(plan.manifest), "-m", module, str(directory.absolute())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=dict(environment), start_new_session=True,
            # Another's manifest must not say where this process stands: git would be asked about that folder.
            cwd=directory_of(plan.manifest) if made_here(plan.manifest) else None,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def news(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Yield what a process says: `step` and `of`, and what else it names. It ends with the process."""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            said = json.loads(line)
            said["step"], said["of"] = int(said["step"]), int(said["of"])
        except (ValueError, KeyError, TypeError):
            continue  # an experiment may print
        yield said


def run_plan(
    plan: Plan, directory: Path, progress: Progress | None, environment: Mapping[str, str] | None, repeat: int
) -> dict[str, Any]:
    """Replay a plan; return what the process found."""
    with started(plan, directory, "reprotui.replay.process", {"repeat": repeat}, environment) as process:
        assert process.stdin is not None
        process.stdin.close()  # nothing is asked: an experiment that reads from there gets its end
        for said in news(process):
            if progress is not None:
                progress(said["step"], said["of"])
        process.wait()
    return result_of(plan, directory)


def result_of(plan: Plan, directory: Path) -> dict[str, Any]:
    """Return the result that a process left, or raise what it found wrong, or the end of its log."""
    try:
        result = read_json(directory / "result.json")
    except BadInputError:
        lines = (directory / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LOG_LINES:]
        raise WorkerFailedError(f"the replay of {plan.run.path} failed: {' / '.join(lines) or 'without a word'}") from None
    if "error" in result:
        kinds: dict[int, type[ReprotuiError]] = {
            BadInputError.exit_code: BadInputError,
            CannotTellError.exit_code: CannotTellError,
        }
        raise kinds.get(result["exit_code"], WorkerFailedError)(f"{plan.run.path} cannot be replayed: {result['error']}")
    return result
