"""Read every operation of torch that this process calls: what goes in, what comes out, the line it came from. Bits stay.

A dispatch mode stands below autograd: the graph is the one that was made without it, and each operation runs as it would have.
Before it the checksums of its inputs are taken, where it does not only write over them; after it those of what it gave or wrote.

    h = gelu(self.first(x))    aten.addmm, aten.gelu   at model.py:29, module first
    loss.backward()            aten.gelu_backward      belongs to the aten.gelu that has the number of its node in the graph
    optimizer.step()           aten.addcdiv_           reads and writes params/first/weight
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reprotui.checksum import host_form
from reprotui.checksum.definition import lanes_to_checksum
from reprotui.checksum.leaves import to_numpy
from reprotui.errors import CannotTellError
from reprotui.observe.torch_places import Places
from reprotui.observe.torch_schemas import Form, form_of, written_statistics
from reprotui.observe.torch_told import digest, flat, generator_of, layout, state_of, tensors_of, text_of, unknown_in
from reprotui.record import lanes

if TYPE_CHECKING:
    import numpy as np

    from reprotui.observe.watch import Watch

KEPT_BYTES = 1 << 29
"""Values of outputs that are kept, from the first operation on; of one that does not fit the step is taken once more."""
WRITERS = 64
"""Operations that wrote to one storage that are remembered; a buffer that is filled piece by piece has many."""
_ACCUMULATES = "AccumulateGrad"


class _Seen(NamedTuple):
    """An operation that is called: its number, what is told of it, its form and arguments, the generator and its state."""

    number: int
    operation: dict[str, Any]
    form: Form
    given: Mapping[Any, Any]
    generator: Any
    drawn: str | None


class Operations(TorchDispatchMode):
    """The operations of one step.

    Args:
        watch: the observation: what it calls itself is none of the script's.
        owner: the observer that tells the steps, and the names of modules.
        wanted: operation and output whose value is kept; None keeps what fits.
    """

    supports_higher_order_operators = True

    def __init__(self, watch: "Watch", owner: Any, wanted: tuple[int, int] | None) -> None:
        super().__init__()
        self.owner, self._watch, self._wanted = owner, watch, wanted
        self._places = Places(str(torch.__file__))
        self._process, self._on = os.getpid(), False
        self._sequence = torch.autograd._get_sequence_nr
        self._clear()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch loads its compiler

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True  # else what is compiled would run uncompiled, with other bits

    def _clear(self) -> None:
        self._problem = ""
        self._operations: list[dict[str, Any]] = []
        self._modules: list[Any] = []
        self._by_node: dict[int, int] = {}
        self._seen = self._sequence()
        self._writers: dict[int, list[tuple[int, int]]] = {}
        self._shown: dict[tuple[int | None, str], tuple[int, int]] = {}
        self._given: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._alive: list[Any] = []
        self._known: set[int] = set()
        self._ends: dict[tuple[str, str], tuple[int, int]] = {}
        self._values: dict[tuple[int, int], np.ndarray] = {}
        self._kept = 0

    # What the observers call

    def begin(self) -> None:
        """Read from now on, and forget what was read before."""
        self._clear()
        if not self._on:
            if torch._C._len_torch_dispatch_stack():
                self._problem = "a dispatch mode of the script's own is active, which ours must not come between"
                return
            self._on = True
            self.__enter__()

    def call(self, function: Any, given: Any, made: Any) -> Any:
        """Make a call of a jitted function, which is none of torch's."""
        return made.run()

    def leaves(self, names: Sequence[tuple[str, str]], leaves: Sequence[Any]) -> None:
        """Note what records hold: which operation gave it last, and what it is called."""
        if not self._on:
            return
        for (phase, path), leaf in zip(names, leaves, strict=True):
            key = self._storage(leaf) if isinstance(leaf, torch.Tensor) else None
            if key is not None:
                self._names.setdefault(key, path)
                if key in self._writers:
                    self._ends[phase, path] = self._writers[key][-1]

    def result(self) -> dict[str, Any]:
        """Return what was read, as JSON can hold it.

        Raises:
            CannotTellError: an operation could not be read.
        """
        if self._problem:
            raise CannotTellError(self._problem)
        names = self.owner.modules()
        for operation, module in zip(self._operations, self._modules, strict=True):
            operation["module"] = "" if module is None else names.get(id(module), type(module).__name__)
        named = [self._names.get(key, "") for key in self._given]
        ends = [[*end, path] for (_, path), end in self._ends.items()]
        return {"operations": self._operations, "given": named, "ends": ends, "compiled": _compiles(), "framework": "torch"}

    def value(self, number: int, output: int) -> "np.ndarray | None":
        """Return what an operation gave, None where that was not kept."""
        return self._values.get((number, output))

    # What torch calls

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._watch.guarding or self._problem or os.getpid() != self._process:
            return func(*args, **kwargs)
        frame, seen = _caller(), None
        try:
            seen = self._about(func, args, kwargs, frame)
        except Exception as error:  # the script goes on whatever cannot be read
            self._problem = f"{func} cannot be read: {type(error).__name__}: {error}"
        del frame
        result = func(*args, **kwargs)
        if seen is not None:
            try:
                self._gave(*seen, result)
            except Exception as error:
                self._problem = f"what {func} gave cannot be read: {type(error).__name__}: {error}"
        return result

    def _about(self, func: Any, args: Any, kwargs: Any, frame: Any) -> _Seen | None:
        """Note an operation that is about to be called, and what goes in; None for what is none of the script's."""
        form = form_of(func)
        found = None if form.silent else self._places.find(frame)
        if found is None or found.ours:
            return None
        number, node = len(self._operations), torch._C._current_autograd_node()
        given = {**dict(zip(form.arguments, args, strict=False)), **kwargs} if form.arguments else dict(enumerate(args)) | kwargs
        tensors = [(name, tensor) for name, value in given.items() for tensor in tensors_of(value)]
        reads = [tensor for name, tensor in tensors if name not in form.overwrites]
        operation: dict[str, Any] = {
            "name": form.name, "operation": str(func), "text": text_of(form.name, given), "view": form.view,
            "given": [*map(self._sum, reads), *[None] * unknown_in(given)], "sources": [self._source(tensor) for tensor in reads],
            "from": [self._from(tensor) for tensor in reads], "line": found.line, "through": found.through, "of": None,
            "node": "", "within": found.within,
        }  # fmt: skip
        if node is None:
            here = self._sequence()
            for made in range(self._seen, here):
                self._by_node.setdefault(made, number)
            self._seen = max(self._seen, here)
        else:
            operation["node"] = str(node.name()).rpartition("::")[2]
            operation["of"] = None if _ACCUMULATES in operation["node"] else self._by_node.get(node._sequence_nr())
        generator = generator_of(given, tensors) if form.chance else None
        self._operations.append(operation)
        self._modules.append(found.module)
        return _Seen(number, operation, form, given, generator, None if generator is None else state_of(generator))

    def _gave(
        self, number: int, operation: dict[str, Any], form: Form, given: Mapping[Any, Any], generator: Any, drawn: str | None,
        result: Any,
    ) -> None:  # fmt: skip
        """Note what an operation gave, and what it wrote."""
        if generator is not None and state_of(generator) != drawn:
            operation["generator"] = drawn
        writes = {*form.writes, *(written_statistics(dict(given)) if form.statistics else ())}
        written = [tensor for name in given if name in writes for tensor in tensors_of(given[name])]
        keys = {self._storage(tensor) for tensor in written}
        outputs = [tensor for tensor in tensors_of(result) if self._storage(tensor) not in keys or not written]
        found = [*outputs, *written]
        if form.view:
            # Its bits are those of what it shows: what it shows, and how, tell it.
            shown = str((operation["given"][:1], operation["text"], [layout(tensor) for tensor in outputs]))
            as_it_was = {layout(tensor) for tensor in tensors_of(list(given.values()))}
            for at, tensor in enumerate(outputs):
                if layout(tensor) not in as_it_was:
                    self._shown[self._storage(tensor), layout(tensor)] = number, at
            sums: list[str | None] = [digest(f"{shown} {at}") for at in range(len(outputs))]
        else:
            sums = [None if form.unset else self._sum(tensor) for tensor in found]
            for at, tensor in enumerate(found):
                self._wrote(tensor, number, at)
                self._keep(number, at, tensor, sums[at])
        numbers = [value for value in flat(result) if isinstance(value, bool | int | float | complex)]
        operation["outputs"] = [*sums, *(digest(repr(value)) for value in numbers)]
        arrays = [[str(tensor.dtype).removeprefix("torch."), list(map(int, tensor.shape))] for tensor in found]
        operation["arrays"] = [*arrays, *([type(value).__name__, []] for value in numbers)]
        operation["unset"], operation["number"] = form.unset, bool(numbers)

    def _wrote(self, tensor: Any, number: int, at: int) -> None:
        key = self._storage(tensor)
        if key is not None:
            writers = self._writers.setdefault(key, [])
            writers.append((number, at))
            if len(writers) > WRITERS:
                del writers[1]

    def _keep(self, number: int, at: int, tensor: Any, checksum: str | None) -> None:
        wanted = self._wanted == (number, at) if self._wanted else self._kept + tensor.nbytes <= KEPT_BYTES
        if checksum is not None and wanted:
            value = to_numpy(tensor).copy()
            self._values[number, at] = value
            self._kept += value.nbytes

    def _source(self, tensor: Any) -> list[Any]:
        """Return where an input came from: the operation that wrote it last, or the how-manieth that came from elsewhere."""
        key = self._storage(tensor)
        if key is None:
            return ["unknown", 0, 0]
        if key in self._writers:
            return ["operation", *self._writers[key][-1]]
        return ["given", self._given.setdefault(key, len(self._given)), 0]

    def _from(self, tensor: Any) -> list[tuple[int, int]]:
        """Return the operations that an input may have a difference from: who wrote to its storage, who showed it so."""
        key = self._storage(tensor)
        shown = self._shown.get((key, layout(tensor)))
        return [*self._writers.get(key, ()), *([] if shown is None else [shown])] if key is not None else []

    def _storage(self, tensor: Any) -> int | None:
        """Return what tells a storage from all others, also from a later one in its place; None where there is none."""
        try:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._known:
                self._known.add(key)
                self._alive.append(
                    storage._weak_ref()
                )  # the address of the storage is not given to another one; its data is let go
        except (AttributeError, RuntimeError, NotImplementedError):
            return None
        return key

    def _sum(self, tensor: Any) -> str | None:
        """Return the checksum of a tensor's bits in the order in which they lie; None where it has none of its own."""
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_meta:
            return None
        if not tensor.numel():
            return "empty"
        if tensor.is_conj() or tensor.is_neg():
            tensor = torch.resolve_neg(torch.resolve_conj(tensor))
        elif not tensor.is_contiguous():
            # A transposed one is read as it lies, an expanded one once.
            order = sorted(zip(tensor.stride(), tensor.shape, strict=True), reverse=True)
            order = [(stride, 1 if stride == 0 else size) for stride, size in order]
            tensor = tensor.as_strided([size for _, size in order], [stride for stride, _ in order])
        if tensor.is_cpu:
            return f"{host_form.checksum(to_numpy(tensor)):016x}"
        return f"{lanes_to_checksum(*map(int, lanes.take([tensor.contiguous()]).result().lanes[0])):016x}"


def _caller() -> Any:
    """Return the frame that called the operation which is dispatched."""
    return sys._getframe(2)


def _compiles() -> bool:
    """Say whether parts of the script were compiled."""
    found = sys.modules.get("torch._dynamo.utils")
    return found is not None and bool(found.counters["frames"]["ok"])


def reader(watch: "Watch", owner: Any, request: Mapping[str, Any]) -> Operations:
    """Return what reads the steps of torch, see `reprotui.observe.explaining`."""
    wanted = request["wanted"]
    return Operations(watch, owner, None if wanted is None else (int(wanted[0]), int(wanted[1])))
