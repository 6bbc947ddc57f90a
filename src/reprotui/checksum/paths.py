"""Paths of leaves such as `params/dense_0/kernel`, and trees of Python's own containers: the same paths and order as jax's."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Step = tuple[str, bool]
"""A step on the way to a leaf: the name of a key, a number or a field, and whether it is a field."""


def named(flat: Iterable[tuple[tuple[Step, ...], Any]], prefix: str = "") -> list[tuple[str, Any]]:
    """Return leaves with their paths, given the steps to each.

    The wrapper that flax nnx puts around an array leaves no trace in the path. Two leaves that would get the same path (a key
    may contain `/`) are told apart by `#2`.
    """
    flat = list(flat)
    children: dict[Any, set[Step]] = {}
    for steps, _ in flat:
        for depth, step in enumerate(steps):
            children.setdefault(steps[:depth], set()).add(step)
    seen: set[str] = set()
    result = []
    for steps, leaf in flat:
        parts = [prefix] if prefix else []
        parts += [
            name
            for depth, (name, field) in enumerate(steps)
            # nnx.State flattens a Variable as `.value` (older) or `.raw_value` below the key of the array, which it has alone;
            # optax's line searches have a field `value` among others.
            if not (field and name in ("value", "raw_value") and len(children[steps[:depth]]) == 1)
        ]
        path = name = "/".join(parts)
        number = 1
        while path in seen:
            number += 1
            path = f"{name}#{number}"
        seen.add(path)
        result.append((path, leaf))
    return result


def flattened(tree: Any, steps: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Return the leaves of nested containers of Python's own with the steps to each, in the order in which jax has them."""
    if tree is None:
        return
    children = _children(tree)
    if children is None:
        yield steps, tree
    else:
        for step, child in children:
            yield from flattened(child, (*steps, step))


def mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Return nested containers with a function's results in the place of their leaves."""
    kind = type(tree)
    if tree is None:
        return None
    if kind in (dict, OrderedDict, defaultdict):
        found = {key: mapped(child, function) for key, child in tree.items()}
        return OrderedDict(found) if kind is OrderedDict else found
    if hasattr(tree, "_fields") and isinstance(tree, tuple):
        return kind(*(mapped(child, function) for child in tree))
    if kind in (list, tuple):
        return kind(mapped(child, function) for child in tree)
    return function(tree)


def _children(tree: Any) -> list[tuple[Step, Any]] | None:
    """Return what a container holds; None for a leaf. What inherits from a container is a leaf, but for named tuples."""
    kind = type(tree)
    if kind in (dict, defaultdict):
        try:
            keys = sorted(tree)
        except TypeError:  # keys of several types
            keys = list(tree)
        return [((str(key), False), tree[key]) for key in keys]
    if kind is OrderedDict:
        return [((str(key), False), child) for key, child in tree.items()]
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return [((name, True), child) for name, child in zip(tree._fields, tree, strict=True)]
    if kind in (list, tuple):
        return [((str(index), False), child) for index, child in enumerate(tree)]
    return None
