"""What a name in a module means: imports followed through aliases, and the scopes in which a name is something else."""

import ast
from collections.abc import Iterator

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
SCOPES = (*_FUNCTIONS, ast.ClassDef)
Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


class Names:
    """The dotted names of a module's expressions: `npr.rand` is `numpy.random.rand` after `from numpy import random as npr`.

    A name that a function takes as an argument or assigns is not the import, there or in functions inside it.
    """

    def __init__(self, tree: ast.Module, package: str = "") -> None:
        self.tree = tree
        self.nodes = list(ast.walk(tree))
        self.parents: dict[ast.AST, ast.AST] = {}
        for node in self.nodes:
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
        self._imports: dict[Scope, dict[str, str]] = {}
        self._bound: dict[Scope, set[str]] = {}
        self._scopes: dict[ast.AST, Scope] = {}
        self._called: dict[ast.AST, str] = {}
        self.uses: dict[str, list[ast.Name]] = {}
        """Every occurrence of a name, in the order of `ast.walk`; `bindings` those that give it a value, by scope."""
        self.bindings: dict[tuple[Scope, str], list[ast.Name | ast.arg]] = {}
        self.imported: set[str] = set()
        for node in self.nodes:
            if isinstance(node, ast.Name):
                self.uses.setdefault(node.id, []).append(node)
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._add_import(node, package)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self._bind(node, node.id)
            elif isinstance(node, ast.arg):
                self._bind(node, node.arg)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self._bound.setdefault(self.scope(node), set()).add(node.name)

    def scope(self, node: ast.AST) -> Scope:
        """Return the function, class or module that a node stands in; a definition stands in the one around it."""
        found = self._scopes.get(node)
        if found is None:
            found = self._scopes[node] = self._find_scope(node)
        return found

    def _find_scope(self, node: ast.AST) -> Scope:
        child, parent = node, self.parents.get(node)
        while parent is not None:
            if isinstance(parent, _FUNCTIONS):
                # Decorators, defaults and annotations belong to the scope around the function.
                body = [parent.body] if isinstance(parent, ast.Lambda) else parent.body
                if any(child is item for item in body) or (isinstance(child, ast.arguments) and isinstance(node, ast.arg)):
                    return parent
            elif isinstance(parent, ast.ClassDef | ast.Module) and any(child is item for item in parent.body):
                return parent
            child, parent = parent, self.parents.get(parent)
        return self.tree

    def scopes(self, node: ast.AST) -> Iterator[Scope]:
        """Yield the scopes in which a name at this node is looked up, innermost first."""
        scope = self.scope(node)
        yield scope
        while scope is not self.tree:
            scope = self.scope(scope)
            # A method does not see the names of its class.
            if not isinstance(scope, ast.ClassDef):
                yield scope

    def dotted(self, node: ast.AST) -> str | None:
        """Return the full name of an expression that starts at an import, or of a builtin; None for everything else."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        for scope in self.scopes(node):
            if node.id in self._imports.get(scope, {}):
                return ".".join([self._imports[scope][node.id], *reversed(parts)])
            if node.id in self._bound.get(scope, set()):
                return None
        return ".".join([f"builtins.{node.id}", *reversed(parts)])

    def called(self, node: ast.AST) -> str:
        """Return the full name of what a call calls; "" where that is not known."""
        if not isinstance(node, ast.Call):
            return ""
        found = self._called.get(node)
        if found is None:
            found = self._called[node] = self.dotted(node.func) or ""
        return found

    def parent(self, node: ast.AST) -> ast.AST | None:
        """Return the node around a node."""
        return self.parents.get(node)

    def statement(self, node: ast.AST) -> ast.stmt:
        """Return the statement that a node is part of."""
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def _bind(self, node: ast.Name | ast.arg, name: str) -> None:
        scope = self.scope(node)
        self._bound.setdefault(scope, set()).add(name)
        self.bindings.setdefault((scope, name), []).append(node)

    def _add_import(self, node: ast.Import | ast.ImportFrom, package: str) -> None:
        table = self._imports.setdefault(self.scope(node), {})
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.imported.add(alias.name)
                # `import a.b` binds a; with `as`, it binds a.b.
                table[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
            return
        base = node.module or ""
        if node.level:
            parts = package.split(".") if package else []
            base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
        for alias in node.names:
            full = f"{base}.{alias.name}" if base else alias.name
            self.imported |= {base, full}
            table[alias.asname or alias.name] = full


def constant(node: ast.AST | None) -> object:
    """Return the value of a literal, or Ellipsis for what is not one."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        value = node.operand.value
        return -value if isinstance(value, int | float) else ...
    return node.value if isinstance(node, ast.Constant) else ...


def argument(call: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    """Return the argument with this name, or at this position."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position is not None and position < len(call.args) and not any(isinstance(item, ast.Starred) for item in call.args):
        return call.args[position]
    return None


def has_unpacking(call: ast.Call) -> bool:
    """Say whether a call passes `*args` or `**kwargs`, whose content is not known."""
    return any(keyword.arg is None for keyword in call.keywords) or any(isinstance(item, ast.Starred) for item in call.args)
