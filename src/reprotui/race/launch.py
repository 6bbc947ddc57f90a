"""Start one worker process with its environment complete: what XLA reads must be set before jax is imported."""

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from reprotui.experiments.discovery import python_of
from reprotui.manifest import Kind
from reprotui.race.priority import at_full_priority
from reprotui.race.scripts import start_script
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


def start_worker(run: RunDirectory, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start the worker of a prepared run, or its script, in a session of its own, with all output in its log."""
    return at_full_priority(lambda: _start_worker(run, environment))


def _start_worker(run: RunDirectory, environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    manifest, inherited = run.manifest(), os.environ if environment is None else environment
    if manifest.kind is Kind.SCRIPT:
        return start_script(run, manifest, inherited)
    with run.log_path.open("ab") as log:
        return subprocess.Popen(
            [*python_of(manifest), "-m", "reprotui.worker", str(run.path.absolute())],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            cwd=directory_of(manifest), env=launch_environment(manifest.config, inherited),
        )  # fmt: skip
