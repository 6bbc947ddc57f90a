"""Which expressions are certainly sets, and which of those hold numbers only."""

import ast

from reprotui.reproduce.lint.names import Names, constant

_SET_MAKERS = frozenset({"builtins.set", "builtins.frozenset"})
SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference"})
_SET_OPERATORS = (ast.BitAnd, ast.BitOr, ast.Sub, ast.BitXor)
_SET_ANNOTATIONS = frozenset({"set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet"})


def is_set(names: Names, node: ast.AST, depth: int = 4) -> bool:
    """Say whether an expression is certainly a set."""
    if depth == 0:
        return False
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call():
            if names.called(node) in _SET_MAKERS:
                return True
            method = isinstance(node.func, ast.Attribute) and node.func.attr in {*SET_METHODS, "copy"}
            return method and is_set(names, node.func.value, depth - 1)
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr() | ast.Sub() | ast.BitXor()):
            sides = (node.left, node.right)
            return any(is_set(names, side, depth - 1) for side in sides) or any(_is_keys(side) for side in sides)
        case ast.IfExp():
            return is_set(names, node.body, depth - 1) and is_set(names, node.orelse, depth - 1)
        case ast.Name():
            values = _values_of(names, node)
            return bool(values) and all(
                value is True or (isinstance(value, ast.expr) and is_set(names, value, depth - 1)) for value in values
            )
    return False


def _is_keys(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "keys" and not node.args


def _values_of(names: Names, name: ast.Name) -> list[ast.expr | bool | None]:
    """Return all values that a name is given in the scope that binds it: True for an annotated set, None for an unknown one."""
    for scope in names.scopes(name):
        if bindings := names.bindings.get((scope, name.id)):
            return [
                (_annotated_set(node.annotation) or None) if isinstance(node, ast.arg) else _value_given(names, node)
                for node in bindings
            ]
    return []


def _value_given(names: Names, target: ast.Name) -> ast.expr | bool | None:
    parent = names.parent(target)
    match parent:
        case ast.Assign(targets=targets) if target in targets:
            return parent.value
        case ast.AnnAssign():
            return _annotated_set(parent.annotation) or parent.value
        case ast.AugAssign(op=op) if isinstance(op, _SET_OPERATORS):
            return True if is_set(names, parent.value, 2) else None
        case ast.NamedExpr():
            return parent.value
    return None


def _annotated_set(annotation: ast.expr | None) -> bool:
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    text = ast.unparse(annotation) if annotation is not None else ""
    return text.rpartition(".")[2] in _SET_ANNOTATIONS


def of_numbers(names: Names, node: ast.AST, depth: int = 4) -> bool:
    """Say whether a set certainly holds numbers only: their hash, and so their order, is the same in every process."""
    match node:
        case ast.Set():
            return all(isinstance(constant(item), int | float | bool) for item in node.elts)
        case ast.Call() if names.called(node) in _SET_MAKERS:
            if not node.args:
                return False
            inner = node.args[0]
            if isinstance(inner, ast.List | ast.Tuple):
                return all(isinstance(constant(item), int | float | bool) for item in inner.elts)
            if isinstance(inner, ast.Call):
                return names.called(inner) in ("builtins.range", "numpy.arange") or of_numbers(names, inner, depth)
            return isinstance(inner, ast.GeneratorExp) and _is_number(names, inner.elt)
        case ast.SetComp():
            return _is_number(names, node.elt)
        case ast.BinOp() if depth:
            left, right = (of_numbers(names, side, depth - 1) for side in (node.left, node.right))
            return (
                (left and right)
                or (left and isinstance(node.op, ast.Sub | ast.BitAnd))
                or (right and isinstance(node.op, ast.BitAnd))
            )
        case ast.Name() if depth:
            values = _values_of(names, node)
            return bool(values) and all(isinstance(value, ast.expr) and of_numbers(names, value, depth - 1) for value in values)
    return False


def _is_number(names: Names, node: ast.expr) -> bool:
    if isinstance(node, ast.IfExp) and isinstance(node.test, ast.Compare):
        # `axis + rank if axis < 0 else axis`: what is compared with a number is one.
        return any(isinstance(constant(item), int | float) for item in node.test.comparators)
    return names.called(node) in ("builtins.int", "builtins.len", "builtins.float", "builtins.ord") or (
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.FloorDiv) and isinstance(constant(node.right), int)
    )
