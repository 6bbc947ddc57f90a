"""What a leaf of a jitted function's call is, and what it is called: state, batch, key, loss, gradient.

`train(params, opt_state, batch, key)` of optax, called with a tuple of Adam's and a dictionary of two arrays:

    opt_state/0/mu/w   float32[4,2]   is state       → opt_state/0/mu/w
    batch/x            float32[16,4]  is batch       → batch/batch/x
    key                key<fry>[]     is a key       → rng/key
    1/grads/w          float32[4,2]   is a gradient  → 1/grads/w
"""

import functools
import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
"""Classes of torch around a model, and what the model is called there."""
_WRAPPED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_functional", "_torch_params")
"""What wrappers inside a model, and Keras, put into the names of its parameters."""
_OPTIMIZER = re.compile(r"opt|momentum|adam", re.IGNORECASE)
_ANY_OPTIMIZER = re.compile(r"opt(im(izer)?)?(_?state)?s?|opt_?st|adam|momentum", re.IGNORECASE)
_GRADIENT = re.compile(r"grad", re.IGNORECASE)
_KEY = re.compile(r"key|rng|seed", re.IGNORECASE)
_LOSS = re.compile(r"loss|cost|objective|nll", re.IGNORECASE)

OUTER_MODULES = ("equinox._jit", "equinox._ad", "flax.nnx.transforms.compilation", "flax.nnx.transforms.autodiff")
OUTER_FRAMES = 16
"""How far up their calls are looked for: they stand directly above, with a few frames of this package between."""


class ShapeDtype(NamedTuple):
    """Shape and dtype of a leaf; of a Python number the dtype is its type."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_float(self) -> bool:
        """Say whether its elements are floating-point numbers."""
        return self.dtype.startswith(("float", "bfloat"))

    @property
    def is_counting(self) -> bool:
        """Say whether its elements are integers."""
        return self.dtype.startswith(("int", "uint"))

    @property
    def is_scalar(self) -> bool:
        """Say whether it is one real number."""
        return self.shape == () and (self.is_float or self.is_counting or self.dtype.startswith("bool"))


def shape_dtype(leaf: Any) -> ShapeDtype:
    """Return shape and dtype of an array; of a Python number its type."""
    dtype = getattr(leaf, "dtype", None)
    return ShapeDtype(tuple(getattr(leaf, "shape", ())), type(leaf).__name__ if dtype is None else _text(dtype))


@functools.cache
def _text(dtype: Any) -> str:
    return str(dtype)


# What a leaf is


def is_key(path: str, aval: ShapeDtype) -> bool:
    """Say whether a leaf is a random key: a typed one, or raw key data."""
    shape, dtype = aval
    if dtype.startswith("key<"):
        return True
    raw = dtype == "uint32" and len(shape) in (1, 2) and shape[-1] in (2, 4)
    return raw and (shape == (2,) or bool(_KEY.search(path)))


def is_gradient(path: str) -> bool:
    """Say whether a leaf calls itself a gradient."""
    return bool(_GRADIENT.search(path))


def gradient_path(path: str) -> str:
    """Return the name of a gradient: without its place in a tuple such as (loss, gradients)."""
    first, _, rest = path.partition("/")
    if is_gradient(first):
        return path
    return f"grads/{rest if first.isdigit() and rest else path}"


@functools.lru_cache(1 << 16)
def state_path(path: str, aval: ShapeDtype, in_optimizer: bool) -> str:
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
    if is_key(path, aval) or aval.is_counting or aval.dtype.startswith("bool"):
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


def loss_path(outputs: Mapping[str, ShapeDtype], asked: str | None) -> str | None:
    """Return which scalar output is the loss: the one that was named, that calls itself so, or the first float.

    Args:
        outputs: outputs that are not fed back, by path.
        asked: the name that the user gave; the end of a path is enough.
    """
    scalars = [path for path, aval in outputs.items() if aval.is_scalar]
    if asked is not None:
        return next((path for path in scalars if path == asked or path.endswith(f"/{asked}")), None)
    floats = [path for path in scalars if outputs[path].is_float]
    return next((path for path in floats if _LOSS.search(path)), next(iter(floats), None))


def by_argument(avals: Iterable[tuple[str, ShapeDtype]]) -> dict[str, tuple[tuple[str, ShapeDtype], ...]]:
    """Return inputs by the argument that they are leaves of: what a path begins with."""
    found: dict[str, list[tuple[str, ShapeDtype]]] = {}
    for path, aval in avals:
        found.setdefault(path.split("/", 1)[0], []).append((path, aval))
    return {argument: tuple(leaves) for argument, leaves in found.items()}


def looks_like_state(inputs: Mapping[str, ShapeDtype], outputs: Mapping[str, ShapeDtype]) -> dict[str, str]:
    """Return the inputs that look like state, each with the output that stands where it does.

    An argument counts as state where its leaves stand in the same order among the outputs, by shape and dtype, as those of
    gradients do for parameters, or those of trained parameters; arguments without an array of numbers do not.
    """
    names, avals = list(outputs), [_as_jax_has_it(aval) for aval in outputs.values()]
    found: dict[str, str] = {}
    for leaves in by_argument(inputs.items()).values():
        like = [_as_jax_has_it(aval) for _, aval in leaves]
        if not any(aval.shape and aval.dtype.startswith(("float", "bfloat", "complex")) for aval in like):
            continue
        for at in range(len(avals) - len(like) + 1):
            if avals[at : at + len(like)] == like:
                found.update(zip((path for path, _ in leaves), names[at:], strict=False))
                break
    return found


def _as_jax_has_it(aval: ShapeDtype) -> ShapeDtype:
    """Return an argument as jax computes with it: numbers of NumPy and Python are narrowed, unless 64 bits are switched on."""
    import jax

    wide = bool(jax.config.read("jax_enable_x64"))
    shape, dtype = aval
    if dtype == "float":
        return ShapeDtype(shape, "float64" if wide else "float32")
    return aval if wide else ShapeDtype(shape, {"float64": "float32", "complex128": "complex64"}.get(dtype, dtype))


# What the arguments of a call are called


def function_name(function: Any) -> str:
    """Return what a function is called: its qualified name without the places that only say where it was defined."""
    name = str(getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or "function")
    return name.rpartition("<locals>.")[2]


def parameter_names(function: Any) -> tuple[str, ...]:
    """Return the names of a function's positional parameters; none where it does not tell."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, parameter in parameters.items() if parameter.kind in kinds)


def argument_paths(paths: Sequence[str], parameters: tuple[str, ...]) -> list[str]:
    """Return readable paths of the leaves of `(args, kwargs)`: `w/0` for `0/1/0` where the second parameter is `w`."""
    found = []
    for path in paths:
        which, _, rest = path.partition("/")
        number, _, inner = rest.partition("/")
        argument = number  # a keyword
        if which == "0":
            argument = parameters[int(number)] if int(number) < len(parameters) else f"arg{number}"
        found.append(f"{argument}/{inner}" if inner else argument)
    return found


def outer_arguments() -> tuple[tuple[str, ...], Any]:
    """Return parameter names and `(args, kwargs)` of the flax nnx or equinox call that is being made, if one is.

    Both flatten what they are given before they call jax, and the names of its leaves with it. Read from the frames of
    those calls, and only when a function is called with a new structure: nothing of theirs is replaced.
    """
    frame: Any = sys._getframe(1)
    for _ in range(OUTER_FRAMES):
        if frame is None:
            break
        local = frame.f_locals if frame.f_globals.get("__name__") in OUTER_MODULES else {}
        if "args" in local and ("kwargs" in local or "gradded_fn" in local):
            wrapper = local.get("jit_wrapper", local.get("self", local.get("f")))
            function = getattr(wrapper, "fun", None) or wrapper
            # Equinox takes the first argument, which it differentiates, away from the others.
            first = (local["x"],) if "x" in local and "diff_x" in local else ()
            return parameter_names(function), ((*first, *local["args"]), local.get("kwargs", {}))
        frame = frame.f_back
    return (), None


def path_of(name: str) -> str:
    """Return a torch name as a path: `layers/0/weight` for `layers.0.weight`, whatever wraps the layers."""
    return "/".join(part for part in name.split(".") if part not in _WRAPPED)


def unwrapped(module: Any) -> Any:
    """Return the model that `torch.compile`, `DataParallel` or `DistributedDataParallel` wrap: it is the same model."""
    while (inner := _WRAPPERS.get(type(module).__name__)) is not None and inner in module._modules:
        module = module._modules[inner]
    return module


def variable_of(value: Any, outside: str) -> str | None:
    """Return the name of the variable that holds a value where the call was made: in the first frame outside of a package."""
    frame: Any = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(outside):
        frame = frame.f_back
    if frame is None:
        return None
    for variables in (frame.f_locals, frame.f_globals):
        for name, held in variables.items():
            if held is value and not name.startswith("_"):
                return name
    return None
