"""Randomness without a seed: global generators nobody seeds, generators made without one, splits, and seeds from clocks."""

import ast
from collections.abc import Iterator

from reprotui.reproduce.lint.names import Names, argument, constant, has_unpacking

Found = Iterator[tuple[ast.AST, str, str]]

PYTHON_DRAWS = frozenset(
    {"random", "randint", "randrange", "uniform", "choice", "choices", "shuffle", "sample", "gauss", "normalvariate",
     "lognormvariate", "expovariate", "betavariate", "gammavariate", "triangular", "vonmisesvariate", "paretovariate",
     "weibullvariate", "getrandbits", "randbytes", "binomialvariate"}
)  # fmt: skip
_NUMPY_NOT_DRAWS = frozenset(
    {"seed", "get_state", "set_state", "default_rng", "Generator", "RandomState", "SeedSequence", "BitGenerator",
     "MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64", "get_bit_generator", "set_bit_generator", "mtrand",
     "bit_generator", "test"}
)  # fmt: skip
TORCH_DRAWS = frozenset(
    {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson", "rand_like", "randn_like",
     "randint_like"}
)  # fmt: skip
SEEDS_ALL = frozenset(
    {"set_global_seed", "set_global_seeds", "set_seed", "seed_everything", "set_random_seed", "seed_all", "SeedContext"}
)
"""Functions of known libraries that seed `random`, NumPy and torch; recognised by the last part of an imported name."""
_SEED_CALLS = {
    "random.seed": "python",
    "numpy.random.seed": "numpy",
    "torch.manual_seed": "torch",
    "torch.random.manual_seed": "torch",
}
_SPLITS = frozenset({"torch.utils.data.random_split", "torch.utils.data.dataset.random_split"})
_KEY_MAKERS = frozenset({"jax.random.key", "jax.random.PRNGKey", "jax.random.wrap_key_data"})
_SEEDED_CONSTRUCTORS = {
    "numpy.random.default_rng": "seed",
    "numpy.random.RandomState": "seed",
    "numpy.random.SeedSequence": "entropy",
    "numpy.random.PCG64": "seed",
    "numpy.random.PCG64DXSM": "seed",
    "numpy.random.MT19937": "seed",
    "numpy.random.Philox": "seed",
    "numpy.random.SFC64": "seed",
    "random.Random": "x",
}
_RESEEDS = {"random.seed": "a", "numpy.random.seed": "seed"}
_CLOCKS = frozenset(
    {"time.time", "time.time_ns", "time.perf_counter", "time.perf_counter_ns", "time.monotonic", "time.monotonic_ns",
     "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "os.getpid", "os.urandom",
     "uuid.uuid1", "uuid.uuid4", "secrets.randbits", "secrets.token_bytes", "secrets.randbelow", "secrets.token_hex",
     "random.SystemRandom"}
)  # fmt: skip
_SEEDING = frozenset({*_SEED_CALLS, *_SEEDED_CONSTRUCTORS, *_KEY_MAKERS, "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"})


def seeded_libraries(names: Names) -> dict[str, int]:
    """Return the libraries whose global generator a module seeds, with the first line that does so."""
    found: dict[str, int] = {}
    for node, libraries in seeding_calls(names):
        for library in libraries:
            found[library] = min(found.get(library, node.lineno), node.lineno)
    return found


def seeding_calls(names: Names) -> Iterator[tuple[ast.Call, list[str]]]:
    """Yield every call that seeds global generators, with their libraries."""
    for node in names.nodes:
        called = names.called(node)
        if not called or not isinstance(node, ast.Call):
            continue
        if called in _SEED_CALLS and (node.args or node.keywords) and constant((node.args or [None])[0]) is not None:
            yield node, [_SEED_CALLS[called]]
        elif called.rpartition(".")[2] in SEEDS_ALL and not called.startswith("builtins."):
            yield node, _named_libraries(node) or ["python", "numpy", "torch"]


def _named_libraries(call: ast.Call) -> list[str]:
    """Return the libraries that `frameworks=` names; none where it is not given, or not written as literals."""
    named = argument(call, "frameworks")
    if isinstance(named, ast.Constant) and isinstance(named.value, str):
        return [named.value]
    if isinstance(named, ast.Tuple | ast.List | ast.Set):
        return [item.value for item in named.elts if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    return []


def unseeded_draws(names: Names, seeded: dict[str, int]) -> Found:
    """Find draws from a global generator that nothing seeds, or that stand above the seed at the top of the module."""
    for node in names.nodes:
        library = draw_of(names, node)
        if library is None:
            continue
        text = ast.unparse(node.func) if isinstance(node, ast.Call) else ast.unparse(node)
        rule = f"unseeded-{library}-random"
        if library not in seeded:
            yield node, rule, f"{text} draws from {_OWNER[library]}, which nothing here seeds"
        elif getattr(node, "lineno", 0) < seeded[library] and _at_top(names, node, seeded[library]):
            yield node, rule, f"{text} draws before line {seeded[library]} seeds {_OWNER[library]}"


_OWNER = {
    "python": "the global generator of `random`",
    "numpy": "NumPy's global generator",
    "torch": "torch's default generator",
}


def draw_of(names: Names, node: ast.AST) -> str | None:
    """Return the library from whose global generator a call draws, or None."""
    if not isinstance(node, ast.Call):
        return None
    head, _, last = names.called(node).rpartition(".")
    if head == "random" and last in PYTHON_DRAWS:
        return "python"
    if head == "numpy.random" and last not in _NUMPY_NOT_DRAWS and not last.startswith("_") and last[:1].islower():
        return "numpy"
    if head == "torch" and last in TORCH_DRAWS and not has_unpacking(node):
        generator = argument(node, "generator")
        if generator is None or constant(generator) is None:
            return "torch"
    return None


def _at_top(names: Names, node: ast.AST, line: int) -> bool:
    """Say whether node and seed both run when the module is read: then their lines are their order."""
    if names.scope(node) is not names.tree:
        return False
    seeds = [item for item in names.nodes if isinstance(item, ast.Call) and item.lineno == line]
    return any(names.scope(item) is names.tree for item in seeds)


def unseeded_generators(names: Names) -> Found:
    """Find generators that are made without a seed, and seeds that are drawn from the operating system."""
    for node in names.nodes:
        if not isinstance(node, ast.Call) or has_unpacking(node):
            continue
        called = names.called(node)
        if called == "random.SystemRandom":
            yield node, "unseeded-generator", "random.SystemRandom cannot be seeded"
        elif called in _SEEDED_CONSTRUCTORS or called in _RESEEDS:
            seed = argument(node, (_SEEDED_CONSTRUCTORS | _RESEEDS)[called], 0)
            if (seed is None or constant(seed) is None) and not _is_seeded_later(names, node):
                yield node, "unseeded-generator", f"{ast.unparse(node)} takes its seed from the operating system"
        elif called in ("torch.seed", "torch.random.seed"):
            yield node, "unseeded-generator", f"{ast.unparse(node)} seeds torch from the operating system"


def _is_seeded_later(names: Names, node: ast.Call) -> bool:
    """Say whether a generator is assigned to something whose `seed` is called elsewhere in the module."""
    parent = names.parent(node)
    if not isinstance(parent, ast.Assign | ast.AnnAssign):
        return False
    targets = {ast.unparse(item) for item in (parent.targets if isinstance(parent, ast.Assign) else [parent.target])}
    return any(
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("seed", "setstate")
        and call.args
        and ast.unparse(call.func.value) in targets
        for call in names.nodes
    )


def unseeded_splits(names: Names, seeded: dict[str, int]) -> Found:
    """Find splits of the data that differ in every run."""
    for node in names.nodes:
        if not isinstance(node, ast.Call) or has_unpacking(node):
            continue
        called = names.called(node)
        if called == "sklearn.model_selection.train_test_split":
            shuffle = argument(node, "shuffle")
            state = argument(node, "random_state")
            if (state is None or constant(state) is None) and constant(shuffle) is not False and "numpy" not in seeded:
                yield node, "unseeded-split", "train_test_split without random_state shuffles differently in every run"
        elif called in _SPLITS and argument(node, "generator", 2) is None and "torch" not in seeded:
            yield node, "unseeded-split", "random_split without generator splits differently in every run"


def time_seeds(names: Names) -> Found:
    """Find seeds that come from a clock, a process id or the operating system."""
    for node in names.nodes:
        for what, value in _seed_values(names, node):
            if (source := _clock_in(names, value)) is not None:
                yield node, "time-seed", f"{what} comes from {source}, another value in every run"


def _seed_values(names: Names, node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Call):
        called = names.called(node)
        is_seeding = called in _SEEDING or called.rpartition(".")[2] in SEEDS_ALL
        if is_seeding or (isinstance(node.func, ast.Attribute) and node.func.attr == "manual_seed"):
            for value in [*node.args[:1], *(keyword.value for keyword in node.keywords)]:
                yield f"the seed of {ast.unparse(node.func)}", value
        else:
            for keyword in node.keywords:
                if keyword.arg in _SEED_NAMES:
                    yield f"{keyword.arg}=", keyword.value
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if _last_name(target).lower() in _SEED_NAMES:
                yield ast.unparse(target), node.value


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return node.attr
        case ast.Subscript(slice=ast.Constant(value=str(key))):
            return key
    return ""


_SEED_NAMES = frozenset({"seed", "random_seed", "rng_seed", "base_seed", "global_seed", "random_state"})


def _clock_in(names: Names, value: ast.expr) -> str | None:
    for item in ast.walk(value):
        if isinstance(item, ast.Call) and names.called(item) in _CLOCKS:
            return f"{ast.unparse(item.func)}()"
        if isinstance(item, ast.Name) and item.id.lower() not in _SEED_NAMES and (source := _assigned_clock(names, item)):
            return source
    return None


def _assigned_clock(names: Names, name: ast.Name) -> str | None:
    """Return the clock that the only assignment to a name in its scope reads."""
    scope = names.scope(name)
    values = [
        node.value
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign) and any(isinstance(item, ast.Name) and item.id == name.id for item in node.targets)
    ]
    if len(values) != 1:
        return None
    calls = [names.called(item) for item in ast.walk(values[0]) if isinstance(item, ast.Call)]
    return next((f"{called}()" for called in calls if called in _CLOCKS), None)
