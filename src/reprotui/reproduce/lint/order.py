"""Order that nobody fixed: sets, directory listings, and hash() of strings."""

import ast
from collections.abc import Iterator

from reprotui.reproduce.lint.flow import ORDER_BLIND, body_is_blind, order_is_lost
from reprotui.reproduce.lint.names import SCOPES, Names, constant
from reprotui.reproduce.lint.sets import is_set, of_numbers

Found = Iterator[tuple[ast.AST, str, str]]

_LISTINGS = frozenset({"os.listdir", "os.scandir", "os.walk", "glob.glob", "glob.iglob"})
_PATH_LISTINGS = frozenset({"iterdir", "rglob", "glob"})
_ORDERED = frozenset(f"builtins.{name}" for name in ("list", "tuple", "enumerate", "iter", "reversed", "zip"))
_NUMBERING = ("builtins.enumerate", "builtins.zip")
_ARRAYS = frozenset({"numpy.array", "numpy.asarray", "numpy.fromiter", "jax.numpy.array", "jax.numpy.asarray", "torch.tensor"})


def set_order(names: Names) -> Found:
    """Find iterations over sets whose order reaches a result."""
    for node, iterated, how in _iterations(names):
        if is_set(names, iterated) and not of_numbers(names, iterated):
            yield node, "set-order", f"{how} a set ({_short(iterated)}) in an order that differs from process to process"


def unsorted_listings(names: Names) -> Found:
    """Find directory listings whose order reaches a result."""
    for node in names.nodes:
        if not isinstance(node, ast.Call):
            continue
        called = names.called(node)
        is_path = isinstance(node.func, ast.Attribute) and node.func.attr in _PATH_LISTINGS and not called
        if called not in _LISTINGS and not (is_path and _looks_like_path_listing(node)):
            continue
        if not order_is_lost(names, node) and not (called == "os.walk" and _walk_is_sorted(names, node)):
            yield node, "unsorted-listing", f"{_short(node)} lists files in the file system's order"


def hashes(names: Names) -> Found:
    """Find hash() whose value leaves the process's own tables."""
    for node in names.nodes:
        if names.called(node) != "builtins.hash" or not isinstance(node, ast.Call) or len(node.args) != 1:
            continue
        if isinstance(constant(node.args[0]), int | float) or _hash_stays_inside(names, node):
            continue
        yield node, "hash-of-str", f"{_short(node)} differs from process to process for strings and bytes"


def _iterations(names: Names) -> Iterator[tuple[ast.AST, ast.expr, str]]:
    """Yield what iterates in an order that may reach a result, with the expression that it iterates over."""
    for node in names.nodes:
        match node:
            case ast.For() | ast.AsyncFor():
                if not body_is_blind(names, node):
                    yield node, _inside(names, node.iter), "the loop visits"
            case ast.ListComp() | ast.GeneratorExp():
                if not order_is_lost(names, node):
                    for generator in node.generators:
                        yield node, _inside(names, generator.iter), "the comprehension visits"
            case ast.DictComp():
                # Without a call, only the order of the dict's entries is at stake; a call may draw, or build, in this order.
                if any(isinstance(item, ast.Call) for item in ast.walk(node.value)):
                    for generator in node.generators:
                        yield node, generator.iter, "the comprehension visits"
            case ast.Call():
                called = names.called(node)
                is_join = isinstance(node.func, ast.Attribute) and node.func.attr == "join" and not called
                is_pop = isinstance(node.func, ast.Attribute) and node.func.attr == "pop" and not node.args
                if (called in _ORDERED or called in _ARRAYS or is_join) and node.args:
                    loop = names.parent(node)
                    in_loop = isinstance(loop, ast.For | ast.comprehension) and loop.iter is node
                    if isinstance(loop, ast.comprehension) and called in _NUMBERING:
                        # A dict or a set may forget the order, but not the numbers that it gave: a vocabulary.
                        in_loop = not isinstance(names.parents[loop], ast.DictComp | ast.SetComp)
                    only = called == "builtins.iter" and _is_only_element(names, node)
                    if not in_loop and not only and not order_is_lost(names, node):
                        what = "join reads" if is_join else f"{called.rpartition('.')[2]} reads"
                        yield node, node.args[0], what
                elif is_pop and _in_loop(names, node):
                    # Once is how the only element of a set is taken.
                    yield node, node.func.value, "pop takes from"
            case ast.Starred() if isinstance(names.parent(node), ast.List | ast.Tuple) and isinstance(node.ctx, ast.Load):
                if not order_is_lost(names, names.parents[node]):
                    yield node, node.value, "the unpacking reads"


def _in_loop(names: Names, node: ast.AST) -> bool:
    parent = names.parent(node)
    while parent is not None and not isinstance(parent, SCOPES):
        if isinstance(parent, ast.While | ast.For | ast.comprehension | ast.ListComp):
            return True
        parent = names.parent(parent)
    return False


def _is_only_element(names: Names, node: ast.Call) -> bool:
    """Say whether `next(iter(x))` takes the only element: the function around it looks whether len(x) is 1."""
    if names.called(names.parents[node]) != "builtins.next":
        return False
    length = f"len({ast.unparse(node.args[0])})"
    return any(
        isinstance(item, ast.Compare)
        and ast.unparse(item.left) == length
        and any(constant(side) in (1, 2) for side in item.comparators)
        for item in ast.walk(names.scope(node))
    )


def _inside(names: Names, node: ast.expr) -> ast.expr:
    """Return what `enumerate`, `list`, `tuple` or `iter` around an iterated expression iterate over."""
    while names.called(node) in _ORDERED and isinstance(node, ast.Call) and node.args:
        node = node.args[0]
    return node


def _looks_like_path_listing(node: ast.Call) -> bool:
    """Say whether `x.glob(…)`, `x.rglob(…)` or `x.iterdir()` is a path's: by its arguments."""
    attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    return not node.args if attribute == "iterdir" else len(node.args) == 1


def _walk_is_sorted(names: Names, node: ast.Call) -> bool:
    loop = names.parent(node)
    if not isinstance(loop, ast.For):
        return False
    return any(
        (isinstance(item, ast.Attribute) and item.attr == "sort") or names.called(item) in ORDER_BLIND for item in ast.walk(loop)
    )


def _hash_stays_inside(names: Names, node: ast.Call) -> bool:
    """Say whether a hash is only used as one: in `__hash__` and `__eq__`, to test hashability, to compare, as a table's key."""
    parent = names.parent(node)
    around: ast.AST | None = node
    while around is not None:
        if isinstance(around, ast.FunctionDef) and around.name.strip("_") in ("hash", "eq", "ne"):
            return True
        if isinstance(around, ast.ClassDef) and any(getattr(item, "name", "") == "__hash__" for item in around.body):
            # Kept by the class for its own __hash__.
            return True
        around = names.parent(around)
    match parent:
        case ast.Expr():
            return True
        case ast.Compare():
            return all(names.called(item) == "builtins.hash" for item in [parent.left, *parent.comparators])
        case ast.Subscript(slice=key):
            return key is node
    return False


def _short(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:57]}..."
