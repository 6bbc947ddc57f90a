"""Take a step of a run again from the state before it, and read every kernel: in the process that stands for the run."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checksum import host_form
from reprotui.checksum.jax_form import named_leaves
from reprotui.checksum.leaves import raw_bytes, to_numpy
from reprotui.errors import CannotTellError
from reprotui.explain.equations import equations
from reprotui.explain.sources import Place
from reprotui.explain.taps import Tap, Taps
from reprotui.replay.rerun import Replay
from reprotui.worker.program import step_paths
from reprotui.worker.steps import step_inputs


def recompute(request: dict[str, Any], directory: Path) -> "tuple[dict[str, Any], Recomputation | None]":
    """Replay a run to a step, and read the kernels of that step; without them where it is not faithful to the trace.

    Args:
        request: as `reprotui.replay.running` writes it, with `times`: how often the step is taken.
        directory: gets the values that are asked for.

    Returns:
        What the caller's side compares, and what answers its further questions.
    """
    replay = Replay({**request, "step": None, "repeat": 1}, directory, keep_before=True)
    found = {**replay.run(), **replay.describe()}
    if not found["faithful"] or replay.before is None:
        return found, None
    program, before = replay.program, replay.before
    batch, key = step_inputs(program, before)
    # The program that trained takes the buffers of its state.
    outputs = program.step(jax.tree.map(jnp.copy, before.state), batch, key)
    names = [path for _, path in step_paths(jax.eval_shape(lambda: outputs))]
    given = {**before.state._asdict(), "batch": batch, "rng": key}
    recomputation = Recomputation(program.experiment.train_step, (before.state, batch, key), outputs, names)
    inputs = [[path, _checksum(to_numpy(leaf))] for path, leaf in named_leaves(given)]
    return {**found, "inputs": inputs, **recomputation.read(request["times"])}, recomputation


class Recomputation:
    """A function and arguments, its kernels, and what they give.

    Args:
        function: the training step.
        arguments: what goes in; they are left as they are.
        outputs: what the program that trained gave of them: with taps every bit must be the same.
        names: of the outputs, in flattening order.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], outputs: Any, names: Sequence[str]) -> None:
        _say("compiling", 0, 1)
        self._taps = Taps(function, arguments)
        self._traced = jax.jit(function).trace(*arguments)
        self._outputs = [raw_bytes(to_numpy(leaf)).tobytes() for leaf in jax.tree.leaves(outputs)]
        self._names = names
        self._identical = len(self._outputs)

    def read(self, times: int = 1) -> dict[str, Any]:
        """Return kernels with checksums, ends and equations, as JSON can hold them.

        Raises:
            CannotTellError: with taps the program's own outputs have other bits.
        """
        outcomes = self._run(times)
        kernels = [
            {
                "name": kernel.name, "opcode": kernel.opcode, "operation": kernel.operation, "place": _place(kernel.place),
                "arrays": [[array.dtype, list(array.shape)] for array in kernel.arrays],
                "body": [[text, _place(place)] for text, place in kernel.body],
                "inputs": [list(source) for source in kernel.inputs],
                "outputs": [outcomes[0].get((number, output)) for output in range(len(kernel.arrays))],
                "distinct": _distinct(number, outcomes),
            }
            for number, kernel in enumerate(self._taps.kernels)
        ]  # fmt: skip
        jaxpr = self._traced.jaxpr.jaxpr
        return {
            "outputs": {"count": len(self._outputs), "identical": self._identical},
            "kernels": kernels, "unread": self._taps.unread, "ends": self._ends(jaxpr),
            "equations": [[text, _place(place)] for text, place in equations(jaxpr)],
        }  # fmt: skip

    def value(self, tap: Tap) -> np.ndarray:
        """Return what a kernel gave, in a further run."""
        return self._taps.run(self._taps.group_of(tap)).values[tap]

    def _run(self, times: int) -> list[dict[Tap, str]]:
        """Run the program with taps; return the checksums of every kernel's outputs, one mapping a repetition.

        Raises:
            CannotTellError: with taps the program's own outputs have other bits.
        """
        outcomes: list[dict[Tap, str]] = []
        total = times * len(self._taps.groups)
        for time in range(times):
            sums: dict[Tap, str] = {}
            for group in range(len(self._taps.groups)):
                run = self._taps.run(group)
                same = sum(raw_bytes(to_numpy(leaf)) == bits for leaf, bits in zip(run.outputs, self._outputs, strict=True))
                self._identical = min(self._identical, same)
                if same < len(self._outputs) and times == 1:
                    said = f"only {same} of {len(self._outputs)} outputs of the step are identical with taps"
                    raise CannotTellError(f"{said}: what its kernels give says nothing about the run")
                sums |= {tap: _checksum(value) for tap, value in run.values.items()}
                _say("reading", time * len(self._taps.groups) + group + 1, total)
            outcomes.append(sums)
        return outcomes

    def _ends(self, jaxpr: Any) -> list[list[Any]]:
        """Return which leaf each kernel's output ends as: (kernel, output, path); empty where that cannot be told."""
        given = {id(variable) for variable in jaxpr.invars}
        # jax hands on what a function only returns, and it is no output of the program.
        names = [name for name, variable in zip(self._names, jaxpr.outvars, strict=True) if id(variable) not in given]
        if len(names) != len(self._taps.ends):
            return []
        return [
            [number, output, name]
            for (kind, number, output), name in zip(self._taps.ends, names, strict=True)
            if kind == "kernel"
        ]


def _distinct(number: int, outcomes: list[dict[Tap, str]]) -> int:
    """Return how many different outcomes a kernel had; 0 where it was not read."""
    seen = {tuple(checksum for tap, checksum in outcome.items() if tap[0] == number) for outcome in outcomes}
    return len(seen - {()})


def _checksum(array: np.ndarray) -> str:
    return f"{host_form.checksum(array):016x}"


def _place(place: Place | None) -> list[Any] | None:
    return None if place is None else [place.file, place.line, place.function, place.through]


def _say(what: str, step: int, of: int) -> None:
    print(json.dumps({"doing": what, "step": step, "of": of}), flush=True)


def serve(recomputation: Recomputation, directory: Path) -> None:
    """Answer one question from stdin, for a kernel's number and its output: its value as `value.npy`; then it is over."""
    line = sys.stdin.readline()
    if line.strip():
        number, output = json.loads(line)
        value = recomputation.value((number, output))
        # The types of ml_dtypes have no name in a .npy file; their bits have.
        np.save(
            directory / "value.npy", value.view(f"V{value.itemsize}") if value.dtype.kind == "V" else value, allow_pickle=False
        )
