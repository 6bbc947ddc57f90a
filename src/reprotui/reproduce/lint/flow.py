"""Whether the order of a value can reach a result: what its uses do with it."""

import ast

from reprotui.reproduce.lint.names import Names, constant
from reprotui.reproduce.lint.sets import SET_METHODS, is_set

ORDER_BLIND = frozenset(
    f"builtins.{name}" for name in ("sorted", "set", "frozenset", "len", "min", "max", "any", "all", "bool")
) | {"collections.Counter", "natsort.natsorted", "heapq.nsmallest", "heapq.nlargest"}
"""Functions whose result does not depend on the order of what they are given."""
_CARRIERS = frozenset(f"builtins.{name}" for name in ("list", "tuple", "map", "filter", "enumerate"))
"""Functions that hand the order on."""
_BLIND_METHODS = frozenset({"add", "discard", "remove", "update", "unlink", "rmdir", "union", "issubset", "close", "clear"})
_BLIND_CALLS = frozenset(
    {f"os.{name}" for name in ("remove", "unlink", "rmdir", "chmod")}
    | {f"shutil.{name}" for name in ("rmtree", "copy", "copy2", "copyfile", "move")}
    | {"builtins.delattr", "builtins.setattr", "builtins.print", "warnings.warn"}
)


def order_is_lost(names: Names, node: ast.AST, seen: frozenset[str] = frozenset()) -> bool:
    """Say whether what becomes of an ordered value cannot depend on its order."""
    parent = names.parent(node)
    if _only_told(names, node):
        return True
    match parent:
        case ast.Call():
            called = names.called(parent)
            if called in ORDER_BLIND:
                return True
            if called == "builtins.sum":
                # Whole numbers add up alike in any order; a generator of 1s counts.
                return isinstance(node, ast.GeneratorExp) and isinstance(constant(node.elt), int)
            if isinstance(parent.func, ast.Attribute) and node in parent.args:
                return parent.func.attr in {
                    "update",
                    "issubset",
                    "issuperset",
                    "isdisjoint",
                    "difference_update",
                    *SET_METHODS,
                } and (is_set(names, parent.func.value) or parent.func.attr != "update")
            if called in _CARRIERS:
                return order_is_lost(names, parent, seen)
            return False
        case ast.Compare():
            return len(parent.ops) == 1 and isinstance(parent.ops[0], ast.In | ast.NotIn)
        case ast.For() | ast.AsyncFor() if parent.iter is node:
            return body_is_blind(names, parent)
        case ast.comprehension():
            around = names.parents[parent]
            return isinstance(around, ast.SetComp) or (
                isinstance(around, ast.ListComp | ast.GeneratorExp) and order_is_lost(names, around, seen)
            )
        case ast.Subscript(value=value) if value is node and not isinstance(parent.slice, ast.Slice):
            return False
        case ast.Expr() | ast.Assert():
            return True
        case ast.If() | ast.While() | ast.UnaryOp() | ast.BoolOp() | ast.IfExp():
            return not isinstance(parent, ast.IfExp) or parent.test is node or order_is_lost(names, parent, seen)
        case ast.BinOp(op=ast.Add()) | ast.Starred() | ast.List() | ast.Tuple():
            return order_is_lost(names, parent, seen)
        case ast.Assign(targets=[ast.Name() as target]) | ast.AnnAssign(target=ast.Name() as target):
            return _name_is_blind(names, target, seen)
    return False


def _name_is_blind(names: Names, target: ast.Name, seen: frozenset[str]) -> bool:
    """Say whether a name is sorted in place, or all its uses lose the order. `seen` are the names on the way here."""
    if target.id in seen:
        # Back at a name whose other uses are being looked at: this one adds nothing.
        return True
    scope = names.scope(target)
    uses = [node for node in names.uses[target.id] if node is not target and scope in names.scopes(node)]
    if any(isinstance(parent := names.parent(use), ast.Attribute) and parent.attr == "sort" for use in uses):
        return True
    loads = [use for use in uses if isinstance(use.ctx, ast.Load)]
    return bool(loads) and all(order_is_lost(names, use, seen | {target.id}) for use in loads)


def body_is_blind(names: Names, loop: ast.For | ast.AsyncFor) -> bool:
    """Say whether a loop does the same whatever the order: it checks, fills sets, removes, or assigns by its own key."""
    targets = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
    if targets == {"_"}:
        return True
    return all(_statement_is_blind(names, statement, targets) for statement in [*loop.body, *loop.orelse])


def _statement_is_blind(names: Names, node: ast.stmt, targets: set[str]) -> bool:
    match node:
        case ast.Raise() | ast.Assert() | ast.Pass() | ast.Continue() | ast.Delete():
            return True
        case ast.Return(value=value):
            return value is None or isinstance(value, ast.Constant)
        case ast.If():
            return all(_statement_is_blind(names, item, targets) for item in [*node.body, *node.orelse])
        case ast.Expr(value=ast.Call() as call):
            if isinstance(call.func, ast.Attribute) and call.func.attr in _BLIND_METHODS:
                return True
            return names.called(call) in _BLIND_CALLS or _is_logging(call)
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.AugAssign(op=ast.BitOr() | ast.BitAnd()):
            return True
        case ast.AugAssign(target=ast.Subscript() as target):
            # Each element has a place of its own.
            return any(isinstance(item, ast.Name) and item.id in targets for item in ast.walk(target))
        case ast.AugAssign(op=ast.Add(), value=ast.Constant(value=int())):
            return True
    return False


def _only_told(names: Names, node: ast.AST) -> bool:
    """Say whether a value ends in an error's message, or in `__dir__`, which Python sorts."""
    around: ast.AST | None = node
    while around is not None:
        if isinstance(around, ast.Raise | ast.Assert) or (isinstance(around, ast.FunctionDef) and around.name == "__dir__"):
            return True
        around = names.parent(around)
    return False


def _is_logging(call: ast.Call) -> bool:
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    return owner is not None and ast.unparse(owner).rpartition(".")[2].lower() in ("log", "logger", "logging", "_logger")
