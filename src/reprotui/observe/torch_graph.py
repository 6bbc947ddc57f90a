"""What the graph behind a loss tells before `backward` consumes it: calls of models that lead there, what else enters, leaves.

Of `cross_entropy(model(x), labels).backward()`:

    NllLossBackward ─ LogSoftmaxBackward ─ the output of model(x), which its call had marked
      └ labels, which the loss keeps for its backward pass: `nll_loss/target`

A mark lies in the metadata of the output's node, which lives as long as the graph does: nothing is kept alive for it.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

NODES = 256
"""Nodes between a loss and the outputs of models that are looked at: a loss of one's own has a dozen."""
_MARK = "reprotui-call"
_COMPUTED = ("result", "output", "total_weight", "save_", "log_", "reserve", "grad_")
"""How the names of those tensors begin that an operation keeps of what it computed itself."""


class Behind(NamedTuple):
    """What lies between a loss and the outputs of models: marks of calls, what entered there, and whether all was seen."""

    calls: set[int]
    entered: list[tuple[str, Any]]
    whole: bool


class SavedHooks:
    """Whether the script has changed how tensors are kept for the backward pass: then looking at one would compute it again."""

    in_use = False


def mark(outputs: Iterable[Any], call: int) -> bool | None:
    """Mark a call's outputs; return whether one of them has a graph behind it, None where no tensor was found."""
    found = None
    for output in outputs:
        node = output.grad_fn
        found = found or node is not None
        if node is not None:
            node.metadata[_MARK] = call
    return found


def calls_behind(inputs: Iterable[Any]) -> set[int]:
    """Return the calls that gave what another call is given."""
    nodes = [node for tensor in inputs if (node := tensor.grad_fn) is not None]
    return behind(nodes, keep=False).calls if nodes else set()


def behind(roots: Sequence[Any], keep: bool = True) -> Behind:
    """Look from losses down to the outputs of models; `keep` asks for what entered on the way."""
    calls: set[int] = set()
    entered: list[tuple[str, Any]] = []
    keep = keep and not SavedHooks.in_use
    for number, node in enumerate(_nodes(roots, marked=calls)):
        if number >= NODES:
            return Behind(calls, entered, whole=False)
        if keep:
            entered += _entered(node)
    return Behind(calls, entered, whole=True)


def leaves(roots: Sequence[Any]) -> list[Any]:
    """Return the tensors that gradients will be added to, those first that enter first."""
    found = [node.variable for node in _nodes(roots) if type(node).__name__ == "AccumulateGrad"]
    return found[::-1]


def _nodes(roots: Sequence[Any], marked: set[int] | None = None) -> Iterator[Any]:
    """Yield the nodes behind some, each once; with `marked`, not those behind a mark, which is added there."""
    seen = dict.fromkeys(roots)
    todo = list(seen)
    while todo:
        node = todo.pop()
        if marked is not None and (call := node.metadata.get(_MARK)) is not None:
            marked.add(call)
            continue
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen[following] = None
                todo.append(following)


def _entered(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an operation keeps of its inputs that no graph leads to: data, labels, constants."""
    operation, names = _saved(type(node))
    for name, attribute in names:
        try:
            kept = getattr(node, attribute)
        except RuntimeError:  # freed by a backward pass before, or overwritten: backward itself will say so
            continue
        for tensor in kept if isinstance(kept, tuple | list) else (kept,):
            # A single number beside a tensor is a constant of the program, such as what a mean is divided by.
            if hasattr(tensor, "requires_grad") and not tensor.requires_grad and (tensor.dim() or name != "other"):
                yield f"{operation}/{name}", tensor


@functools.cache
def _saved(kind: type) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return what an operation is called, and name and attribute of what it keeps of its inputs."""
    name = kind.__name__.partition("Backward")[0]
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
    kept = [attribute.removeprefix("_saved_") for attribute in dir(kind) if attribute.startswith("_saved_")]
    return words, tuple((name, f"_saved_{name}") for name in kept if not name.startswith(_COMPUTED))
