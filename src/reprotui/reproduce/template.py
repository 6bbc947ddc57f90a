"""Write a small project that trains, tests its own reproducibility, and passes `reprotui check` with the full score."""

import importlib.metadata
import keyword
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from reprotui.errors import BadInputError
from reprotui.reproduce.seeds import check_seed

FRAMEWORKS = ("jax", "pytorch", "both")
_SCRIPTS = {"jax": ("jax",), "pytorch": ("torch",), "both": ("jax", "torch")}
_PACKAGES = {"jax": ("jax", "jaxlib"), "torch": ("torch",)}
_PINS = {"numpy": "2.4.6", "jax": "0.10.2", "jaxlib": "0.10.2", "torch": "2.13.0", "pytest": "9.0.2"}
"""Versions that a project is pinned to where a package is not installed here; those installed are taken otherwise."""


@dataclass(frozen=True)
class TemplateConfig:
    """What to write: the project's name, its framework (`jax`, `pytorch` or `both`), and the numbers of its config."""

    name: str
    framework: str = "jax"
    seed: int = 42
    steps: int = 200
    batch_size: int = 32
    lr: float = 0.5


def create_reproducible_template(directory: Path | str, config: TemplateConfig) -> list[Path]:
    """Write a project.

    Args:
        directory: where; it must be empty or absent.
        config: what.

    Returns:
        The files, sorted.

    Raises:
        BadInputError: the directory holds something, or the name, the framework or a number is impossible.
    """
    directory = Path(directory)
    _check(directory, config)
    frameworks = _SCRIPTS[config.framework]
    scripts = [f"train_{framework}.py" for framework in frameworks]
    results = [f"results/{framework}.json" for framework in frameworks]
    gates = [
        f"      - run: reprotui gate --json-key {result}:digest -- python {script}"
        for script, result in zip(scripts, results, strict=True)
    ]
    values = {
        "name": config.name,
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


def _check(directory: Path, config: TemplateConfig) -> None:
    if config.framework not in FRAMEWORKS:
        raise BadInputError(f"framework {config.framework!r} is unknown: expected one of {', '.join(FRAMEWORKS)}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", config.name) or keyword.iskeyword(config.name):
        raise BadInputError(f"{config.name!r} is no name for a project: letters, digits, - and _, a letter first")
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
