"""What a resumed run got back from its checkpoint and what not: the inputs of its first step, one by one.

A step is computed from state, batch, generators and step sizes. Where all of them are those of the uninterrupted run, so is what
follows; so each is held against the uninterrupted run's at the step at which the resumed run goes on.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reprotui.compare.evidence import some
from reprotui.compare.restored import batch_at, state_at, step_of_batch, steps_with
from reprotui.manifest import Part
from reprotui.trace import Trace
from reprotui.trace.epochs import epochs_of
from reprotui.trace.phases import CAPTURED, GENERATORS

LR = re.compile(r"(^|/)(group_\d+/lr|lr|learning_rate)$")
"""Leaves that are the size of a step."""
_KINDS = (
    ("accumulated gradients", re.compile(r"acc_grads|mini_step|gradient_step|accumul", re.IGNORECASE)),
    ("loss scale", re.compile(r"loss_?scale|dynamic_scale|fin_steps|scaler|growth|^scale$", re.IGNORECASE)),
    ("average of the parameters", re.compile(r"(^|[/_.])(ema|swa|average|averaged|polyak|shadow|teacher|target)", re.IGNORECASE)),
    ("batch statistics", re.compile(r"running_(mean|var)|num_batches_tracked|batch_stats|(^|/)(mean|var)$", re.IGNORECASE)),
    ("schedule", re.compile(r"schedule|(^|/)(lr|learning_rate)$", re.IGNORECASE)),
)
"""Kinds of state that are told by what people and libraries call them."""
_COUNT = re.compile(r"(^|/)count$")
"""What optax calls the number of updates that a schedule, or the correction of a bias, reads."""
ORDER = (
    "params", "optimizer", "schedule", "accumulated gradients", "loss scale", "batch statistics", "average of the parameters",
    "other state", "batch", "key", *GENERATORS,
)  # fmt: skip


@dataclass(frozen=True)
class Restoration:
    """One input of the step at which a run goes on: its name, whether it is the uninterrupted run's, and what else is known.

    `kind` is its name in `ORDER`; `detail` says where else the uninterrupted run had it, or which leaves differ.
    """

    kind: str
    restored: bool
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail})" if self.detail else self.kind


def kind_of(path: str) -> str:
    """Return which kind of state a leaf is, by its path."""
    tree, _, name = path.partition("/")
    # jax's trees of numbers are all called params where nothing tells them apart but the name of the argument.
    told = name.partition("/")[0] if tree == "params" and "/" in name else "" if tree == "params" else name
    for kind, pattern in _KINDS:
        if pattern.search(told):
            return kind
    return {"params": "params", "opt_state": "optimizer"}.get(tree, "other state")


def restorations(a: Trace, b: Trace, part: Part) -> list[Restoration]:
    """Return what the first step of a part was computed from, and whether that is what the uninterrupted run had.

    Args:
        a: the uninterrupted run.
        b: the run that is put together.
        part: of `b`.
    """
    step = part.begins_after + 1
    found = {item.kind: item for item in [*_state(b, part), *_inputs(a, b, step)]}
    if part.rest:  # what a half-done step changes already is not what it was after the step before
        return [Restoration(kind, True) for kind in ORDER if kind in found and kind in ("params", "optimizer")]
    if (rate := _rate(a, b, step)) is not None:
        found["schedule"] = rate
    return sorted(found.values(), key=lambda item: ORDER.index(item.kind))


def said(found: Iterable[Restoration]) -> str:
    """Return in one line what was restored and what not."""
    back = [item.kind for item in found if item.restored]
    lost = [str(item) for item in found if not item.restored]
    return "; ".join(
        part
        for part in (
            f"restored: {', '.join(back)}" if back else "restored: nothing",
            f"not restored: {', '.join(lost)}" if lost else "",
        )
        if part
    )


def _state(b: Trace, part: Part) -> Iterable[Restoration]:
    there = state_at(b, part.begins_after)
    lost = {*part.missing, *part.other}
    begins = {kind_of(path) for path in part.other}
    kinds: dict[str, list[str]] = {}
    for path in [*there, *lost]:
        if not LR.search(path) or path in lost:
            kinds.setdefault(kind_of(path), []).append(path)
    for kind, paths in kinds.items():
        bad = list(dict.fromkeys(path for path in paths if path in lost))
        if not bad:
            # Averages of torch's are not in the first record: nobody saw whether they came back.
            if kind != "average of the parameters" or kind in begins:
                yield Restoration(kind, True)
            continue
        absent = [path for path in bad if path in part.missing]
        if kind == "optimizer" and all(_COUNT.search(path) for path in bad):
            kind = "schedule"
        whole = len(bad) == len(set(paths))
        names = some([path.partition("/")[2] for path in bad])
        yield Restoration(kind, False, "it began without any" if absent and whole else "" if whole else names)


def _inputs(a: Trace, b: Trace, step: int) -> Iterable[Restoration]:
    """Yield batch, key and generators of a step that both recorded."""
    if a.row(step) is None or b.row(step) is None:
        return
    given_a, given_b = batch_at(a, step), batch_at(b, step)
    if given_a and given_b:
        equal = given_a == given_b
        yield Restoration("batch", equal, "" if equal else where_batch(a, b, step))
    of_a, of_b = (_rng(trace, step) for trace in (a, b))
    for path in of_a:
        if path in of_b:
            equal = of_a[path] == of_b[path]
            name = path if path in GENERATORS else "key"
            yield Restoration(name, equal, "" if equal else _where_state(a, path, of_b[path], step))


def where_batch(a: Trace, b: Trace, step: int) -> str:
    """Say which batch of the uninterrupted run a step of the resumed one was given."""
    found = step_of_batch(a, b, step)
    if found is None:
        return "none of the uninterrupted run's"
    epochs = epochs_of(a)
    own, there = (None, None) if epochs is None else (epochs.place(step), epochs.place(found))
    if own is not None and there is not None and own != there:
        if own[1] == there[1]:
            return f"of epoch {there[0]} instead of {own[0]}: that of step {found}"
        if own[0] == there[0]:
            return f"that of step {found}: place {there[1]} of the epoch instead of {own[1]}"
    if found == 1:
        return "that of step 1: it began anew"
    if own is not None and there is not None:
        return f"that of step {found}: place {there[1]} of epoch {there[0]} instead of place {own[1]} of epoch {own[0]}"
    return f"that of step {found}, {abs(step - found)} {'back' if found < step else 'ahead'}: its epoch or the place in it"


def _where_state(a: Trace, path: str, bits: int, step: int) -> str:
    found = steps_with(a, "rng", path, bits)
    if found is None:
        return "" if path in GENERATORS else "none of the uninterrupted run's"
    return "that of the start" if found == 1 else f"that of step {found}"


def _rng(trace: Trace, step: int) -> Mapping[str, int]:
    row, sums = trace.row(step), trace.leaf_checksums(step)
    if row is None or sums is None:
        return {}
    table = trace.table(row.version)
    found = zip(table.phases, table.specs, sums, strict=True)
    return {spec.path: int(bits) for phase, spec, bits in found if phase == "rng" and not spec.path.startswith(CAPTURED)}


def _rate(a: Trace, b: Trace, step: int) -> Restoration | None:
    """Return whether the learning rates of torch's optimizers are the uninterrupted run's; None where none are recorded."""
    rates = []
    for trace in (a, b):
        if trace.row(step) is None:
            return None
        rates.append({path: bits for path, bits in state_at(trace, step).items() if LR.search(path)})
    if not rates[0] or not rates[1]:
        return None
    equal = rates[0] == rates[1]
    return Restoration("schedule", equal, "" if equal else "another learning rate")
