"""Read what every kernel of a compiled program gives, by taps that XLA puts in after it has fused.

One more output of the traced function would change how XLA fuses it, and with it the bits. So the function gets further outputs
that nothing depends on; once all kernels are made, and before they are scheduled, each of these is replaced by a copy of a
kernel's output. Whether the program's own outputs kept their bits is for the caller to check: it is always checked.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from reprotui.errors import CannotTellError
from reprotui.explain.hlo import TYPES, Array, Instruction, Kernel, Module, users_of

hlo: Any = importlib.import_module("jaxlib._hlo")
"""XLA's modules; jaxlib has no types for them."""
NAME = "reprotui_explained_step"
GROUP_BYTES = 1 << 30
"""Outputs of kernels that are read in one run of the program; those of a larger program are read in several."""
XLA_TYPES = {name: kind for kind, name in TYPES.items()}

Tap = tuple[int, int]
"""A kernel's number and the number of its output."""


class Run(NamedTuple):
    """What one run gave: the outputs of the program, flat, and what the taps of its group read."""

    outputs: list[Any]
    values: dict[Tap, np.ndarray]


class Taps:
    """A function and arguments, its kernels, and runs that read them.

    Args:
        function: takes the arguments, returns a tree of arrays.
        arguments: trees of arrays; they are left as they are.

    Raises:
        CannotTellError: this jax has no way in, or cannot compile the function so.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function, self._arguments = function, arguments
        self._edit: Callable[[Any], str | None] = lambda _: None
        self._problem = ""
        _register(self._transform)
        listed: list[Module] = []
        self._compile([Array("float32", ())], lambda module: listed.append(Module.parse(_text(module, metadata=True))))
        if not listed:
            raise CannotTellError(f"XLA did not show the step's program{self._problem and f': {self._problem}'}")
        self._count = len(listed[0].root.operands) - 1
        kernels, self.ends = listed[0].kernels(self._count)
        self.kernels: list[Kernel] = [kernel for _, kernel in kernels]
        self.groups = list(_groups(self.kernels))
        self._compiled: dict[int, Any] = {}

    @property
    def unread(self) -> list[str]:
        """Return the kernels of which no output can be read."""
        read = {number for group in self.groups for number, _ in group}
        return [kernel.name for number, kernel in enumerate(self.kernels) if number not in read]

    def run(self, group: int) -> Run:
        """Run the program once, and read the taps of a group.

        Raises:
            CannotTellError: with its taps the program has other kernels.
        """
        taps = self.groups[group]
        if group not in self._compiled:
            arrays = [self.kernels[number].arrays[output] for number, output in taps]
            self._compiled[group] = self._compile(arrays, lambda module: self._tapped(Module.parse(_text(module)), taps))
            if self._problem:
                raise CannotTellError(f"the kernels of this program cannot be read: {self._problem}")
        outputs, values = self._compiled[group](self._arguments, np.uint8(0))
        return Run(outputs, {tap: np.asarray(value) for tap, value in zip(taps, values, strict=True)})

    def group_of(self, tap: Tap) -> int:
        """Return the group that reads a tap."""
        return next(number for number, group in enumerate(self.groups) if tap in group)

    def _compile(self, further: Sequence[Array], edit: Callable[[Any], str | None]) -> Any:
        def both(arguments: Any, one: Any) -> Any:
            return jax.tree.leaves(self._function(*arguments)), [_filler(array, one) for array in further]

        both.__name__ = both.__qualname__ = NAME
        self._edit, self._problem = edit, ""
        try:
            return jax.jit(both, keep_unused=True).lower(self._arguments, np.uint8(0)).compile()
        finally:
            self._edit = lambda _: None

    def _transform(self, serialized: bytes) -> bytes | None:
        """Change a module on its way through XLA; what is raised here XLA would swallow or die of."""
        try:
            module = hlo.HloModule.from_serialized_hlo_module_proto(serialized)
            if module.name != f"jit_{NAME}":
                return None
            text = self._edit(module)
            return None if text is None else hlo.hlo_module_from_text(text).as_serialized_hlo_module_proto()
        except Exception as error:
            self._problem = str(error).strip().partition("\n")[0] or type(error).__name__
            return None

    def _tapped(self, module: Module, taps: Sequence[Tap]) -> str:
        """Return a module whose last outputs are copies of what kernels gave."""
        found, _ = module.kernels(self._count)
        if [_form(kernel) for _, kernel in found] != [_form(kernel) for kernel in self.kernels]:
            raise CannotTellError("with further outputs XLA makes other kernels of it")
        added: dict[int, list[str]] = {}
        before: dict[str, list[str]] = {}
        for place, (number, output) in enumerate(taps):
            item, array = found[number][0], found[number][1].arrays[output]
            lines = added.setdefault(item.line, [])
            source = item.name
            if item.tuple_shaped:
                source = f"%tapped_part.{place}"
                lines.append(f"  {source} = {item.shapes[output]} get-tuple-element({item.name}), index={output}")
            lines.append(f"  %tapped.{place} = {_shape(array)} copy({source})")
            # A loop or an update in place may take the buffer over: the copy comes before everybody who reads it.
            for user in users_of(module, item.name):
                before.setdefault(user.name, []).append(f"%tapped.{place}")
        for item in module.computations[module.entry]:
            if item.name in before:
                module.lines[item.line] = _after(module.lines[item.line], before[item.name])
        root = module.root
        ours = [f"%tapped.{place}" for place in range(len(taps))]
        module.lines[root.line] = _with_operands(module.lines[root.line], root, [*root.operands[: -len(taps)], *ours])
        return "\n".join(text for number, line in enumerate(module.lines) for text in (line, *added.get(number, [])))


def _register(callback: Callable[[bytes], bytes | None]) -> None:
    """Let a callback change the modules that this process compiles; the cache of compiled programs knows nothing of it."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # jax asks once whether there is one, and the program that trained came first
    if jax.default_backend() != "cpu":
        raise CannotTellError(f"explain reads kernels on the CPU alone so far, and this run trained on {jax.default_backend()}")
    if jax.device_count() > 1:
        raise CannotTellError("explain reads the kernels of one device, and this run has several")
    try:
        from jax.extend.xla import PipelineStage, register_hlo_module_transformation

        register_hlo_module_transformation(callback, name="reprotui_taps", stage=PipelineStage.PRE_SCHEDULER, platforms="cpu")
    except (ImportError, NotImplementedError):
        said = "has no jax.extend.xla.register_hlo_module_transformation: explain needs jax 0.10.2 or a newer one that has it"
        raise CannotTellError(f"jax {jax.__version__} {said}") from None


def _groups(kernels: Sequence[Kernel]) -> Iterator[list[Tap]]:
    """Yield the outputs that can be read, as many at a time as fit."""
    group: list[Tap] = []
    size = 0
    for number, kernel in enumerate(kernels):
        for output, array in enumerate(kernel.arrays):
            if array.dtype and 0 not in array.shape:
                bytes_here = int(np.prod(array.shape, dtype=np.int64)) * jax.numpy.dtype(array.dtype).itemsize
                if group and size + bytes_here > GROUP_BYTES:
                    yield group
                    group, size = [], 0
                group.append((number, output))
                size += bytes_here
    if group:
        yield group


def _filler(array: Array, one: Any) -> Any:
    """Return an array that depends on nothing of the program, and that XLA cannot compute beforehand."""
    return jax.lax.broadcast(jax.lax.convert_element_type(one + np.uint8(1), jax.numpy.dtype(array.dtype)), array.shape)


def _form(kernel: Kernel) -> Any:
    return kernel.opcode, kernel.arrays, [text for text, _ in kernel.body], kernel.inputs


def _shape(array: Array) -> str:
    layout = f"{{{','.join(map(str, reversed(range(len(array.shape)))))}}}" if array.shape else ""
    return f"{XLA_TYPES[array.dtype]}[{','.join(map(str, array.shape))}]{layout}"


def _after(line: str, names: Sequence[str]) -> str:
    """Return an instruction that waits for others."""
    mark = "control-predecessors={"
    if mark in line:
        return line.replace(mark, f"{mark}{', '.join(names)}, ")
    return f"{line}, {mark}{', '.join(names)}}}"


def _with_operands(line: str, root: Instruction, operands: Sequence[str]) -> str:
    head, _, rest = line.rpartition(" tuple(")
    return f"{head} tuple({', '.join(operands)}){rest[rest.index(')') + 1 :]}"


def _text(module: Any, metadata: bool = False) -> str:
    options = hlo.HloPrintOptions()
    options.print_large_constants = True  # of two programs, what they captured may be all that differs
    options.print_metadata = metadata
    return module.to_string(options)
