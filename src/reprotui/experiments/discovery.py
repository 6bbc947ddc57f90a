"""Find an experiment by name or in a user's file, and resolve configs for it without importing jax here."""

import difflib
import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError, ReprotuiError
from reprotui.experiments.config import ExperimentConfig, field_phases, make_config
from reprotui.experiments.registry import BUILT_IN, DEFAULT
from reprotui.integrity import file_digest
from reprotui.manifest import Experiment, RunManifest

IMPORT_SECONDS = 120
"""How long a user's file may take to import before it is given up."""


@dataclass(frozen=True)
class ExperimentReference:
    """An experiment that was found but not imported: its name, and its file where it is a user's."""

    name: str
    path: Path | None

    @property
    def source_digest(self) -> str:
        """Return the SHA-256 of the source file that defines the experiment."""
        path = self.path
        if path is None:
            spec = importlib.util.find_spec(BUILT_IN[self.name].module)
            assert spec is not None and spec.origin is not None
            path = Path(spec.origin)
        return file_digest(path)

    @property
    def recorded(self) -> Experiment:
        """Return what the manifest of a run keeps of it."""
        return Experiment(self.name, None if self.path is None else str(self.path), self.source_digest)


@dataclass(frozen=True)
class ResolvedConfig:
    """A validated config as JSON, and for every field the phases that it can change."""

    values: dict[str, Any]
    phases: dict[str, list[str]]


def find_experiment(name: str | None) -> ExperimentReference:
    """Return the experiment that a name or a path means; None is the default one.

    Raises:
        BadInputError: there is no such experiment or file.
    """
    name = name or DEFAULT
    if name in BUILT_IN:
        return ExperimentReference(name, None)
    path = Path(name).expanduser()
    if path.suffix == ".py" or "/" in name:
        if not path.is_file():
            raise BadInputError(f"experiment file {path} does not exist" if not path.exists() else f"{path} is not a file")
        return ExperimentReference(path.stem, path.resolve())
    close = difflib.get_close_matches(name, BUILT_IN, n=1)
    hint = f"did you mean {close[0]}?" if close else f"built in are {', '.join(BUILT_IN)}; or give the path of a .py file"
    raise BadInputError(f"there is no experiment {name!r}: {hint}")


def recorded_experiment(named: Experiment) -> ExperimentReference:
    """Return the experiment that a run's manifest names.

    Raises:
        BadInputError: it names none that can be found here.
    """
    name = str(named.name)
    if named.path is None:
        if name not in BUILT_IN:
            raise BadInputError(f"its manifest names the experiment {name!r}, which is not built in, and no file")
        return ExperimentReference(name, None)
    if not Path(named.path).is_absolute():
        raise BadInputError(f"its manifest names the experiment file {named.path}, expected an absolute path: it was edited")
    return ExperimentReference(name, Path(named.path))


def python_of(manifest: RunManifest) -> list[str]:
    """Return the Python that trains a run, with its options.

    What trains a built-in experiment imports nothing from the folder that it stands in: that may be anybody's. A file's may:
    it may import what lies where its run was started.
    """
    return [sys.executable, *([] if manifest.experiment.path else ["-P"])]


def resolve_configs(reference: ExperimentReference, overrides: list[dict[str, Any]]) -> list[ResolvedConfig]:
    """Validate the overrides of several runs of an experiment.

    A built-in experiment's configs are resolved here; a user's file is imported in a process of its own, because it
    may import jax and do anything else.

    Raises:
        BadInputError: wrong keys or values, or a file that is not an experiment; the message says what it lacks.
    """
    if reference.path is None:
        model = BUILT_IN[reference.name].config
        return [_resolve(model, item, reference.name) for item in overrides]
    answer = ask_file(reference.path, "reprotui.experiments.discovery", overrides)
    return [ResolvedConfig(values, answer["phases"]) for values in answer["configs"]]


def ask_file(path: Path, module: str, question: Any) -> dict[str, Any]:
    """Ask a module, run in a process of its own, about a user's file; `answer_about` is its other end.

    Raises:
        BadInputError: the file cannot be imported, takes too long, or is not an experiment.
    """
    command = [sys.executable, "-m", module, str(path), json.dumps(question)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=IMPORT_SECONDS)
    except subprocess.TimeoutExpired:
        raise BadInputError(f"{path} was not imported within {IMPORT_SECONDS} s: does it train at import?") from None
    text = result.stdout.rpartition("\x00")[2]
    if result.returncode or not text:
        lines = result.stderr.strip().splitlines() or ["it ended without a word"]
        raise BadInputError(f"{path} cannot be imported: {lines[-1]}")
    answer = json.loads(text)
    if "error" in answer:
        raise BadInputError(answer["error"])
    return answer


def answer_about(arguments: list[str], answer: Callable[[type[ExperimentConfig], str, Any], dict[str, Any]]) -> None:
    """Answer `ask_file` on standard output.

    Args:
        arguments: the file, and the question as JSON.
        answer: gets config class, file name and question, and returns what can be JSON.
    """
    path = Path(arguments[0])
    try:
        found = answer(_class_from_file(path).Config, path.name, json.loads(arguments[1]))
    except ReprotuiError as error:
        found = {"error": str(error)}
    # Behind a NUL, because the user's file may print.
    sys.stdout.write("\x00" + json.dumps(found))


def load_experiment_class(reference: ExperimentReference) -> Any:
    """Import an experiment's class; for workers, which may import jax.

    Raises:
        BadInputError: the file cannot be imported or lacks a part of the protocol.
    """
    if reference.path is None:
        built_in = BUILT_IN[reference.name]
        return getattr(importlib.import_module(built_in.module), built_in.name)
    return _class_from_file(reference.path)


def _class_from_file(path: Path) -> Any:
    from reprotui.experiments.protocol import METHODS

    spec = importlib.util.spec_from_file_location(f"reprotui_experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadInputError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    # The file's own folder first, as for a script: it may import what lies beside it.
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        line = _line_of(path, error)
        raise BadInputError(f"{path}{line} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, "Experiment", None)
    if not isinstance(found, type) or found.__module__ != spec.name:
        raise BadInputError(f"{path} lacks `class Experiment` with {', '.join(METHODS)}: see reprotui docs recorder")
    lacking = [signature for name, signature in METHODS.items() if not callable(getattr(found, name, None))]
    if lacking:
        raise BadInputError(f"{path}: class Experiment lacks {'; '.join(lacking)}")
    config = getattr(found, "Config", None)
    if config is None:
        found.Config = ExperimentConfig
    elif not (isinstance(config, type) and issubclass(config, ExperimentConfig)):
        raise BadInputError(f"{path}: Experiment.Config must inherit from reprotui.experiments.ExperimentConfig")
    return found


def _line_of(path: Path, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f":{error.lineno}" if error.lineno else ""
    frame, line = error.__traceback__, ""
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == str(path):
            line = f":{frame.tb_lineno}"
        frame = frame.tb_next
    return line


def _resolve(model: type[ExperimentConfig], overrides: dict[str, Any], name: str) -> ResolvedConfig:
    return ResolvedConfig(make_config(model, overrides, name).model_dump(mode="json"), field_phases(model))


def _configs(model: type[ExperimentConfig], name: str, overrides: list[dict[str, Any]]) -> dict[str, Any]:
    return {"configs": [_resolve(model, item, name).values for item in overrides], "phases": field_phases(model)}


if __name__ == "__main__":
    answer_about(sys.argv[1:], _configs)
