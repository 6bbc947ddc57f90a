"""Take a step of a run again from the state before it, and read every kernel: in the process that stands for the run."""

import json
import sys
from collections.abc import Iterable
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


class Recomputation:
    """The step, its kernels, and what came of it."""

    def __init__(self, request: dict[str, Any], directory: Path) -> None:
        self._request, self._directory = request, directory
        self._taps: Taps
        self._outputs: list[bytes] = []
        self._identical = 0

    def run(self) -> dict[str, Any]:
        """Return what the caller's side compares; without kernels where the step is not faithful to the trace."""
        replay = Replay({**self._request, "step": None, "repeat": 1}, self._directory, keep_before=True)
        found = {**replay.run(), **replay.describe()}
        if not found["faithful"] or replay.before is None:
            return found
        program, before = replay.program, replay.before
        batch, key = step_inputs(program, before)
        arguments = (before.state, batch, key)
        inputs = _flat({"state": before.state._asdict(), "batch": batch, "rng": key})
        # The program that trained takes the buffers of its state.
        self._outputs = [
            raw_bytes(to_numpy(leaf)).tobytes()
            for leaf in jax.tree.leaves(program.step(jax.tree.map(jnp.copy, before.state), batch, key))
        ]
        train = program.experiment.train_step
        traced = jax.jit(train).trace(*arguments)
        _say("compiling", 0, 1)
        self._taps = Taps(train, arguments)
        self._names = [path for _, path in step_paths(traced.out_info)]
        self._identical = len(self._outputs)
        outcomes = self._read(self._request["times"])
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
        return {
            **found, "inputs": inputs, "outputs": {"count": len(self._outputs), "identical": self._identical},
            "kernels": kernels, "unread": self._taps.unread, "ends": self._ends(traced.jaxpr.jaxpr),
            "equations": [[text, _place(place)] for text, place in equations(traced.jaxpr.jaxpr)],
        }  # fmt: skip

    def values(self, taps: Iterable[Tap]) -> None:
        """Write what kernels gave, each as `KERNEL-OUTPUT.npy`, as raw bits where numpy has no name for the type."""
        for tap in taps:
            value = self._taps.run(self._taps.group_of(tap)).values[tap]
            raw = value.view(f"V{value.itemsize}") if value.dtype.kind == "V" else value
            np.save(self._directory / f"{tap[0]}-{tap[1]}.npy", raw, allow_pickle=False)

    def _read(self, times: int) -> list[dict[Tap, str]]:
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
                sums |= {tap: f"{host_form.checksum(value):016x}" for tap, value in run.values.items()}
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


def _flat(tree: Any) -> list[list[str]]:
    return [[path, f"{host_form.checksum(to_numpy(leaf)):016x}"] for path, leaf in named_leaves(tree, "")]


def _place(place: Place | None) -> list[Any] | None:
    return None if place is None else [place.file, place.line, place.function, place.through]


def _say(what: str, step: int, of: int) -> None:
    print(json.dumps({"doing": what, "step": step, "of": of}), flush=True)


def serve(recomputation: Recomputation) -> None:
    """Answer one question from stdin: the numbers of kernels and outputs whose values are wanted; then it is over."""
    line = sys.stdin.readline()
    if line.strip():
        recomputation.values([(int(number), int(output)) for number, output in json.loads(line)])
        _say("values", 1, 1)
