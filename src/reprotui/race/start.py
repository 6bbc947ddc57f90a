"""Start the workers of runs, end them again, and the command line that starts the same race."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprotui.errors import ReprotuiError, WorkerFailedError
from reprotui.experiments.discovery import ExperimentReference
from reprotui.race.launch import Launch, Together, Worker, start_worker
from reprotui.race.prepare import Member, Request, prepare_race
from reprotui.race.script_race import ScriptRace
from reprotui.race.tolerance import remember
from reprotui.ranks import ranks_of
from reprotui.run_directory import RunDirectory

STOP_SECONDS = 20.0
"""How long a worker may take to finish its step and seal before it is killed."""

_NOTING = threading.Lock()

Processes = Mapping[str, Worker]
"""What was started for runs, by their labels (`A`, `B` …)."""


@dataclass(frozen=True)
class Started:
    """A race whose workers run: its directory, and their processes.

    `at_divergence`: what whoever watches it asks of all runs at the first difference, `stop` or `pause`. `finish`: to be called
    when nobody watches any more; it removes what was made for the race, or returns what runs that go on still need.
    """

    path: Path
    processes: Processes
    at_divergence: str | None = None
    finish: Callable[[], Sequence[Path]] | None = None


def start_race(
    request: Request, reference: ExperimentReference, members: Sequence[Member], tolerance: Sequence[str] = (),
    at_divergence: str | None = None,
) -> Started:  # fmt: skip
    """Prepare a race (see `prepare_race`) and start a worker for each member; the runs outlive this process.

    Args:
        request, reference, members: see `prepare_race`.
        tolerance, at_divergence: what the race remembers, see `reprotui.race.tolerance`.

    Raises:
        BadInputError: a config, the name or the place is unfit; nothing is left behind.
        WorkerFailedError: the system refuses another process; those that were started are stopped.
    """
    path, directories = prepare_race(request, reference, members)
    remember(path, tolerance, at_divergence)
    return Started(path, start(labelled(directories)), at_divergence)


def start_scripts(request: Request, race: ScriptRace, tolerance: Sequence[str] = (), at_divergence: str | None = None) -> Started:
    """Prepare a race of scripts and start them; see `start_race`."""
    path, directories = race.prepare(request)
    try:
        remember(path, tolerance, at_divergence)
        return Started(path, start(labelled(directories)), at_divergence, race.finish)
    except BaseException:
        race.finish()
        raise


def labelled(directories: Iterable[RunDirectory]) -> list[tuple[str, RunDirectory]]:
    """Return the runs of a race with the labels that they have on a screen."""
    return [(directory.path.name.upper(), directory) for directory in directories]


def start(
    runs: Iterable[tuple[str, RunDirectory]], environment: Mapping[str, str] | None = None, launch: Launch = start_worker
) -> Processes:
    """Start a worker, or the script, of each prepared run, in another environment where one is given; see `start_race`."""
    processes: dict[str, Worker] = {}
    runs = list(runs)
    together = launch.together(runs, environment) if isinstance(launch, Together) else {}
    for label, run in runs:
        try:
            process = processes[label] = together.get(label) or launch(run, environment)
            # Somebody must wait for it to the end, whichever screen is closed: what nobody waits for stays a zombie.
            threading.Thread(target=_see_end, args=(process, run), name=f"reprotui-{label}", daemon=True).start()
        except (OSError, ReprotuiError) as error:
            for process in processes.values():
                process.terminate()
            if isinstance(error, ReprotuiError):
                raise
            raise WorkerFailedError(f"the worker of {run.path} cannot be started: {error.strerror or error}") from None
    return processes


def _see_end(process: Worker, run: RunDirectory) -> None:
    """Wait for a process, and note where it left no seal; one writer at a time, because each writes the whole file."""
    process.wait()
    with _NOTING:
        for one in _ranks(run):
            one.note_end(process.gone)


def _ranks(run: RunDirectory) -> Iterable[RunDirectory]:
    try:
        return ranks_of(run.path, run.manifest()).values()
    except ReprotuiError:  # the directory may be gone
        return ()


@contextlib.contextmanager
def running(
    runs: Iterable[tuple[str, RunDirectory]], environment: Mapping[str, str] | None = None, launch: Launch = start_worker
) -> Generator[Processes]:
    """Start runs, and leave nothing of them behind."""
    started = list(runs)
    processes = start(started, environment, launch)
    try:
        yield processes
    finally:
        stop(processes)
        for label, run in started:
            _see_end(processes[label], run)


def stop(processes: Processes, seconds: float = STOP_SECONDS) -> None:
    """End workers: finish the step and seal; what has not ended after `seconds` is killed with its group."""
    alive = [process for process in processes.values() if process.poll() is None]
    for process in alive:
        process.terminate()
    deadline = time.monotonic() + seconds
    for process in alive:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Generator[subprocess.Popen[bytes]]:
    """Hold a process; on leaving, it has ended, killed if it had to be."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
