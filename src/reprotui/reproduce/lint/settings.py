"""Settings of torch that make equal runs differ: loaders whose workers are not seeded, timing, determinism switched off."""

import ast
from collections.abc import Iterator

from reprotui.reproduce.lint.names import Names, argument, constant, has_unpacking

Found = Iterator[tuple[ast.AST, str, str]]

_LOADERS = frozenset(
    {"torch.utils.data.DataLoader", "torch.utils.data.dataloader.DataLoader", "torch.utils.data.dataloader_v1.DataLoader"}
)


def loaders(names: Names) -> Found:
    """Find DataLoaders with workers that are not given a generator and a function that seeds them."""
    for node in names.nodes:
        if names.called(node) not in _LOADERS or not isinstance(node, ast.Call) or has_unpacking(node):
            continue
        workers = argument(node, "num_workers", 5)
        if workers is None or constant(workers) == 0:
            continue
        missing = [name for name in ("generator", "worker_init_fn") if argument(node, name) is None]
        if missing:
            yield node, "loader-workers", f"a DataLoader with workers has no {' and no '.join(missing)}"


def switches(names: Names) -> Found:
    """Find assignments and calls that switch determinism off."""
    for node in names.nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                match names.dotted(target), constant(node.value):
                    case "torch.backends.cudnn.benchmark", True:
                        yield node, "cudnn-benchmark", "cuDNN chooses its kernels by timing them"
                    case "torch.backends.cudnn.deterministic", False:
                        yield node, "determinism-off", "cuDNN may use kernels that are not deterministic"
        elif isinstance(node, ast.Call) and names.called(node) == "torch.use_deterministic_algorithms":
            mode = argument(node, "mode", 0)
            if constant(mode) is False:
                yield node, "determinism-off", "deterministic algorithms are switched off"
