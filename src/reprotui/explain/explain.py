"""Explain a step: start the processes that take it again, hold what their kernels gave side by side."""

import contextlib
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (registers bfloat16 and float8 with numpy)
import numpy as np

from reprotui.checksum import LeafSpec
from reprotui.compare import Verdict, compare_runs, open_run
from reprotui.errors import CANNOT_TELL, DIFFERS, BadInputError, CannotTellError, WorkerFailedError
from reprotui.explain.align import Change, Pair, changes_of, kernels_of, pair_kernels
from reprotui.explain.answer import Explanation
from reprotui.explain.repeats import Repeated
from reprotui.explain.sources import Place
from reprotui.integrity.leaves import LeafDifference, compare_leaf
from reprotui.replay.plan import Plan, plan_replay
from reprotui.replay.replay import Unfaithful, unfaithful
from reprotui.replay.running import news, result_of, started, workspace
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace
from reprotui.trust import need_trust

Say = Callable[[str], object]
"""Called with what is being done; what it raises ends the explanation."""
PROCESS = "reprotui.explain.process"


@dataclass(frozen=True)
class NotExplained:
    """A run whose step did not come out as recorded when it was taken again: its kernels would say nothing about it.

    Of one run alone that is a difference (exit code 1); of two, nothing can be said of what differs between them (3).
    """

    label: str
    found: Unfaithful
    exit_code: int = CANNOT_TELL

    @property
    def headline(self) -> str:
        """Return why nothing is explained, in one line."""
        return f"{self.label}: {self.found.headline}"


def explain_step(
    pair: Sequence[tuple[str, RunDirectory]], step: int | None = None, say: Say = lambda _: None, *, trusted: bool = False
) -> Explanation | NotExplained:
    """Find the first kernel of a step whose inputs agree and whose output differs.

    Args:
        pair: (label, run) of A and B: experiments that reprotui trained with jax.
        step: the step; None for the first that differs.
        say: see `Say`.
        trusted: what was not recorded here may be run, see `reprotui.trust`.

    Raises:
        BadInputError: there is no such step, or nothing differs and no step is named.
        UntrustedError: it would run code of somebody else's, and is not `trusted`.
        CannotTellError: the runs cannot be compared, the step cannot be taken again, or its kernels cannot be read.
        WorkerFailedError: a process failed; the message ends its log.
    """
    labels = (pair[0][0], pair[1][0])
    verdict = verdict_of(pair) if step is None else None
    step = step_of(verdict) if verdict is not None else step
    assert step is not None
    plans = [_plan(run, step, trusted) for _, run in pair]
    with contextlib.ExitStack() as stack:
        sides = []
        for label, plan in zip(labels, plans, strict=True):
            directory = stack.enter_context(workspace(None))
            process = stack.enter_context(started(plan, directory, PROCESS, {"times": 1}))
            result = _follow(process, plan, directory, label, say)
            if not result["faithful"]:
                return NotExplained(label, unfaithful(plan, result, None))
            sides.append((process, directory, result))
        found = compare_results(step, labels, [result for _, _, result in sides], _records_differ(plans))
        if verdict is not None and verdict.cause is not None:
            found = replace(found, cause=verdict.cause.sentence)
        if found.first is not None:
            say("reading the elements of the first different kernel")
            found = replace(found, difference=_asked(found.first, [(process, directory) for process, directory, _ in sides]))
        return found


def explain_repeats(
    label: str, run: RunDirectory, step: int, count: int, say: Say = lambda _: None, *, trusted: bool = False
) -> Repeated | NotExplained:
    """Take a step of one run many times from the same state, and find kernels that do not always give the same bits.

    Args:
        label: what the run is called.
        run: an experiment that reprotui trained with jax.
        step, say, trusted: see `explain_step`, which also says what is raised.
        count: repetitions, 2 or more.
    """
    plan = _plan(run, step, trusted)
    with workspace(None) as directory, started(plan, directory, PROCESS, {"times": count}) as process:
        result = _follow(process, plan, directory, label, say)
        if not result["faithful"]:
            return NotExplained(label, unfaithful(plan, result, None), DIFFERS)
        outputs = result["outputs"]
        return Repeated(step, count, tuple(kernels_of(result["kernels"])), outputs["count"], outputs["identical"])


def verdict_of(pair: Sequence[tuple[str, RunDirectory]]) -> Verdict:
    """Compare two runs, A and B, given as (label, run)."""
    (a, run_a), (b, run_b) = pair
    return compare_runs(open_run(run_a.path, a), open_run(run_b.path, b))


def step_of(verdict: Verdict) -> int:
    """Return the first different step.

    Raises:
        BadInputError, CannotTellError: there is none that could be taken again.
    """
    if verdict.kind == "identical":
        raise BadInputError(f"{verdict.headline}: there is no difference to explain; name a step with --step to look at one")
    if verdict.step is None:
        raise CannotTellError(f"{verdict.headline}: there is no step to explain")
    if verdict.step == 0:
        raise CannotTellError(f"{verdict.headline}: the runs begin with other states; explain takes a training step")
    return verdict.step


def _plan(run: RunDirectory, step: int, trusted: bool) -> Plan:
    if step < 1:
        raise BadInputError(f"explain takes a training step again: step {step} is none")
    plan = plan_replay(run, step)
    if plan.until != step:
        raise CannotTellError(f"{run.path} has no record of step {step}: whether it comes out as it did cannot be checked")
    need_trust(run.path, plan.manifest, trusted)
    return plan


def _follow(process: subprocess.Popen[bytes], plan: Plan, directory: Path, label: str, say: Say) -> dict[str, Any]:
    """Wait until a process has left its result; it stays, to be asked for values."""
    words = {"compiling": "compiling the step with taps", "reading": "reading kernels"}
    say(f"{label}: starting")
    for said in news(process):
        if said.get("doing") == "done":
            break
        what = words.get(str(said.get("doing")), "replaying")
        say(f"{label}: {what}" + (f", {said['step']} of {said['of']}" if said["of"] > 1 else ""))
    else:
        process.wait()
    return result_of(plan, directory)


def _records_differ(plans: Sequence[Plan]) -> bool:
    rows = []
    for plan in plans:
        with Trace(plan.run.trace_path) as trace:
            rows.append(trace.recorded(plan.step))
    return rows[0].roots != rows[1].roots


def compare_results(step: int, labels: tuple[str, str], results: Sequence[dict[str, Any]], recorded_differ: bool) -> Explanation:
    """Hold what two processes found side by side.

    Args:
        step: the step.
        labels: of A and B.
        results: as `reprotui.explain.recompute` makes them.
        recorded_differ: whether the records of the step differ.
    """
    a, b = results
    given_a, given_b = (dict(map(tuple, result["inputs"])) for result in results)
    names = dict.fromkeys([*given_a, *given_b])
    differ = tuple(name for name in names if given_a.get(name) != given_b.get(name))
    kernels = (tuple(kernels_of(a["kernels"])), tuple(kernels_of(b["kernels"])))
    return Explanation(
        step, labels, differ, tuple(_changes(a["equations"], b["equations"])), kernels,
        # Kernels of other inputs give other numbers, which says nothing.
        () if differ else tuple(pair_kernels(*kernels)), tuple((number, part, path) for number, part, path in a["ends"]),
        (a["outputs"]["count"], b["outputs"]["count"]), tuple(dict.fromkeys([*a["unread"], *b["unread"]])),
        recorded_differ=recorded_differ,
    )  # fmt: skip


def _changes(a: Sequence[Any], b: Sequence[Any]) -> list[Change]:
    def read(side: Sequence[Any]) -> list[tuple[str, Place | None]]:
        return [(text, None if place is None else Place(*place)) for text, place in side]

    return changes_of(read(a), read(b))


def _asked(first: Pair, sides: Sequence[tuple[subprocess.Popen[bytes], Path]]) -> LeafDifference | None:
    """Ask both processes for what the first different kernel gave; return how its first different output differs."""
    output = first_output(first)
    values = []
    for ran, (process, directory) in zip((first.a, first.b), sides, strict=True):
        assert process.stdin is not None
        try:
            process.stdin.write(f"{json.dumps([ran.number, output])}\n".encode())
            process.stdin.close()
        except BrokenPipeError:
            raise WorkerFailedError("the process that took the step again ended before it was asked for values") from None
        process.wait()
        values.append(np.load(directory / "value.npy", allow_pickle=False))
    return elements_of(first, output, values)


def first_output(pair: Pair) -> int:
    """Return the number of the first output of a kernel that differs."""
    outputs = zip(pair.a.outputs, pair.b.outputs, strict=True)
    return next(number for number, (x, y) in enumerate(outputs) if x is not None and x != y)


def elements_of(pair: Pair, output: int, values: Sequence[np.ndarray]) -> LeafDifference | None:
    """Return how the elements of an output differ; `values` as they come from files, those of ml_dtypes as raw bytes."""
    array = pair.a.kernel.arrays[output]
    x, y = (value.view(np.dtype(array.dtype)) if value.dtype.kind == "V" else value for value in values)
    spec = LeafSpec(pair.a.kernel.name, array.dtype, array.shape)
    return compare_leaf(pair.a.kernel.name, spec, spec, lambda: (x, y))
