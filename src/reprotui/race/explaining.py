"""Explain a step of two runs, whatever they train: experiments kernel by kernel, scripts operation by operation."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reprotui.compare.explained import Kept, keep_explained
from reprotui.errors import DIFFERS, BadInputError
from reprotui.explain import Explanation, NotExplained, Repeated
from reprotui.explain import explain_repeats as explain_repeats_of_experiment
from reprotui.explain import explain_step as explain_step_of_experiments
from reprotui.explain.align import Pair, kernels_of
from reprotui.explain.explain import compare_results, elements_of, first_output, step_of, verdict_of
from reprotui.explain.lines import of_explanation
from reprotui.explain.operations import Listing, Operation, pair_operations
from reprotui.explain.script_answer import ScriptExplanation
from reprotui.explain.script_repeats import repetitions
from reprotui.integrity.leaves import LeafDifference
from reprotui.manifest import Kind
from reprotui.race.again import FRAMEWORKS, Again, Say, ScriptPlan, plan_script, taken_again
from reprotui.replay.replay import Unfaithful
from reprotui.run_directory import RunDirectory
from reprotui.trace.phases import STATE

_SETTING = re.compile(r"/group_\d+/lr$")

Labelled = tuple[str, RunDirectory]
"""A run with what it is called."""


def explain_step(
    pair: Sequence[Labelled], step: int | None = None, say: Say = lambda _: None, *, trusted: bool = False
) -> Explanation | NotExplained:
    """Find what began to differ in a step of two runs: experiments of reprotui's, or scripts in PyTorch or jax.

    Args:
        pair: A and B.
        step: the step; None for the first that differs.
        say: see `Say`.
        trusted: what was not recorded here may be run, see `reprotui.trust`.

    Raises:
        BadInputError: there is no such step, nothing differs and no step is named, or one run is a script and one is none.
        UntrustedError: it would run code of somebody else's, and is not `trusted`.
        CannotTellError: the runs cannot be compared, or the step cannot be taken again and read.
        WorkerFailedError: a process failed; the message ends its log.
    """
    kinds = [run.manifest().kind for _, run in pair]
    if kinds[0] is not kinds[1]:
        raise BadInputError("one of the runs is a script and one is none: explain takes two of a kind")
    if kinds[0] is Kind.EXPERIMENT:
        return explain_step_of_experiments(pair, step, say, trusted=trusted)
    verdict = verdict_of(pair) if step is None else None
    if verdict is not None:
        # The first step of torch is read from its import on, and with it how the state was made.
        from_import = all(FRAMEWORKS.get(str(run.manifest().devices.get("backend"))) == "torch" for _, run in pair)
        step = 1 if from_import and verdict.kind == "diverged" and verdict.step == 0 else step_of(verdict)
    assert step is not None
    plans = [plan_script(label, run, step, trusted) for label, run in pair]
    if plans[0].framework != plans[1].framework:
        raise BadInputError(f"one of the scripts trains with {plans[0].framework}, the other with {plans[1].framework}")
    with contextlib.ExitStack() as stack:
        sides: list[tuple[Again, dict[str, Any]]] = []
        for plan in plans:
            again = stack.enter_context(taken_again(plan))
            result = again.follow(say)
            if isinstance(result, Unfaithful):
                return NotExplained(plan.label, result)
            sides.append((again, result))
        found = _explanation(step, plans, sides)
        if verdict is not None and verdict.cause is not None:
            found = replace(found, cause=verdict.cause.sentence)
        if (first := found.first) is None or first.equal is not False:
            return found
        say(f"reading the elements of the first different {found.noun}")
        difference = _elements(first, [again for again, _ in sides])
    if difference is None and plans[0].framework == "torch":
        difference = _elements_again(first, plans, say)
    return replace(found, difference=difference)


def keep(pair: Sequence[Labelled], found: Explanation) -> Kept:
    """Keep an explanation with the race of its runs, for reports; a run that is in no race with the other has none."""
    head, lines = of_explanation(found)
    (_, a), (_, b) = pair
    return keep_explained((a.path, b.path), found.step, found.exit_code, head, lines)


def explain_repeats(
    label: str, run: RunDirectory, step: int, count: int, say: Say = lambda _: None, *, trusted: bool = False
) -> Repeated | NotExplained:
    """Take a step of one run many times from the same state, and find what does not always give the same bits.

    Args:
        label: what the run is called.
        run: an experiment or a script; one in PyTorch is run again as often.
        count: repetitions, 2 or more.
        step, say, trusted: see `explain_step`, which also says what is raised.
    """
    if run.manifest().kind is Kind.EXPERIMENT:
        return explain_repeats_of_experiment(label, run, step, count, say, trusted=trusted)
    plan = plan_script(label, run, step, trusted)
    if plan.framework == "jax":
        with taken_again(plan, times=count) as again:
            result = again.follow(say)
            if isinstance(result, Unfaithful):
                return NotExplained(label, result, DIFFERS)
            outputs = result["outputs"]
            return Repeated(step, count, tuple(kernels_of(result["kernels"])), outputs["count"], outputs["identical"])
    listings, as_recorded = [], 0
    for time in range(count):
        with taken_again(replace(plan, label=f"{label}: {time + 1} of {count}")) as again:
            result = again.follow(say, through=step - 1 if step > 1 else -1)
            if isinstance(result, Unfaithful):
                return NotExplained(label, result, DIFFERS)
            as_recorded += again.as_recorded
            listings.append(Listing.parse(result))
    return repetitions(step, listings, as_recorded)


def _explanation(step: int, plans: Sequence[ScriptPlan], sides: Sequence[tuple[Again, dict[str, Any]]]) -> Explanation:
    labels = (plans[0].label, plans[1].label)
    (roots_a, rows_a), (roots_b, rows_b) = (again.rows() for again, _ in sides)
    recorded_differ = rows_a["step"][0].roots != rows_b["step"][0].roots
    if plans[0].framework == "jax":
        return compare_results(step, labels, [result for _, result in sides], recorded_differ)
    listings = Listing.parse(sides[0][1]), Listing.parse(sides[1][1])
    differ: list[str] = []
    if step > 1 and "before" in rows_a and "before" in rows_b:
        before = [{leaf: value for leaf, value in rows["before"][1].items() if _enters(leaf)} for rows in (rows_a, rows_b)]
        leaves = dict.fromkeys([*before[0], *before[1]])
        differ = [spec.path for phase, spec in leaves if before[0].get((phase, spec)) != before[1].get((phase, spec))]
    unread = [
        operation.described
        for listing in listings
        for operation in listing.operations
        if None in operation.outputs and not operation.unset
    ]
    return ScriptExplanation(
        step, labels, tuple(dict.fromkeys(differ)), (),
        (listings[0].operations, listings[1].operations), () if differ else tuple(pair_operations(*listings)),
        listings[0].ends, (roots_a, roots_b), tuple(dict.fromkeys(unread)),
        recorded_differ=recorded_differ, listings=listings,
    )  # fmt: skip


def _enters(leaf: tuple[str, object]) -> bool:
    """Say whether a leaf of a step's record is what the next step starts from; a learning rate is an argument of operations."""
    phase, path = leaf[0], str(getattr(leaf[1], "path", ""))
    return (phase in STATE or path.startswith("extra/")) and not _SETTING.search(path)


def _elements(first: Pair, sides: Sequence[Again]) -> LeafDifference | None:
    """Ask both processes for the first different output; None where one has not kept it, or it is no array."""
    output = first_output(first)
    if not _has_elements(first, output):
        return None
    values = [again.value(ran.number, output) for again, ran in zip(sides, (first.a, first.b), strict=True)]
    found = [value for value in values if value is not None]
    return elements_of(first, output, found) if len(found) == len(values) else None


def _elements_again(first: Pair, plans: Sequence[ScriptPlan], say: Say) -> LeafDifference | None:
    """Take the step once more in both runs, for the value of one output that was not kept; None where it does not come again."""
    output = first_output(first)
    if not _has_elements(first, output):
        return None
    with contextlib.ExitStack() as stack:
        sides = []
        for plan, ran in zip(plans, (first.a, first.b), strict=True):
            again = stack.enter_context(taken_again(plan, (ran.number, output)))
            if isinstance(again.follow(say), Unfaithful):
                return None
            sides.append(again)
        return _elements(first, sides)


def _has_elements(pair: Pair, output: int) -> bool:
    """Say whether an output is an array of its own in both runs, of one type and shape; views and numbers are none."""
    x, y = pair.a, pair.b
    if isinstance(x, Operation) and not x.kept(output):
        return False
    return x.kernel.arrays[output] == y.kernel.arrays[output]
