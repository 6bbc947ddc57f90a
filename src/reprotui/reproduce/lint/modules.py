"""The modules of a project, and whose generators are seeded where: by a module itself, or by one that imports it."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from reprotui.reproduce.lint.names import Names
from reprotui.reproduce.lint.randomness import seeded_libraries, seeding_calls


class Module:
    """A parsed file of a project: its names, the libraries that it seeds, the modules that it imports."""

    def __init__(self, path: Path, file: str, source: str, tree: ast.Module, dotted: str) -> None:
        self.path, self.file, self.source, self.tree, self.dotted = path, file, source, tree, dotted
        package = dotted if path.name == "__init__.py" else dotted.rpartition(".")[0]
        self.names = Names(tree, package)
        self.seeds = seeded_libraries(self.names)
        self.seeds_at_import = _seeds_at_import(self.names)
        self.is_test = _is_test(file)


def inherited_seeds(modules: list[Module]) -> dict[str, dict[str, int]]:
    """Return for each file the seeded libraries, with the line of the seed in the file, or 0 where another module seeds.

    A module seeds what it seeds itself, what the functions of the project that it calls seed, and what the modules that it
    imports seed when they are read. That holds for every module that it imports, directly or not.
    """
    by_name = {module.dotted: module for module in modules}
    imports = {module.file: [by_name[name] for name in sorted(_project_imports(module, by_name))] for module in modules}
    own = _own_seeds(modules, by_name)
    seeds = {module.file: dict(module.seeds) for module in modules}
    for module in modules:
        reached = _reached(module, imports)
        at_import = {library for other in reached for library in other.seeds_at_import}
        libraries = own[module.file] | at_import
        # What a test seeds says nothing about the code that it tests.
        for file in {module.file} if module.is_test else {module.file, *(other.file for other in reached)}:
            for library in libraries:
                seeds[file].setdefault(library, 0)
    return seeds


def _own_seeds(modules: list[Module], by_name: Mapping[str, Module]) -> dict[str, set[str]]:
    """Return what each module seeds itself or by calling functions of the project."""
    own = {module.file: set(module.seeds) for module in modules}
    functions: dict[str, set[str]] = {}
    for module in modules:
        for node, libraries in seeding_calls(module.names):
            functions.setdefault(f"{module.dotted}.{_definition(module, node)}", set()).update(libraries)
    calls = [
        (module, f"{module.dotted}.{_definition(module, node)}", target)
        for module in modules
        for node in module.names.nodes
        if (called := module.names.called(node))
        for target in _candidates(module, called)
        if target.rpartition(".")[0] in by_name
    ]
    changed = True
    while changed:
        changed = False
        for module, caller, target in calls:
            found = functions.get(target, set())
            if not found <= own[module.file] & functions.get(caller, set()):
                own[module.file] |= found
                functions.setdefault(caller, set()).update(found)
                changed = True
    return own


def _definition(module: Module, node: ast.AST) -> str:
    """Return the outermost function or class that a node stands in; "" at the top of the module."""
    name = ""
    for scope in module.names.scopes(node):
        name = getattr(scope, "name", name)
    return name


def _seeds_at_import(names: Names) -> set[str]:
    return {
        library
        for node, libraries in seeding_calls(names)
        if names.scope(node) is names.tree and not _under_main(names, node)
        for library in libraries
    }


def _under_main(names: Names, node: ast.AST) -> bool:
    around: ast.AST | None = node
    while around is not None:
        if isinstance(around, ast.If) and "__name__" in ast.unparse(around.test):
            return True
        around = names.parent(around)
    return False


def _reached(module: Module, imports: Mapping[str, list[Module]]) -> list[Module]:
    reached: dict[str, Module] = {}
    waiting = list(imports[module.file])
    while waiting:
        other = waiting.pop()
        if other.file not in reached:
            reached[other.file] = other
            waiting += imports[other.file]
    return list(reached.values())


def _candidates(module: Module, name: str) -> Iterator[str]:
    """Yield what an imported name may be in the project: a script's sibling is imported by its last name alone."""
    yield name
    yield f"src.{name}"
    if package := module.dotted.rpartition(".")[0]:
        yield f"{package}.{name}"


def _project_imports(module: Module, by_name: Mapping[str, Module]) -> set[str]:
    found = {target for name in module.names.imported for target in _candidates(module, name) if target in by_name}
    return found - {module.dotted}


def _is_test(file: str) -> bool:
    parts = file.split("/")
    return parts[-1].startswith("test_") or parts[-1].endswith("_test.py") or parts[-1] == "conftest.py" or "tests" in parts[:-1]
