"""Start one worker process with its environment complete: what XLA reads must be set before jax is imported."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from reprotui.experiments.discovery import python_of
from reprotui.manifest import Kind
from reprotui.race.priority import at_full_priority
from reprotui.race.scripts import start_of_script
from reprotui.run_directory import RunDirectory
from reprotui.trust import directory_of
from reprotui.variables import with_cache


def launch_environment(config: Mapping[str, Any], inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker.

    Args:
        config: the run's config; `threads`, `deterministic` and `xla_flags` are read.
        inherited: the environment to start from; its own XLA_FLAGS come first.
    """
    environment = dict(inherited)
    flags = [environment.get("XLA_FLAGS", "")]
    if config["deterministic"]:
        flags.append("--xla_gpu_deterministic_ops=true")
    flags.append(config["xla_flags"])
    joined = " ".join(flag for flag in flags if flag)
    if joined:
        environment["XLA_FLAGS"] = joined
    if config["threads"]:
        # The size of the CPU backend's thread pool is an input of the numerics; NPROC sets it.
        environment["NPROC"] = str(config["threads"])
    environment.setdefault("PYTHONHASHSEED", "0")
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    return with_cache(environment)


@dataclass(frozen=True)
class Start:
    """How a prepared run is started: its command, the folder, and all variables."""

    words: Sequence[str]
    directory: str
    variables: Mapping[str, str]


class Worker(Protocol):
    """A run that was started, by whatever started it: a process here, or a job of an engine.

    Attributes:
        said: what is worth knowing of it while it has not begun, or where it ended badly; empty otherwise.
        waits: it has no host, not yet or not any more.
        gone: how it ended, where that is certain for all its processes on whatever host; empty otherwise.
    """

    @property
    def said(self) -> str: ...
    @property
    def waits(self) -> bool: ...
    @property
    def gone(self) -> str: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


Launch = Callable[[RunDirectory, Mapping[str, str] | None], Worker]
"""Starts a prepared run, in another environment where one is given."""


@runtime_checkable
class Together(Protocol):
    """Starts all runs of a race as one, where they share what they train on."""

    def together(
        self, runs: Sequence[tuple[str, RunDirectory]], environment: Mapping[str, str] | None = None
    ) -> Mapping[str, Worker]: ...


class LocalWorker(subprocess.Popen[bytes]):
    """A worker on this host, in a session of its own."""

    said = gone = ""
    waits = False

    def kill(self) -> None:
        """Kill it, with all that it started where it leads a session of its own."""
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, signal.SIGKILL)
        super().kill()


def start_of(run: RunDirectory, environment: Mapping[str, str] | None = None) -> Start:
    """Return how a prepared run is started, in another environment than this one where one is given."""
    manifest, inherited = run.manifest(), os.environ if environment is None else environment
    if manifest.kind is Kind.SCRIPT:
        words, directory, variables = start_of_script(run, manifest, inherited)
        return Start(words, directory, variables)
    words = [*python_of(manifest), "-m", "reprotui.worker", str(run.path.absolute())]
    return Start(words, str(directory_of(manifest)), launch_environment(manifest.config, inherited))


def start_worker(run: RunDirectory, environment: Mapping[str, str] | None = None) -> LocalWorker:
    """Start the worker of a prepared run, or its script, in a session of its own, with all output in its log."""
    return at_full_priority(lambda: _start_worker(run, environment))


def _start_worker(run: RunDirectory, environment: Mapping[str, str] | None) -> LocalWorker:
    start = start_of(run, environment)
    with run.log_path.open("ab") as log:
        return LocalWorker(
            start.words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=start.directory,
            env=start.variables,
        )  # fmt: skip
