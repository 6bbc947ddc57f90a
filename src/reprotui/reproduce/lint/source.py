"""Lint a file, or a project whose files may seed each other's generators."""

import ast
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from reprotui.reproduce.lint import keys, order, randomness, settings
from reprotui.reproduce.lint.findings import RULES, Finding, apply_suppressions
from reprotui.reproduce.lint.modules import Module, inherited_seeds

IGNORED_DIRECTORIES = frozenset({"build", "dist", "node_modules", "site-packages", "venv", "env", "__pycache__"})
"""Directories that hold other people's code; those whose name begins with a dot are skipped too."""

_DELIBERATE_IN_TESTS = frozenset({"jax-key-reuse", "set-order", "hash-of-str"})
"""A test gives the same key twice to see the same numbers, and compares sets."""


def lint_file(path: Path | str) -> list[Finding]:
    """Return the findings in one file, read on its own."""
    path = Path(path)
    return _lint([path], path.parent)[0]


def lint_project(directory: Path | str) -> tuple[list[Finding], list[Module]]:
    """Return the findings in all Python files of a directory, and its modules, in the order of their paths.

    A global generator counts as seeded in a module where the module itself or one that imports it, directly or not, seeds
    it. Other people's code (environments, builds, hidden directories) is skipped.
    """
    directory = Path(directory)
    return _lint(python_files(directory), directory)


def python_files(directory: Path) -> list[Path]:
    """Return the Python files of a project, sorted."""
    found = []
    for path in sorted(directory.rglob("*.py")):
        folders = path.relative_to(directory).parts[:-1]
        if not any(part in IGNORED_DIRECTORIES or part.startswith(".") for part in folders) and path.is_file():
            found.append(path)
    return found


def _lint(paths: Iterable[Path], root: Path) -> tuple[list[Finding], list[Module]]:
    findings: list[Finding] = []
    modules: list[Module] = []
    package = _package(root)
    for path in paths:
        file = path.relative_to(root).as_posix()
        try:
            source = path.read_text(encoding="utf-8-sig")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about escapes in other people's strings
                tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError) as error:
            line = getattr(error, "lineno", None) or 1
            message = f"the file is not valid Python: {getattr(error, 'msg', None) or error}"
            findings.append(Finding(file, line, 1, "syntax-error", message, RULES["syntax-error"]))
            continue
        modules.append(Module(path, file, source, tree, ".".join(filter(None, [package, _dotted(file)]))))
    seeds = inherited_seeds(modules)
    for module in modules:
        findings += _findings_of(module, seeds[module.file])
    return sorted(findings), modules


def _findings_of(module: Module, seeded: Mapping[str, int]) -> list[Finding]:
    names = module.names
    seeded = dict(seeded)
    found = [
        *randomness.unseeded_draws(names, seeded),
        *randomness.unseeded_generators(names),
        *randomness.unseeded_splits(names, seeded),
        *randomness.time_seeds(names),
        *order.set_order(names),
        *order.unsorted_listings(names),
        *order.hashes(names),
        *keys.key_reuse(names),
        *settings.loaders(names),
        *settings.switches(names),
    ]
    findings = {
        Finding(
            module.file, getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1, rule, message, RULES[rule],
            "warning" if module.is_test else "error",
        )
        for node, rule, message in found
        if not (module.is_test and rule in _DELIBERATE_IN_TESTS)
    }  # fmt: skip
    ends = {
        node.lineno: node.end_lineno or node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.stmt) and not hasattr(node, "body")
    }
    return apply_suppressions(sorted(findings), module.source, module.file, ends)


def _dotted(file: str) -> str:
    parts = file.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _package(root: Path) -> str:
    """Return the dotted name of a directory that is a package itself; "" for one that holds packages and scripts."""
    parts: list[str] = []
    root = root.resolve()
    while (root / "__init__.py").is_file() and root.name:
        parts.insert(0, root.name)
        root = root.parent
    return ".".join(parts)
