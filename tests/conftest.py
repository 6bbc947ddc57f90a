"""What the tests share: the command line as a process, a warm compilation cache, and races that are run once."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from reprotui.manifest import MANIFEST_VERSION, RunManifest, to_json
from reprotui.run_directory import RunDirectory
from reprotui.trace import StepRow, Trace

SAMPLES = Path(__file__).resolve().parent.parent / "sample_runs"
MLP = ("digits-mlp", "width=32", "depth=1", "steps=20")
"""Small programs that most tests train: compiled once in a session."""
CNN = ("digits-cnn", "width=4", "depth=1", "steps=20")
TRANSFORMER = ("transformer", "width=16", "heads=2", "depth=1", "modulus=11", "steps=20")
ENDLESS = ("digits-mlp", "width=32", "depth=1", "steps=100000000")
"""The same program, for tests that end it themselves."""
QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""Halves the time to compile, which is most of what these tests take; equal bits stay equal."""
os.environ.setdefault("XLA_FLAGS", QUICK_COMPILATION)  # for tests that compile in their own process, before jax is there
PATIENCE = 600.0
"""Seconds after which something awaited counts as never coming; far more than any of it takes, also where others keep the cores
busy: some tests start six processes, and some a C++ compiler."""
_INHERITED = ("XLA_", "JAX_", "REPROTUI_", "PYTHON", "NPROC", "NO_COLOR", "FORCE_COLOR", "COLUMNS")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="K/N", help="of the slow tests, only the K-th of N parts (0/4 to 3/4)")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave an example of a slow test, `slow(but="id")`, in the default run; with `--part` choose among the slow ones."""
    for item in items:
        for mark in item.iter_markers("slow"):
            if mark.kwargs and item.name.endswith(f"[{mark.kwargs['but']}]"):
                item.own_markers.remove(mark)
    if part := config.getoption("--part"):
        number, _, count = part.partition("/")
        items[:] = [
            item
            for item in items
            if item.get_closest_marker("slow") is None or zlib.crc32(item.nodeid.encode()) % int(count) == int(number)
        ]


def eventually(what: str, condition: Callable[[], Any]) -> Any:
    """Return the first true value of a condition; fail where there is none within `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"never came: {what}")


def rows_of(path: Path) -> list[StepRow]:
    """Return all records of a run directory's trace."""
    with Trace(path / "trace.db") as trace:
        return list(trace.rows())


def events_of(path: Path) -> list[tuple[str, str]]:
    """Return kind and text of all events of a run directory's trace."""
    with Trace(path / "trace.db") as trace:
        return [(event.kind, event.text) for event in trace.events()]


def last_step(path: Path) -> int:
    """Return the newest record of a run that may not have started; -1 before the first."""
    trace = path / "trace.db"
    if not trace.exists() or not trace.stat().st_size:
        return -1
    with Trace(trace) as opened:
        step = opened.last_step()
    return -1 if step is None else step


def edit_manifest(path: Path, **changes: Any) -> None:
    """Change top-level entries of a run's manifest; a value that is a function gets the old entry."""
    manifest = json.loads((path / "run.json").read_text())
    for key, value in changes.items():
        manifest[key] = value(manifest.get(key)) if callable(value) else value
    (path / "run.json").write_text(json.dumps(manifest))


def parsed(entries: Mapping[str, Any]) -> RunManifest:
    """Return the manifest of a `run.json` with these entries."""
    return RunManifest.parse(to_json({"manifest_version": MANIFEST_VERSION, **entries}), "run.json")


LIMITED = """
import os, resource, sys
size = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Cli:
    """The command `reprotui` in a working directory of its own, with runs in `runs`."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory, self.environment = directory, environment
        self.runs = directory / "runs"
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object, file_size: int | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start a command and return its process.

        With `file_size`, every write past that many bytes fails in it and its children, as on a full disk. The limit is set
        by a process in between: forking this one, once jax has threads in it, would be an error of its own.
        """
        options = {"env": self.environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        command = [sys.executable, "-m", "reprotui", *map(str, arguments)]
        if file_size is not None:
            command = [sys.executable, "-c", LIMITED, str(file_size), *command]
        self.started.append(subprocess.Popen(command, cwd=self.directory, stdin=subprocess.DEVNULL, **options))
        return self.started[-1]

    def __call__(self, *arguments: object, exit_code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and check its exit code; no command may end in a traceback."""
        process = self.start(*arguments, **options)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()  # else it is the next test that fails for it
        said = f"{arguments}\n{out}\n{err}"
        assert exit_code is None or process.returncode == exit_code, f"exit code {process.returncode}: {said}"
        assert "Traceback" not in err, said
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def race(self, *arguments: object, exit_code: int | None = 0, name: str = "race", **options: Any) -> dict[str, Any]:
        """Race with `--json` and return the object."""
        done = self("race", *arguments, "--name", name, "--json", exit_code=exit_code, **options)
        return json.loads(done.stdout)

    def compare(self, *arguments: object, exit_code: int | None = 0) -> dict[str, Any]:
        """Compare with `--json` and return the object."""
        return json.loads(self("compare", *arguments, "--json", exit_code=exit_code).stdout)

    def write(self, name: str, text: str) -> Path:
        """Write a file into the working directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def _shared_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    # Under xdist every worker has its own base; what lies above is the session's.
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], Any]], Path]:
    """Return a function that makes a directory once in a session, however many processes test."""
    shared = _shared_directory(tmp_path_factory)
    shared.mkdir(exist_ok=True)

    def make(name: str, build: Callable[[Path], Any]) -> Path:
        path = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (path / "complete").exists():
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()
                build(path)
                (path / "complete").touch()
        return path

    return make


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment free of whatever the outside set for XLA, jax and reprotui."""
    shared = _shared_directory(tmp_path_factory)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_INHERITED)}
    platforms = os.environ.get("JAX_PLATFORMS", "cpu")  # `cuda,cpu` runs the tests on a GPU
    homes = {"XDG_CACHE_HOME": str(shared / "home-cache"), "XDG_STATE_HOME": str(shared / "home-state")}
    os.environ["XDG_STATE_HOME"] = homes["XDG_STATE_HOME"]  # what tests do in this process is done by the same user
    return {**inherited, **homes, "JAX_PLATFORMS": platforms, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def environment(once: Any, bare_environment: dict[str, str]) -> dict[str, str]:
    """Return the environment with a compilation cache that holds the small programs.

    jax's cache key does not contain the number of threads: runs with `threads=N` take `bare_environment`.
    """

    def with_cache(path: Path) -> dict[str, str]:
        return {
            **bare_environment,
            "XLA_FLAGS": QUICK_COMPILATION,
            "JAX_COMPILATION_CACHE_DIR": str(path / "xla"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }

    def warm(path: Path) -> None:
        cli = Cli(path, with_cache(path))
        for number, experiment in enumerate((MLP, CNN, TRANSFORMER)):
            cli("run", *experiment, "--name", f"warm-{number}")

    return with_cache(once("cache", warm))


@pytest.fixture
def reprotui(tmp_path: Path, environment: dict[str, str]) -> Iterator[Cli]:
    """Return the command line in the test's own directory; workers that a failed test leaves behind are killed."""
    cli = Cli(tmp_path, environment)
    yield cli
    for process in cli.started:
        if process.poll() is None:
            process.terminate()  # its workers with it, those that have not written down yet who they are
            process.communicate(timeout=PATIENCE)
    for manifest in cli.runs.glob("**/run.json"):
        process = json.loads(manifest.read_text()).get("process") or {}
        if RunDirectory(manifest.parent).state() == "running":
            os.kill(process["pid"], signal.SIGKILL)


@pytest.fixture(scope="session")
def race_once(once: Any, environment: dict[str, str]) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Return a function that runs a race once in a session and gives its directory and its JSON. Only read it."""

    def run(name: str, *arguments: str, exit_code: int) -> tuple[Path, dict[str, Any]]:
        def build(path: Path) -> None:
            found = Cli(path, environment).race(*arguments, exit_code=exit_code)
            (path / "race.json").write_text(json.dumps(found))

        path = once(name, build)
        return path / "runs" / "race", json.loads((path / "race.json").read_text())

    return run


@pytest.fixture
def sample(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies a recorded race of `sample_runs` into the test's directory."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(SAMPLES / name, tmp_path / name))

    return copy


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the dashboard's settings, and what it remembers, in the test's directory; return the settings file."""
    for name in ("NO_COLOR", "COLORTERM", "REPROTUI_RUNS"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "settings" / "settings.toml"
    monkeypatch.setenv("REPROTUI_SETTINGS", str(path))
    monkeypatch.chdir(tmp_path)
    return path
