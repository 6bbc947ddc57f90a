"""Write a small project that trains, tests its own reproducibility, and passes `reprotui check` with the full score."""

import importlib.metadata
import keyword
import re
from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from reprotui.errors import BadInputError
from reprotui.reproduce.seeds import check_seed
from reprotui.reproduce.values import NOT_GIVEN, one_of

FRAMEWORKS = ("jax", "pytorch")
_LIBRARIES = {"jax": "jax", "pytorch": "torch"}
"""What is imported, and names the scripts."""
_PACKAGES = {"jax": ("jax", "jaxlib"), "torch": ("torch",)}
_PINS = {"numpy": "2.4.6", "jax": "0.10.2", "jaxlib": "0.10.2", "torch": "2.13.0", "pytest": "9.0.2"}
"""Versions that a project is pinned to where a package is not installed here; those installed are taken otherwise."""


@dataclass(frozen=True)
class TemplateConfig:
    """What to write: the project, and the numbers of its config.

    Attributes:
        project_name: its name (also accepted as `name`); None for that of its directory.
        frameworks: `jax`, `pytorch`, or a list of both (also accepted as `framework`, where `both` is both).
        seed, steps, batch_size, lr: entries of its config.
    """

    project_name: str | None = NOT_GIVEN
    frameworks: Sequence[str] | str = NOT_GIVEN
    seed: int = 42
    steps: int = 200
    batch_size: int = 32
    lr: float = 0.5
    name: InitVar[str | None] = NOT_GIVEN
    framework: InitVar[Sequence[str] | str] = NOT_GIVEN

    def __post_init__(self, name: str | None, framework: Sequence[str] | str) -> None:
        own, other = (item if item is NOT_GIVEN else _listed(item) for item in (self.frameworks, framework))
        object.__setattr__(self, "frameworks", one_of("frameworks", own, "framework", other, ("jax",)))
        object.__setattr__(self, "project_name", one_of("project_name", self.project_name, "name", name, None))


def _listed(frameworks: Sequence[str] | str) -> tuple[str, ...]:
    names = (frameworks,) if isinstance(frameworks, str) else tuple(frameworks)
    return FRAMEWORKS if names == ("both",) else tuple(sorted(set(names)))


def create_reproducible_template(directory: Path | str, config: TemplateConfig | None = None) -> list[Path]:
    """Write a project.

    Args:
        directory: where; it must be empty or absent.
        config: what; `TemplateConfig()` by default.

    Returns:
        The files, sorted.

    Raises:
        BadInputError: the directory holds something, or the name, the framework or a number is impossible.
    """
    directory, config = Path(directory), config or TemplateConfig()
    name = directory.resolve().name if config.project_name is None else config.project_name
    _check(directory, name, config)
    frameworks = tuple(_LIBRARIES[framework] for framework in config.frameworks)
    scripts = [f"train_{framework}.py" for framework in frameworks]
    results = [f"results/{framework}.json" for framework in frameworks]
    gates = [
        f"      - run: reprotui gate --json-key {result}:digest -- python {script}"
        for script, result in zip(scripts, results, strict=True)
    ]
    values = {
        "name": name,
        "seed": config.seed,
        "steps": config.steps,
        "batch_size": config.batch_size,
        "lr": config.lr,
        "train_commands": "\n".join(f"python {script}" for script in scripts),
        "scripts_listed": ", ".join(f"`{script}`" for script in scripts),
        "first_script": scripts[0],
        "first_result": results[0],
        "gates": "\n".join(gates),
    }
    files = {
        "README.md": "README.md",
        "config.json": "config.json",
        ".gitignore": "gitignore",
        "checkpoints/README.md": "checkpoints.md",
        "config.py": "config.py",
        "data.py": "data.py",
        "tests/conftest.py": "conftest.py",
        ".github/workflows/reproducibility.yml": "workflow.yml",
    }
    texts = {name: _fill(source, values) for name, source in files.items()}
    texts["requirements.txt"] = _requirements(frameworks)
    for framework, script in zip(frameworks, scripts, strict=True):
        texts[script] = _fill(script, values)
        own = {**values, "script": script, "module": script.removesuffix(".py")}
        texts[f"tests/test_reproducibility_{framework}.py"] = _fill("test_reproducibility.py", own)
    for name, text in texts.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return sorted(directory / name for name in texts)


def _check(directory: Path, project: str, config: TemplateConfig) -> None:
    if not config.frameworks:
        raise BadInputError(f"no framework is named: expected one of {', '.join(FRAMEWORKS)}, or both")
    if unknown := next((name for name in config.frameworks if name not in FRAMEWORKS), None):
        raise BadInputError(f"framework {unknown!r} is unknown: expected one of {', '.join(FRAMEWORKS)}, or both")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", project) or keyword.iskeyword(project):
        raise BadInputError(f"{project!r} is no name for a project: letters, digits, - and _, a letter first")
    check_seed(config.seed)
    for name in ("steps", "batch_size", "lr"):
        if not getattr(config, name) > 0:
            raise BadInputError(f"{name} is {getattr(config, name)}: it must be positive")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadInputError(f"{directory} is not empty: name a directory that is new")


def _fill(name: str, values: dict[str, Any]) -> str:
    source = resources.files("reprotui.reproduce").joinpath("templates", f"{name}.template").read_text(encoding="utf-8")
    return Template(source).substitute(values)


def _requirements(frameworks: tuple[str, ...]) -> str:
    names = ["numpy", *(package for framework in frameworks for package in _PACKAGES[framework]), "pytest"]
    # A build such as 2.13.0+cpu lies on an index of its own: its public version is what can be installed.
    pins = [f"{name}=={_installed(name).partition('+')[0]}" for name in names]
    return "\n".join([*pins, f"reprotui=={importlib.metadata.version('reprotui')}"]) + "\n"


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return _PINS[name]
