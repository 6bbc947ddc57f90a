"""What a leaf of a jitted function's call is: state, batch, key, loss, gradient; and under which name it is recorded."""

import functools
import re
from collections.abc import Mapping
from typing import Any

from reprotui.checksum import LeafSpec

_OPTIMIZER = re.compile(r"opt|momentum|adam", re.IGNORECASE)
_ANY_OPTIMIZER = re.compile(r"opt(im(izer)?)?(_?state)?s?|opt_?st|adam|momentum", re.IGNORECASE)
_GRADIENT = re.compile(r"grad", re.IGNORECASE)
_KEY = re.compile(r"key|rng|seed", re.IGNORECASE)
_LOSS = re.compile(r"loss|cost|objective|nll", re.IGNORECASE)

Kind = tuple[tuple[int, ...], str]
"""Shape and dtype of a leaf."""


def kind_of(leaf: Any) -> Kind:
    """Return shape and dtype of an array; of a Python number its type."""
    dtype = getattr(leaf, "dtype", None)
    return tuple(getattr(leaf, "shape", ())), type(leaf).__name__ if dtype is None else _text(dtype)


@functools.cache
def _text(dtype: Any) -> str:
    return str(dtype)


def is_key(path: str, kind: Kind) -> bool:
    """Say whether a leaf is a random key: a typed one, or raw key data."""
    shape, dtype = kind
    if dtype.startswith("key<"):
        return True
    raw = dtype == "uint32" and len(shape) in (1, 2) and shape[-1] in (2, 4)
    return raw and (shape == (2,) or bool(_KEY.search(path)))


def is_scalar(kind: Kind) -> bool:
    """Say whether a leaf is one real number."""
    return kind[0] == () and kind[1].startswith(("float", "bfloat", "int", "uint", "bool"))


def gradient_path(path: str) -> str:
    """Return the name of a gradient: without its place in a tuple such as (loss, gradients)."""
    first, _, rest = path.partition("/")
    if is_gradient(first):
        return path
    return f"grads/{rest if first.isdigit() and rest else path}"


def is_gradient(path: str) -> bool:
    """Say whether a leaf calls itself a gradient."""
    return bool(_GRADIENT.search(path))


@functools.lru_cache(1 << 16)
def state_path(path: str, kind: Kind, in_optimizer: bool) -> str:
    """Return the name under which a leaf of the state is recorded: beneath `opt_state`, `params` or `extra`."""
    parts = path.split("/")
    if in_optimizer or any(_OPTIMIZER.search(part) for part in parts[:-1] or parts):
        found = [index for index, part in enumerate(parts[:-1] or parts) if _OPTIMIZER.search(part)]
        # `optimizer/opt_state/0/mu/…` of an nnx optimizer says it twice.
        at = found[1] if found[:2] == [0, 1] else found[0] if found else 0
        # A name that tells one optimizer from another, such as `actor_opt`, is kept.
        return "/".join(["opt_state", *parts[at + (not found or bool(_ANY_OPTIMIZER.fullmatch(parts[at]))) :]])
    if "params" in parts:
        return "/".join(parts[parts.index("params") :])
    if is_key(path, kind) or kind[1].startswith(("int", "uint", "bool")):
        return f"extra/{path}"
    return f"params/{path}"


def optimizer_leaves(tree: Any) -> set[int]:
    """Return which leaves of a tree, by flattening order, lie in a state of optax."""
    import jax

    def is_optax(node: Any) -> bool:
        return type(node).__module__.split(".")[0] == "optax" and isinstance(node, tuple)

    found: set[int] = set()
    at = 0
    for node in jax.tree.leaves(tree, is_leaf=is_optax):
        size = len(jax.tree.leaves(node)) if is_optax(node) else 1
        if is_optax(node):
            found.update(range(at, at + size))
        at += size
    return found


def loss_path(outputs: Mapping[str, Kind], asked: str | None) -> str | None:
    """Return which scalar output is the loss: the one that was named, that calls itself so, or the first float.

    Args:
        outputs: kinds by path of outputs that are not fed back.
        asked: the name that the user gave; the end of a path is enough.
    """
    scalars = [path for path, kind in outputs.items() if is_scalar(kind)]
    if asked is not None:
        return next((path for path in scalars if path == asked or path.endswith(f"/{asked}")), None)
    floats = [path for path in scalars if outputs[path][1].startswith(("float", "bfloat"))]
    return next((path for path in floats if _LOSS.search(path)), next(iter(floats), None))


def outside_state(inputs: Mapping[str, Kind], outputs: Mapping[str, Kind]) -> dict[str, str]:
    """Return the inputs that look like state, each with the output that stands where it does.

    An argument counts as state where the kinds of its leaves stand in the same order among the outputs, as those of
    gradients do for parameters, or those of trained parameters; arguments without an array of numbers do not.
    """
    arguments: dict[str, dict[str, Kind]] = {}
    for path, kind in inputs.items():
        arguments.setdefault(path.split("/")[0], {})[path] = kind
    names, kinds = list(outputs), list(outputs.values())
    found: dict[str, str] = {}
    for leaves in arguments.values():
        wanted = list(leaves.values())
        if not any(shape and dtype.startswith(("float", "bfloat", "complex")) for shape, dtype in wanted):
            continue
        for at in range(len(kinds) - len(wanted) + 1):
            if kinds[at : at + len(wanted)] == wanted:
                found.update(zip(leaves, names[at:], strict=False))
                break
    return found


def renamed(spec: LeafSpec, path: str) -> LeafSpec:
    """Return a leaf's description under another path."""
    return LeafSpec(path, spec.dtype, spec.shape)
