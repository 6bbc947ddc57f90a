"""The checklist: code version, environment, config, data split, seeds, keys, determinism, order, tests; an item a function."""

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reprotui.reproduce.dependencies import dependency_files, loose_dependencies
from reprotui.reproduce.lint import Finding
from reprotui.reproduce.lint.modules import Module
from reprotui.reproduce.sources import Project

_CONFIGS = ("config", "configs", "conf", "params", "settings", "hparams", "hyperparameters")
_CONFIG_SUFFIXES = (".json", ".yaml", ".yml", ".toml")
_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "pixi.lock", "Pipfile.lock", "conda-lock.yml", "pylock.toml")
_DETERMINISM = re.compile(
    r"enable_deterministic_mode|DeterministicConfig|DeterministicContext|use_deterministic_algorithms|cudnn\.deterministic\s*=\s*True"
    r"|xla_gpu_deterministic_ops|xla_gpu_exclude_nondeterministic_ops|enable_op_determinism"
)
_CODE_VERSION = re.compile(r"capture_environment|git_state|rev-parse|git\.Repo\(")
_REPRODUCIBILITY_TEST = re.compile(r"reproduc|determin|same_seed|bitwise|verify_", re.IGNORECASE)
_UNSEEDED = ("unseeded-python-random", "unseeded-numpy-random", "unseeded-torch-random")
_KEY_SOURCES = ("jax.random.key", "jax.random.PRNGKey")
_KEY_HELPERS = ("create_reproducible_rng", "jax_key", "split_keys", "derive_key", "purpose_key", "Rngs")


@dataclass(frozen=True)
class Check:
    """One line of the checklist: `status` is ok, missing, wrong or `does not apply`, `detail` what was found or what to do."""

    name: str
    status: str
    detail: str
    required: bool = True

    @property
    def failed(self) -> bool:
        """Whether the item counts against the project."""
        return self.status in ("missing", "wrong")


def _required_files(project: Project) -> Check:
    missing = []
    if not project.files("README*"):
        missing.append("README.md (how to install, run and repeat)")
    if not project.code:
        missing.append("a Python file that trains")
    if not dependency_files(project):
        missing.append("requirements.txt or pyproject.toml")
    if not (project.directory / "tests").is_dir() and not project.tests:
        missing.append("tests/")
    return _found("files", not missing, "README, code, dependencies and tests are there", f"add {', '.join(missing)}")


def _code_version(project: Project) -> Check:
    recorded = _mentions(project.code, _CODE_VERSION)
    tracked = any((folder / ".git").exists() for folder in (project.directory.resolve(), *project.directory.resolve().parents))
    return _found(
        "code version", recorded or tracked, "recorded with each run" if recorded else "tracked by git",
        "neither tracked by git nor recorded: git init, and save capture_environment() with each run", required=False,
    )  # fmt: skip


def _environment(project: Project) -> Check:
    if any(project.files(lock) for lock in _LOCKS):
        return Check("environment", "ok", "dependencies are locked")
    loose = [f"{path.name}:{line}: {text}" for path in dependency_files(project) for line, text in loose_dependencies(path)]
    if not dependency_files(project):
        return Check("environment", "missing", "pin the dependencies: requirements.txt with name==version")
    shown = "; ".join(loose[:3]) + (f" and {len(loose) - 3} more" if len(loose) > 3 else "")
    return _found(
        "environment", not loose, "dependencies are pinned", f"pin with name==version, or add a lock file: {shown}", "wrong"
    )


def _config(project: Project) -> Check:
    files = [path for suffix in _CONFIG_SUFFIXES for path in project.files(f"**/*{suffix}")]
    configs = [path for path in files if path.stem.lower() in _CONFIGS or set(path.parent.parts) & set(_CONFIGS)]
    names = ", ".join(path.relative_to(project.directory).as_posix() for path in configs[:3])
    return _found("config", bool(configs), names, "save the configuration as a file, such as config.json, with the seed in it")


def _data_split(project: Project) -> Check:
    broken = project.rules("unseeded-split")
    if broken:
        return Check("data split", "wrong", f"see {_places(broken)}")
    split = any(
        isinstance(node, ast.FunctionDef | ast.Name | ast.Attribute | ast.keyword) and "split" in (_name(node) or "").lower()
        for module in project.code
        for node in ast.walk(module.tree)
        if module.names.dotted(node) not in ("jax.random.split",)
    )
    return _found("data split", split, "made in code", "split the data in code, from a recorded seed", required=False)


def _seeds(project: Project) -> Check:
    wrong = project.rules(
        "time-seed", "unseeded-generator", *(f"unseeded-{name}-random" for name in ("python", "numpy", "torch"))
    )
    if wrong:
        return Check("seeds", "wrong", f"see {_places(wrong)}")
    seeded = {library for module in project.code for library in module.seeds}
    called = {name.rpartition(".")[2] for name in _calls(project.code)}
    if project.uses("torch") and "torch" not in seeded:
        return Check("seeds", "missing", "torch is used and nothing seeds it: call set_global_seed(seed)")
    made = called & {"default_rng", "Random", "RandomState", "create_reproducible_rng", "key", "PRNGKey"}
    remedy = "no seed is set in code: call set_global_seed(seed) where training starts"
    return _found("seeds", bool(seeded or made), "set in code", remedy)


def _keys(project: Project) -> Check:
    if not project.uses("jax"):
        return Check("keys", "does not apply", "jax is not used")
    if reused := project.rules("jax-key-reuse"):
        return Check("keys", "wrong", f"see {_places(reused)}")
    names = {
        _name(node) for module in project.code for node in ast.walk(module.tree) if isinstance(node, ast.Name | ast.Attribute)
    }
    made = bool(_calls(project.code) & set(_KEY_SOURCES)) or bool(names & set(_KEY_HELPERS))
    return _found("keys", made, "made from a seed, each used once", "no JAX key is made from a seed", required=False)


def _determinism(project: Project) -> Check:
    off = project.rules("cudnn-benchmark", "determinism-off", "loader-workers")
    if off:
        return Check("determinism", "wrong", f"see {_places(off)}")
    if not project.uses("torch") and not project.uses("jax"):
        return Check("determinism", "does not apply", "neither torch nor jax is used")
    ours = {f"reprotui.reproduce.{name}" for name in ("set_global_seed", "set_global_seeds", "set_seed")}
    on = _mentions(project.code, _DETERMINISM) or bool(_calls(project.code) & ours)
    return _found("determinism", on, "switched on", "call enable_deterministic_mode() before the first computation")


def _order(project: Project) -> Check:
    wrong = project.rules("set-order", "unsorted-listing", "hash-of-str")
    return _found("order", not wrong, "of sets, files and hashes does not matter", f"see {_places(wrong)}", "wrong")


def _tests(project: Project) -> Check:
    tests = [
        module
        for module in project.tests
        if any(
            isinstance(node, ast.FunctionDef) and node.name.startswith("test") and _REPRODUCIBILITY_TEST.search(ast.unparse(node))
            for node in ast.walk(module.tree)
        )
    ]
    return _found(
        "tests of reproducibility", bool(tests), ", ".join(module.file for module in tests),
        "test that training twice from a seed gives the same bits (verify_reproducibility)",
    )  # fmt: skip


CHECKS: tuple[Callable[[Project], Check], ...] = (
    _required_files, _code_version, _environment, _config, _data_split, _seeds, _keys, _determinism, _order, _tests,
)  # fmt: skip


def _found(name: str, ok: bool, what: str, remedy: str, otherwise: str = "missing", *, required: bool = True) -> Check:
    return Check(name, "ok" if ok else otherwise, what if ok else remedy, required)


def _places(findings: Iterable[Finding]) -> str:
    return ", ".join(dict.fromkeys(f"{finding.file}:{finding.line}" for finding in findings))


def _mentions(modules: Iterable[Module], pattern: re.Pattern[str]) -> bool:
    return any(pattern.search(ast.unparse(module.tree)) for module in modules)


def _calls(modules: Iterable[Module]) -> set[str]:
    return {module.names.called(node) for module in modules for node in ast.walk(module.tree) if isinstance(node, ast.Call)}


def _name(node: ast.AST) -> str | None:
    match node:
        case ast.FunctionDef():
            return node.name
        case ast.Name():
            return node.id
        case ast.Attribute():
            return node.attr
        case ast.keyword():
            return node.arg
    return None
