"""Where a process that trains writes: the directory of its run, or of its rank, and what is known before its first step."""

import contextlib
import hashlib
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reprotui.errors import BadInputError, WorkerFailedError
from reprotui.manifest import Experiment, Kind, RunManifest
from reprotui.ranks import Rank, rank_path
from reprotui.run_directory import RunDirectory, check_name, create_directory, default_runs_directory
from reprotui.schedule import Recording

if TYPE_CHECKING:
    from reprotui.trace import Local

_OF_A_PROCESS = (
    "process",
    "environment",
    "devices",
    "program",
    "result",
    "seal",
    "rank",
    "world_size",
    "host",
    "job",
    "local_trace",
)
"""What a manifest says of one process of a run."""
SOURCES_LIMIT = 2000
"""Source files whose digests a manifest keeps."""


def with_sources(script: Experiment) -> Experiment:
    """Return a script with the digests of it and of every module that was imported from its folder: the code that ran."""
    if script.path is None:
        return script
    root = Path(script.path).resolve().parent
    files = {Path(script.path).resolve()}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and file.endswith(".py") and "site-packages" not in file and Path(file).resolve().is_relative_to(root):
            files.add(Path(file).resolve())
    digests = {}
    for path in sorted(files)[:SOURCES_LIMIT]:
        with contextlib.suppress(OSError):
            digests[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in digests.items()).encode()).hexdigest()
    return replace(script, source_digest=whole, sources=digests)


def script_of(argv: list[str]) -> Experiment:
    """Return what a manifest keeps of the script that a process runs."""
    path = Path(argv[0]) if argv and argv[0] and Path(argv[0]).is_file() else None
    return with_sources(Experiment(path.stem, str(path.resolve())) if path else Experiment("python"))


def local_trace(run: RunDirectory, recording: Recording) -> "Local | None":
    """Make the folder in which the trace grows, on a disk of this host, and note it in the manifest; None where it needs none.

    Raises:
        WorkerFailedError: it cannot be made.
    """
    if recording.local_seconds is None:
        return None
    from reprotui.trace import Local

    try:
        folder = Path(tempfile.mkdtemp(prefix="reprotui-trace-"))
    except OSError as error:
        raise WorkerFailedError(f"no folder for the trace can be made in $TMPDIR: {error.strerror or error}") from None
    run.update_manifest(local_trace=str(folder))
    return Local(folder, recording.local_seconds)


def begin_rank(run: RunDirectory, of_rank: RunDirectory) -> None:
    """Write the manifest that a rank begins with: that of the run as it was prepared."""
    kept = {key: value for key, value in run.manifest().document.items() if key not in _OF_A_PROCESS}
    of_rank.path.mkdir(parents=True, exist_ok=True)
    of_rank.write_manifest(kept)


def create(name: str | None, runs: Path | None, rank: Rank) -> RunDirectory:
    """Make the directory of a run that was started by hand, or of this process's part in it; return that of the run.

    Processes of one training find it by its name, or by what the launcher calls their job.
    """
    experiment, runs = script_of(sys.argv), runs or default_runs_directory()
    stem = _fit(str(experiment.name))[:60] or "run"
    path = (
        create_directory(runs, name, stem) if rank.of == 1 else _shared(runs, name, f"{stem}-{_fit(rank.job or '')[:30]}", rank)
    )
    manifest = RunManifest.new(
        Kind.SCRIPT, path.name, command_of_this_process(), Recording(), experiment=experiment, config={}
    )  # fmt: skip
    RunDirectory(rank_path(path, rank.number)).write_manifest(manifest.document)
    return RunDirectory(path)


def _fit(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._+-" else "-" for letter in text).lstrip("._+-")


def _shared(runs: Path, name: str | None, stem: str, rank: Rank) -> Path:
    """Return the directory of a run of several processes; whichever comes first makes it.

    Without a name it is the first one of its job in which this rank has not recorded yet: each rank counts alike.
    """
    candidates = [check_name(name)] if name is not None else [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    for path in (runs / candidate for candidate in candidates):
        own = RunDirectory(rank_path(path, rank.number))
        if own.manifest_path.exists():
            continue
        try:
            own.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInputError(f"{own.path} cannot be written: {error.strerror}; choose another with --runs-dir") from None
        return path
    raise BadInputError(f"{runs / candidates[0]} exists already: choose another --name, or delete it first")


def command_of_this_process() -> list[str]:
    """Return the command line that started this process, as it was typed where the platform tells."""
    original = getattr(sys, "orig_argv", None) or [sys.executable, *sys.argv]
    return ["python", *original[1:]]
