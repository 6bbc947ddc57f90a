"""JAX keys used twice: followed along the control flow of each function."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from reprotui.reproduce.lint.names import SCOPES, Names, Scope, argument, constant

Found = Iterator[tuple[ast.AST, str, str]]

_NOT_CONSUMING = frozenset(
    {"key", "PRNGKey", "fold_in", "clone", "key_data", "key_impl", "wrap_key_data", "key_dtype", "default_prng_impl"}
)
"""Functions of jax.random that may be given the same key again: fold_in gives another key for other data."""
_MAKERS = frozenset({"key", "PRNGKey", "split", "fold_in", "clone", "wrap_key_data"})
_INITIALISERS = frozenset({"init", "init_with_output", "init_by_lazy"})
"""Methods that draw parameters from the key that they are given first, in flax and its like."""


@dataclass
class _State:
    """What is known at one point: where each key was used, and which names certainly hold keys."""

    used: dict[str, ast.AST] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    def copy(self) -> "_State":
        return _State(dict(self.used), set(self.keys))

    def merge(self, other: "_State") -> None:
        self.used = {**other.used, **self.used}
        self.keys |= other.keys


def key_reuse(names: Names) -> Found:
    """Find keys that two random functions are given, on one path or in two rounds of a loop."""
    drawing = _drawing_functions(names)
    scopes: list[Scope] = [names.tree]
    scopes += [node for node in names.nodes if isinstance(node, SCOPES)]
    for scope in scopes:
        if isinstance(scope, ast.Lambda):
            continue
        yield from _Walk(names, drawing).run(scope.body)


def _drawing_functions(names: Names) -> dict[str, tuple[str, int]]:
    """Return the module's own functions that draw from a key they are given: by name, the parameter and its position."""
    found: dict[str, tuple[str, int]] = {}
    for function in names.tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        parameters = [item.arg for item in (*function.args.posonlyargs, *function.args.args)]
        for node in ast.walk(function):
            head, _, last = names.called(node).rpartition(".")
            if isinstance(node, ast.Call) and head == "jax.random" and last not in _NOT_CONSUMING:
                key = argument(node, "key", 0)
                if isinstance(key, ast.Name) and key.id in parameters:
                    found[function.name] = (key.id, parameters.index(key.id))
    return found


class _Walk:
    def __init__(self, names: Names, drawing: dict[str, tuple[str, int]]) -> None:
        self._names = names
        self._drawing = drawing
        self._found: dict[ast.AST, str] = {}

    def run(self, body: list[ast.stmt]) -> Found:
        self._block(body, _State())
        for node, message in self._found.items():
            yield node, "jax-key-reuse", message

    def _block(self, body: list[ast.stmt], state: _State) -> bool:
        """Walk statements; return whether the end is reached."""
        return all(self._statement(node, state) for node in body)

    def _statement(self, node: ast.stmt, state: _State) -> bool:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                # Its body is a scope of its own.
                self._forget([node.name], state)
            case ast.If():
                self._expression(node.test, state)
                return self._branches([node.body, node.orelse], state)
            case ast.Match():
                self._expression(node.subject, state)
                return self._branches([*(case.body for case in node.cases), []], state)
            case ast.For() | ast.AsyncFor() | ast.While():
                self._loop(node, state)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self._expression(item.context_expr, state)
                    self._bind(item.optional_vars, state)
                return self._block(node.body, state)
            case ast.Try() | ast.TryStar():
                return self._try(node, state)
            case ast.Assign():
                self._expression(node.value, state)
                for target in node.targets:
                    self._bind(target, state, node.value)
            case ast.AnnAssign() | ast.AugAssign():
                self._expression(node.value, state)
                self._bind(node.target, state, node.value)
            case ast.Return() | ast.Raise() | ast.Break() | ast.Continue():
                for child in ast.iter_child_nodes(node):
                    self._expression(child, state)
                return False
            case _:
                for child in ast.iter_child_nodes(node):
                    self._expression(child, state)
        return True

    def _branches(self, bodies: list[list[ast.stmt]], state: _State) -> bool:
        ends = []
        for body in bodies:
            branch = state.copy()
            if self._block(body, branch):
                ends.append(branch)
        if not ends:
            return False
        state.used, state.keys = dict(ends[0].used), set(ends[0].keys)
        for end in ends[1:]:
            state.merge(end)
        return True

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, state: _State) -> None:
        if isinstance(node, ast.While):
            self._expression(node.test, state)
        else:
            self._expression(node.iter, state)
        around = state.copy()
        # A second round sees what the first one used: a key from outside that the body does not replace is used again.
        for _ in range(2):
            if not isinstance(node, ast.While):
                self._bind(node.target, state)
            if not self._block(node.body, state) and not _continues(node.body):
                break
        self._block(node.orelse, state)
        state.merge(around)

    def _try(self, node: ast.Try | ast.TryStar, state: _State) -> bool:
        before = state.copy()
        reached = self._block(node.body, state) and self._block(node.orelse, state)
        ends = [state.copy()] if reached else []
        for handler in node.handlers:
            branch = before.copy()
            if self._block(handler.body, branch):
                ends.append(branch)
        merged = ends[0] if ends else before
        for end in ends[1:]:
            merged.merge(end)
        state.used, state.keys = merged.used, merged.keys
        return self._block(node.finalbody, state) and bool(ends)

    def _expression(self, node: ast.AST | None, state: _State) -> None:
        """Note the keys that an expression uses, in the order of evaluation."""
        match node:
            case None | ast.Lambda():
                return
            case ast.IfExp():
                self._expression(node.test, state)
                other = state.copy()
                self._expression(node.body, state)
                self._expression(node.orelse, other)
                state.merge(other)
                return
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                self._comprehension(node, state)
                return
            case ast.NamedExpr():
                self._expression(node.value, state)
                self._bind(node.target, state, node.value)
                return
        for child in ast.iter_child_nodes(node):
            self._expression(child, state)
        if isinstance(node, ast.Call):
            self._call(node, state)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, state: _State) -> None:
        self._expression(node.generators[0].iter, state)
        for _ in range(2):
            for generator in node.generators:
                self._bind(generator.target, state)
                for condition in generator.ifs:
                    self._expression(condition, state)
            for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
                self._expression(part, state)

    def _call(self, node: ast.Call, state: _State) -> None:
        used = self._key_argument(node, state)
        name = None if used is None else _place(used)
        if name is None:
            return
        first = state.used.get(name)
        if first is None:
            state.used[name] = node
        elif node not in self._found:
            where = "in every round of the loop" if first is node else f"after line {getattr(first, 'lineno', '?')} used it"
            self._found[node] = f"{ast.unparse(node.func)} is given {name} again, {where}"

    def _key_argument(self, node: ast.Call, state: _State) -> ast.expr | None:
        head, _, last = self._names.called(node).rpartition(".")
        if head == "jax.random" and last not in _NOT_CONSUMING:
            return argument(node, "key", 0)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _INITIALISERS and node.args:
            # Only what is certainly a key: other things have a method `init` too.
            name = _place(node.args[0])
            return node.args[0] if name is not None and _root(name) in state.keys else None
        if isinstance(node.func, ast.Name) and node.func.id in self._drawing:
            used = argument(node, *self._drawing[node.func.id])
            name = None if used is None else _place(used)
            return used if name is not None and _root(name) in state.keys else None
        return None

    def _bind(self, target: ast.AST | None, state: _State, value: ast.AST | None = None) -> None:
        """Forget what was known of the names that are assigned, and note whether they hold keys now."""
        if target is None:
            return
        head, _, last = self._names.called(value).rpartition(".") if value is not None else ("", "", "")
        is_key = head == "jax.random" and last in _MAKERS
        for node in ast.walk(target):
            if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
                place = _place(node)
                if place is not None:
                    self._forget([place], state)
                    if is_key:
                        state.keys.add(place)

    def _forget(self, places: list[str], state: _State) -> None:
        for place in places:
            state.keys.discard(place)
            for known in list(state.used):
                # An index that is a variable names another element once the variable changes.
                if known == place or known.startswith((f"{place}[", f"{place}.")) or f"[{place}]" in known:
                    del state.used[known]


def _continues(body: list[ast.stmt]) -> bool:
    """Say whether a body that does not reach its end may still go round again."""
    return any(isinstance(item, ast.Continue) for statement in body for item in ast.walk(statement))


def _place(node: ast.AST) -> str | None:
    """Return the text that identifies a variable, an attribute or an element of one; None for what is no place."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            owner = _place(node.value)
            return None if owner is None else f"{owner}.{node.attr}"
        case ast.Subscript():
            owner = _place(node.value)
            index = node.slice.id if isinstance(node.slice, ast.Name) else constant(node.slice)
            return None if owner is None or index is ... else f"{owner}[{index}]"
    return None


def _root(place: str) -> str:
    return place.split("[")[0]
