"""What models are called with: the batch of a step is what led to its losses, all else is what the networks were only asked.

    q(state).argmax()                      acts: no loss comes of it; asked, at its 1st call before step 1
    with torch.no_grad(): t(next_state)    asked, too
    mse_loss(q(states), y).backward()      batch/0, and batch/mse_loss/target

Which it was shows at the backward pass: a call's outputs are marked, and the marks behind the loss tell its calls.
"""

import dataclasses
import functools
import hashlib
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reprotui.asked import Asked
from reprotui.observe import torch_graph
from reprotui.observe.watch import Watch

if TYPE_CHECKING:
    from reprotui.record.assembly import Part

CALLS_NAMED = 64
"""Calls and losses within one step that are recorded one by one: accumulation makes many."""
ASKED = 1 << 16
"""Calls between two steps of which checksums are kept."""
_DEPTH = 4


class _Call:
    """A call of a network, or of a loss that is a module: what it was given, and whether a loss came of it."""

    __slots__ = ("enters", "module", "network", "parents", "part", "paths", "phase", "prefix", "step")

    def __init__(self, step: int, module: Any, network: str | None, phase: str | None) -> None:
        self.step, self.module, self.network, self.phase = step, id(module), network, phase
        self.paths: tuple[str, ...] = ()
        self.prefix = ""
        self.part: Any = None
        self.parents: set[int] = set()
        self.enters = False


class Calls:
    """The calls since the last step, and of the step before where several optimizers take turns."""

    def __init__(self, torch: Any, watch: Watch) -> None:
        self._torch, self._watch = torch, watch
        self._numbered: dict[int, _Call] = {}
        self.count = 0
        self._named: Counter[int] = Counter()  # entered calls of each module, by identity, in this step
        # By the module and not its identity: a later one may have that.
        self._networks: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._of_class: Counter[str] = Counter()
        self._losses = 0
        self._rng_taken = self._rng_entered = False
        self.entered: list[Part] = []
        """What led to the losses of this step, as parts of its record."""

    def take(self, step: int, module: Any, args: Any, kwargs: Any, phase: str | None) -> int | None:
        """Take the checksums of what a module is given before `step`; return the number of the call.

        `phase` is that of the batch, or of a later evaluation; None where no loss can come of it, as no gradients are kept.
        """
        if len(self._numbered) >= ASKED:
            self._watch.coverage.note(f"of calls of networks between two steps, the inputs of the first {ASKED:,} are recorded")
            return None
        asks, model = phase is None, next(module.parameters(), None) is not None
        given = list(_inputs(args, kwargs, self._torch.Tensor))
        # What asks for a gradient came out of another call, or is trained.
        named = [(path, tensor) for path, tensor in given if not tensor.requires_grad and self.has_bits(tensor)]
        paths, leaves = [path for path, _ in named], [tensor for _, tensor in named]
        if not (asks or self._rng_taken):
            self._rng_taken = True
            self._add_generators(paths, leaves)
        call = _Call(step, module, self._network(module) if model else None, phase)
        # What a loss that is a module is given stands behind its class.
        call.prefix, call.paths = "batch" if model else f"batch/{type(module).__name__}", tuple(paths)
        call.part = self._watch.assembly.part(_names(call.paths, phase or "batch", call.prefix), leaves)
        if not asks:
            call.parents = torch_graph.calls_behind(tensor for _, tensor in given if tensor.grad_fn is not None)
        self.count += 1
        self._numbered[self.count] = call
        return self.count

    def returned(self, number: int, result: Any) -> None:
        """Mark what a call gave, so that a loss behind which it stands is known to come of it."""
        found = torch_graph.mark((tensor for _, tensor in tensors_in("", result, self._torch.Tensor)), number)
        if not found:
            self._enter(number)  # no graph leads there: as far as anybody can tell, the loss does

    def lead_to(self, roots: Sequence[Any], phase: str) -> None:
        """Take what led to losses, just before their backward pass; `phase` as in `take`."""
        found = torch_graph.behind(roots)
        for number in sorted(self._with_parents(found.calls) if found.whole else self._numbered):
            self._enter(number)
        self.give(phase, found.entered)

    def all_lead(self) -> None:
        """Take all calls as the batch: there was no backward pass that would tell."""
        for number in list(self._numbered):
            self._enter(number)

    def give(self, phase: str, named: Sequence[tuple[str, Any]]) -> None:
        """Take what enters a loss beside the calls of models, and torch's generators where no call came before."""
        entered = [(path, tensor) for path, tensor in named if self.has_bits(tensor)]
        if len(self.entered) >= CALLS_NAMED:
            return
        self._losses += 1
        prefix = "batch" if self._losses == 1 else f"batch/loss_{self._losses}"
        paths, leaves = [f"{prefix}/{path}" for path, _ in entered], [tensor for _, tensor in entered]
        if not self._rng_entered:
            self._rng_taken = self._rng_entered = True
            self._add_generators(paths, leaves)
        names = tuple([("rng" if path.startswith("rng/") else phase, path) for path in paths])
        if names:
            self.entered.append(self._watch.assembly.part(names, leaves))

    def close(self, step: int, last: int) -> None:
        """Write down which calls before a step, up to the last of them, were only asked, and forget them."""
        over = []
        for number, call in self._numbered.items():
            if number <= last:
                over.append(number)
            else:  # it was made before anybody knew that the step was over
                call.step = max(call.step, step + 1)
        by_step: dict[int, list[_Call]] = {}
        for number in over:
            call = self._numbered.pop(number)
            if not call.enters and call.network is not None:
                by_step.setdefault(call.step, []).append(call)
        for step, calls in by_step.items():
            self._write(step, calls)

    def new_step(self) -> None:
        """Begin anew: what entered was taken, and what comes now belongs to another step."""
        self.entered = []
        self._named.clear()
        self._losses, self._rng_taken, self._rng_entered = 0, False, False

    def _with_parents(self, numbers: set[int]) -> set[int]:
        found: set[int] = set()
        todo = list(numbers)
        while todo:
            number = todo.pop()
            if number in self._numbered and number not in found:
                found.add(number)
                todo += self._numbered[number].parents
        return found

    def _enter(self, number: int) -> None:
        call = self._numbered[number]
        if call.enters or call.phase is None:
            return
        call.enters = True
        if len(self.entered) >= CALLS_NAMED:
            self._watch.coverage.note(f"of a step's forward calls, the inputs of the first {CALLS_NAMED} are recorded")
            return
        self._rng_entered |= any(path.startswith("rng/") for path in call.paths)
        self._named[call.module] += 1
        number = self._named[call.module]
        if number == 1:
            self.entered.append(call.part)
            return
        lanes, selection = call.part
        named = _names(call.paths, str(call.phase), f"{call.prefix}/call_{number}")
        entries = [
            (phase, spec._replace(path=path), index)
            for (phase, path), (_, spec, index) in zip(named, selection.entries, strict=True)
        ]
        self.entered.append((lanes, self._watch.assembly.select(entries)))

    def _write(self, step: int, calls: list[_Call]) -> None:
        networks = list(dict.fromkeys(str(call.network) for call in calls))
        which = bytes(min(networks.index(str(call.network)), 255) for call in calls)
        parts = [(call.part[0], len([path for path in call.paths if not path.startswith("rng/")])) for call in calls]
        if self._watch.session is not None and not self._watch.session.ended:
            self._watch.session.writer.asked(
                lambda: Asked(step, tuple(networks), which, b"".join(_digest(*part) for part in parts))
            )

    def _network(self, module: Any) -> str:
        """Return what a network is called: its class, with a number from the second one of it on."""
        if module not in self._networks:
            kind = type(module).__name__
            self._of_class[kind] += 1
            self._networks[module] = f"{kind}#{self._of_class[kind]}" if self._of_class[kind] > 1 else kind
        return self._networks[module]

    def _add_generators(self, paths: list[str], leaves: list[Any]) -> None:
        for (_, path), state in self._watch.generators.leaves(torch_computes=True) if self._watch.generators else []:
            paths.append(path)
            leaves.append(state)

    def has_bits(self, tensor: Any) -> bool:
        """Say whether a tensor lies somewhere as it is: not one that only has a shape, or that other tensors make up."""
        if tensor.layout == self._torch.strided and tensor.device.type != "meta":
            return True
        self._watch.coverage.note(f"inputs of layout {tensor.layout} on {tensor.device.type} are not recorded")
        return False


@functools.cache
def _names(paths: tuple[str, ...], phase: str, prefix: str) -> tuple[tuple[str, str], ...]:
    """Return phase and path in a record of what a call was given."""
    return tuple(("rng", path) if path.startswith("rng/") else (phase, f"{prefix}/{path}") for path in paths)


def _digest(lanes: Any, count: int) -> bytes:
    rows = lanes.result().lanes[:count].astype("<u4", copy=False).tobytes()
    return rows if len(rows) == 8 else hashlib.blake2b(rows, digest_size=8).digest()


def _inputs(args: Sequence[Any], kwargs: Mapping[str, Any], tensor: type) -> Iterator[tuple[str, Any]]:
    for number, value in enumerate(args):
        yield from tensors_in(str(number), value, tensor)
    for name, value in kwargs.items():
        yield from tensors_in(name, value, tensor)


def tensors_in(path: str, value: Any, tensor: type, depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield the tensors in a value with their paths: in mappings, tuples, lists and dataclasses."""
    if isinstance(value, tensor):
        yield path, value
    elif depth:
        for name, inner in _entries(value):
            yield from tensors_in(f"{path}/{name}" if path else name, inner, tensor, depth - 1)


def _entries(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return ((str(name), inner) for name, inner in value.items())
    if isinstance(value, tuple | list):
        return ((str(number), inner) for number, inner in enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
    return ()
