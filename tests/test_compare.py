"""Comparison of traces written by hand: what comes first, what is only a note, and what a difference is put down to."""

import json
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import parsed
from reprotui.checksum import LeafSpec
from reprotui.compare import FirstDifference, compare_runs, compare_traces, open_run
from reprotui.compare.agreement import agreement
from reprotui.compare.cause import find_cause
from reprotui.compare.differences import TraceComparison
from reprotui.compare.timeline import Timeline, TimelineReader, phases_of
from reprotui.compare.verdict import Cause
from reprotui.errors import CannotTellError
from reprotui.experiments.config import MlpConfig, field_phases
from reprotui.integrity.leaves import LeafDifference
from reprotui.run_directory import write_json
from reprotui.trace import PHASES, LeafTable, Record, Trace, TraceWriter, verify_trace
from reprotui.trace.former import FORMER_PHASES, former_roots, roots_of_rows
from reprotui.trace.verify import roots_of

Leaves = dict[str, Any]
History = dict[int, Leaves]
FLOAT = ("float32", (2,))


def history(last: int, every: int = 1) -> History:
    """Return leaves by step: `phase:path` to its content, in the order in which the program produces them."""
    state = ["params/w", "params/b"]
    steps: History = {0: {f"init:{path}": number for number, path in enumerate(state)}}
    for step in range(every, last + 1, every):
        names = ["batch:batch/x", "rng:rng", "forward:loss", "forward:metrics/accuracy", "grads:grads/w", "grads:grads/b"]
        names += ["optimizer:opt_state/m", *(f"params:{path}" for path in state)]
        steps[step] = {name: 1000 * step + number for number, name in enumerate(names)}
    return steps


def changed(steps: History, step: int, *names: str, value: Any = -1, until: int | None = None) -> History:
    """Return a history in which leaves have another content from a step on."""
    last = max(steps) if until is None else until
    return {
        number: {name: value if name in names and step <= number <= last else old for name, old in leaves.items()}
        for number, leaves in steps.items()
    }


def without(steps: History, *names: str) -> History:
    """Return a history without some leaves."""
    return {step: {name: value for name, value in leaves.items() if name not in names} for step, leaves in steps.items()}


def to_record(step: int, leaves: Leaves, with_leaves: bool) -> Record:
    """Return the record of a step; a content may be (number, dtype, shape)."""
    contents = [value if isinstance(value, tuple) else (value, *FLOAT) for value in leaves.values()]
    names = [name.split(":", 1) for name in leaves]
    specs = [LeafSpec(path, dtype, shape) for (_, path), (_, dtype, shape) in zip(names, contents, strict=True)]
    table = LeafTable(tuple(phase for phase, _ in names), tuple(specs))
    blob = np.array([number % (1 << 64) for number, *_ in contents], "<u8").tobytes()
    return Record(step, step, table, roots_of(blob, table), loss=0.5, loss_bits=7, leaf_checksums=blob if with_leaves else None)


def write(path: Path, steps: History, leaves_every: int = 1) -> Path:
    """Write a history as a sealed trace."""
    writer = TraceWriter(path)
    for number, (step, leaves) in enumerate(steps.items()):
        record = to_record(step, leaves, number % leaves_every == 0)
        writer.put(lambda record=record: record)
    writer.seal()
    return path


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., TraceComparison]:
    """Return a function that writes two histories and compares their traces."""
    numbers = iter(range(1000))

    def run(a: History, b: History, leaves_every: int = 1) -> TraceComparison:
        paths = [write(tmp_path / f"{next(numbers)}.db", steps, leaves_every) for steps in (a, b)]
        with Trace(paths[0]) as trace_a, Trace(paths[1]) as trace_b:
            return compare_traces(trace_a, trace_b)

    return run


def place(found: TraceComparison) -> tuple[int, tuple[str, ...], list[str]]:
    """Return step, phases and leaves of the first difference."""
    assert found.first is not None
    return found.first.step, found.first.phases, [leaf.path for leaf in found.first.leaves]


def former(path: Path, steps: History, leaves_every: int = 1, noted: bool = False, carry: bool = True) -> Path:
    """Write a history as version 1 of traces had it: one phase, and one root, for optimizer and parameters.

    With `carry`, roots are those of when lane 0 did not wrap; `noted`, it claims to be of after that.
    """
    writer = TraceWriter(path)
    for number, (step, leaves) in enumerate(steps.items()):
        record = to_record(step, leaves, True)
        phases = tuple("update" if phase in ("optimizer", "params") else phase for phase in record.table.phases)
        table = replace(record.table, phases=phases)
        sums = np.frombuffer(record.leaf_checksums or b"", "<u8")[None]
        roots = former_roots(sums, table) if carry else roots_of_rows(sums, table, FORMER_PHASES)
        record = replace(record, table=table, roots=roots.astype("<u8").tobytes())
        record = record if number % leaves_every == 0 else replace(record, leaf_checksums=None)
        writer.put(lambda record=record: record)
    writer.seal()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=1")
        if carry and not noted:
            connection.execute("DELETE FROM meta WHERE key = 'roots'")
    connection.close()
    return path


# Runs of which the state after init was not shown


@pytest.mark.parametrize("config", [{}, {"lr": 0.1}])
def test_a_difference_in_the_first_record_is_said_without_a_step_before_it(compare: Any, config: dict[str, Any]) -> None:
    steps = {step: leaves for step, leaves in history(5).items() if step}
    first = compare(steps, changed(steps, 1, "forward:loss", "grads:grads/w")).first
    cause = cause_of({"config": config}, {"config": {}}, first)
    said = [cause.sentence, *cause.evidence, cause.advice]
    assert "None" not in " ".join(said)
    assert any("nothing before step 1 was recorded" in line for line in said)
    with_init = compare(history(5), changed(history(5), 1, "forward:loss")).first
    assert "nothing before" not in " ".join(cause_of({}, {}, with_init).evidence)


# Traces of a former version


def test_a_former_trace_verifies_as_what_it_is_and_no_newer_one_may_have_its_roots(tmp_path: Path) -> None:
    assert verify_trace(former(tmp_path / "old.db", history(40))).problem is None
    problem = verify_trace(former(tmp_path / "noted.db", history(40), noted=True)).problem
    assert problem is not None and "do not give its roots" in problem


def test_a_former_trace_compares_with_a_newer_one_by_its_leaves(tmp_path: Path) -> None:
    old, new = former(tmp_path / "old.db", history(40)), write(tmp_path / "new.db", history(40))
    other = write(tmp_path / "other.db", changed(history(40), 6, "grads:grads/b"))
    with Trace(old) as trace_old, Trace(new) as trace_new, Trace(other) as trace_other:
        assert any(a.roots != b.roots for a, b in zip(trace_old.rows(), trace_new.rows(), strict=True))
        assert compare_traces(trace_old, trace_new) == TraceComparison(40, None)
        assert place(compare_traces(trace_old, trace_other)) == (6, ("grads",), ["grads/b"])
    timelines = [TimelineReader([old, path]).advance().pairs[0].first for path in (new, other)]
    assert timelines == [None, 6]


def test_a_former_trace_without_leaf_rows_cannot_be_told_from_an_equal_one(tmp_path: Path) -> None:
    old, new = former(tmp_path / "old.db", history(40), 50), write(tmp_path / "new.db", history(40), 50)
    other = write(tmp_path / "other.db", changed(history(40), 1, "batch:batch/x"), 50)
    with Trace(old) as trace_old, Trace(new) as trace_new, Trace(other) as trace_other:
        with pytest.raises(CannotTellError, match="former reprotui"):
            compare_traces(trace_old, trace_new)
        first = compare_traces(trace_old, trace_other).first
        assert first is not None and (first.step, first.phase) == (1, "batch")


# Where they first differ


def test_equal_traces_have_no_difference(compare: Any) -> None:
    assert compare(history(9), history(9)) == TraceComparison(9, None)


@pytest.mark.parametrize("seed", range(20))
def test_random_controls_have_no_difference_and_one_change_is_found_exactly(compare: Any, seed: int) -> None:
    draw = random.Random(seed)
    steps = history(draw.randrange(1, 30), draw.choice([1, 1, 3]))
    steps = {step: {name: draw.getrandbits(64) for name in leaves} for step, leaves in steps.items()}
    assert compare(steps, steps).first is None
    step = draw.choice(list(steps))
    name = draw.choice(list(steps[step]))
    flipped = changed(steps, step, name, value=steps[step][name] ^ 1 << draw.randrange(64), until=step)
    phase, _, path = name.partition(":")
    assert place(compare(steps, flipped)) == (step, (phase,), [path])


def test_a_difference_that_heals_is_reported_where_it_began(compare: Any) -> None:
    assert place(compare(history(9), changed(history(9), 4, "params:params/b", until=5))) == (4, ("params",), ["params/b"])


def test_all_differing_phases_are_told_and_the_leaves_of_the_first(compare: Any) -> None:
    b = changed(history(9), 4, "grads:grads/b", "params:params/w", "forward:loss")
    assert place(compare(history(9), b)) == (4, ("forward", "grads", "params"), ["loss"])


def test_leaves_come_in_the_order_of_the_program_not_of_the_alphabet(compare: Any) -> None:
    names = ("params:params/w", "params:params/b")
    assert place(compare(history(3), changed(history(3), 2, *names)))[2] == ["params/w", "params/b"]
    with_optimizer = compare(history(3), changed(history(3), 2, "optimizer:opt_state/m", *names))
    assert place(with_optimizer) == (2, ("optimizer", "params"), ["opt_state/m"])


def test_a_leaf_that_one_run_lacks_is_a_difference(compare: Any) -> None:
    found = compare(history(9), without(history(9), "params:params/b"))
    assert place(found) == (1, ("params",), ["params/b"])
    assert found.first.leaves[0].kind == "only in A"
    assert compare(without(history(9), "params:params/b"), history(9)).first.leaves[0].kind == "only in B"


def test_other_shapes_and_dtypes_differ_even_with_equal_checksums(compare: Any) -> None:
    steps = changed(history(3), 2, "params:params/b", value=(5, "float32", (2,)))
    for spec, kind in (("float32", (2, 1)), "shape"), (("bfloat16", (2,)), "dtype"):
        other = changed(history(3), 2, "params:params/b", value=(5, *spec))
        found = compare(steps, other)
        assert place(found) == (2, ("params",), ["params/b"])
        assert found.first.leaves[0].kind == kind


def test_a_metric_that_one_run_lacks_is_only_a_note(compare: Any) -> None:
    found = compare(history(9), without(history(9), "forward:metrics/accuracy"))
    assert found == TraceComparison(9, None, ("metrics/accuracy is only in A",))
    flipped = changed(without(history(9), "forward:metrics/accuracy"), 6, "rng:rng")
    assert place(compare(history(9), flipped)) == (6, ("rng",), ["rng"])


def test_a_metric_that_both_have_is_compared(compare: Any) -> None:
    found = compare(history(9), changed(history(9), 3, "forward:metrics/accuracy"))
    assert place(found) == (3, ("forward",), ["metrics/accuracy"])


def test_a_phase_that_one_run_did_not_record_is_only_a_note(compare: Any) -> None:
    b = without(history(9), "grads:grads/w", "grads:grads/b")
    assert compare(history(9), b) == TraceComparison(9, None, ("phase grads is recorded in one run only",))
    assert place(compare(history(9), changed(b, 5, "params:params/w"))) == (5, ("params",), ["params/w"])


def test_no_parameter_in_common_is_incomparable(compare: Any) -> None:
    b = {
        step: {name.replace("params/", "params/other_"): value for name, value in leaves.items()}
        for step, leaves in history(3).items()
    }
    assert "different models" in compare(history(3), b).incomparable


def test_equal_is_only_what_both_recorded(compare: Any) -> None:
    assert compare(history(9), history(5)).common_last == 5
    assert compare(history(9), changed(history(5), 5, "rng:rng")).first.step == 5
    assert compare(history(9), {}) == TraceComparison(None, None)


def test_records_of_unequal_spacing_are_aligned_by_step(compare: Any) -> None:
    a, b = history(12, 2), history(12, 3)
    assert compare(a, b) == TraceComparison(12, None)
    found = compare(a, changed(b, 5, "params:params/w"))
    assert (found.first.step, found.first.previous, found.first.exact) == (6, 0, False)
    assert compare(history(9), changed(history(9), 6, "rng:rng")).first.exact


def test_a_difference_without_leaf_rows_is_placed_by_phase(compare: Any) -> None:
    found = compare(history(9), changed(history(9), 6, "params:params/w"), leaves_every=5)
    assert place(found) == (6, ("params",), [])
    assert not found.first.leaves_known


# Live


def live(paths: list[Path], histories: list[History], draw: random.Random) -> Iterator[Timeline]:
    """Write two histories in a random interleaving, and look after each piece as the command line does."""
    reader, writers = TimelineReader(paths, whole=False), [TraceWriter(path) for path in paths]
    rest = [[to_record(step, leaves, True) for step, leaves in steps.items()] for steps in histories]
    while rest[0] or rest[1]:
        side = draw.choice([number for number in (0, 1) if rest[number]])
        count = draw.randrange(1, 6)
        for record in rest[side][:count]:
            writers[side].put(lambda record=record: record)
        writers[side].flush()
        del rest[side][:count]
        yield reader.advance()
    for writer in writers:
        writer.close()


@pytest.mark.parametrize("seed", range(30))
def test_live_says_what_the_whole_says_in_any_interleaving(compare: Any, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    a = history(draw.randrange(2, 40), draw.choice([1, 1, 2]))
    b = history(draw.randrange(2, 40), draw.choice([1, 1, 3]))
    if seed % 3:
        step = draw.choice(list(b))
        b = changed(b, step, draw.choice(list(b[step])))
    first = compare(a, b).first
    for number in range(2):
        *_, found = live([tmp_path / f"{name}-{number}.db" for name in "ab"], [a, b], draw)
        pair = found.pairs[0]
        assert (pair.first, phases_of(pair.first_mask)) == ((first.step, first.phases) if first else (None, ()))
        assert found.equal_through == (first.previous if first else max(set(a) & set(b)))


def test_live_holds_the_newest_values_alone(tmp_path: Path) -> None:
    for found in live([tmp_path / "a.db", tmp_path / "b.db"], [history(50), history(50)], random.Random(0)):
        assert all(len(line.losses) <= 1 for line in found.runs)
        assert all(len(pair.differs) <= 1 for pair in found.pairs)
    assert [len(line.steps) for line in found.runs] == [51, 51]


# Runs


def run(path: Path, steps: History | None, **manifest: Any) -> Any:
    """Write a run directory and open it; the manifest is that of a run that finished."""
    path.mkdir()
    if steps is not None:
        write(path / "trace.db", steps)
    result = {"state": "finished", "digests": {"state": "same"}}
    whole = {"manifest_version": 1, "config": {}, "config_phases": field_phases(MlpConfig), "result": result}
    write_json(path / "run.json", whole | manifest)
    return open_run(path, path.name.upper())


def test_runs_of_unequal_length_are_never_called_equal(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", history(9)), run(tmp_path / "b", history(5))
    for verdict in (compare_runs(a, b), compare_runs(b, a)):
        assert (verdict.kind, verdict.equal_through) == ("incomplete", 5)
        assert verdict.headline == "INCOMPLETE · equal up to step 5; B stops there, A goes on to step 9"


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_a_run_that_did_not_finish_is_incomplete(tmp_path: Path, state: str) -> None:
    a, b = run(tmp_path / "a", history(9)), run(tmp_path / "b", history(9), result={"state": state})
    assert compare_runs(a, b).reason.startswith("B ")
    assert compare_runs(a, a).kind == "identical"


def test_equal_traces_with_unequal_digests_cannot_be_told(tmp_path: Path) -> None:
    result = {"state": "finished", "digests": {"state": "another"}}
    verdict = compare_runs(run(tmp_path / "a", history(9)), run(tmp_path / "b", history(9), result=result))
    assert verdict.kind == "incomparable"
    assert "the content digests of the final states do not" in verdict.reason


def test_a_run_without_a_trace_is_incomparable(tmp_path: Path) -> None:
    assert "does not exist" in compare_runs(run(tmp_path / "a", history(9)), run(tmp_path / "b", None)).reason


def test_agreement_is_by_history_and_a_run_without_records_is_alone(tmp_path: Path) -> None:
    other = changed(history(9), 3, "rng:rng", until=3)
    kinds = {"a": history(9), "b": other, "c": history(7), "d": other, "e": {}, "f": None}
    views = [run(tmp_path / name, steps) for name, steps in kinds.items()]
    assert agreement(views) == [["A", "C"], ["B", "D"], ["E"], ["F"]]
    assert agreement([views[0], run(tmp_path / "g", history(2))]) == [["A", "G"]]


def test_a_batch_that_came_at_another_step_is_an_order(tmp_path: Path) -> None:
    a = history(9)
    swapped = changed(a, 4, "batch:batch/x", value=a[6]["batch:batch/x"])
    b = run(tmp_path / "b", swapped)
    cause = compare_runs(run(tmp_path / "a", a), b).cause
    assert cause is not None
    assert cause.kind == "data-order"
    assert "B's batch of step 4 is A's batch of step 6" in cause.evidence
    cause = compare_runs(run(tmp_path / "a2", a), run(tmp_path / "b2", changed(a, 4, "batch:batch/x"))).cause
    assert cause is not None
    assert cause.kind == "data"


def test_a_verdict_is_json(tmp_path: Path) -> None:
    verdict = compare_runs(run(tmp_path / "a", history(3)), run(tmp_path / "b", changed(history(3), 2, "params:params/w")))
    leaf = json.loads(json.dumps(verdict.to_json()))["leaves"][0]
    assert leaf["a"] == {"dtype": "float32", "shape": [2], "checksum": f"{2007:016x}"}
    assert leaf["b"]["checksum"] == "f" * 16


# Cause

ENVIRONMENT = {
    "python": "CPython 3.11.7", "executable": "/x/python", "platform": "Linux", "packages": {"jax": "0.9.0", "torch": "2.13.0"},
    "cpu": {"model": "Processor 1", "count": 8, "affinity": 8}, "host": "one",
    "variables": {"XLA_FLAGS": "--xla_a=1", "PYTHONHASHSEED": "0", "LANG": "C"}, "git": {"commit": "abc", "dirty": False},
}  # fmt: skip
PROGRAM = {part: {"jaxpr": "1", "stablehlo": "2", "optimized_hlo": "3"} for part in ("init", "step")}
MANIFEST = {
    "config": MlpConfig().model_dump(mode="json"), "config_phases": field_phases(MlpConfig), "environment": ENVIRONMENT,
    "devices": {"backend": "cpu", "kinds": ["cpu"], "count": 1, "cpu_threads": 8}, "program": PROGRAM, "data_digest": "d",
    "experiment": {"name": "x", "source_digest": "e" * 64},
}  # fmt: skip


def cause_of(a: dict[str, Any], b: dict[str, Any], first: FirstDifference) -> Cause:
    """Return the cause of a first difference of two runs with these entries in their manifests."""
    return find_cause(parsed(a), parsed(b), first)


def edited(path: str, value: Any) -> dict[str, Any]:
    """Return the manifest with one entry replaced, named by its path."""
    manifest = json.loads(json.dumps(MANIFEST))
    *parents, last = path.split("/")
    entry = manifest
    for parent in parents:
        entry = entry[parent]
    entry[last] = value
    return manifest


def first(phase: str, *paths: str, step: int = 5, previous: int | None = 4) -> FirstDifference:
    """Return a first difference in one phase, of bits."""
    spec = LeafSpec("w", *FLOAT)
    leaves = tuple(LeafDifference(phase, path, spec, spec, 1, 2) for path in paths or ("params/w",))
    return FirstDifference(step, previous, (phase,), leaves, True)


COMPUTED = [
    ("config/threads", 2, "threads: 0 → 2"),
    ("config/xla_flags", "--xla_b", "xla_flags:  → --xla_b"),
    ("config/deterministic", False, "deterministic: True → False"),
    ("config/matmul_precision", "high", "matmul_precision: default → high"),
    ("environment/variables/XLA_FLAGS", "--xla_a=2", "variables.XLA_FLAGS: --xla_a=1 → --xla_a=2"),
    ("environment/variables/NPROC", "2", "variables.NPROC: unset → 2"),
    ("environment/packages/jax", "0.9.1", "packages.jax: 0.9.0 → 0.9.1"),
    ("environment/packages/libtpu", "1", "packages.libtpu: unset → 1"),
    ("environment/python", "CPython 3.12.1", "python: CPython 3.11.7 → CPython 3.12.1"),
    ("environment/cpu/model", "Processor 2", "cpu.model: Processor 1 → Processor 2"),
    ("devices/backend", "gpu", "devices.backend: cpu → gpu"),
    ("devices/count", 4, "devices.count: 1 → 4"),
    ("devices/cpu_threads", 2, "devices.cpu_threads: 8 → 2"),
    ("experiment/source_digest", "f" * 64, f"experiment source: {'e' * 12} → {'f' * 12}"),
]


@pytest.mark.parametrize(("path", "value", "named"), COMPUTED, ids=[path for path, *_ in COMPUTED])
def test_what_a_computation_depends_on_is_named(path: str, value: Any, named: str) -> None:
    for phase in ("init", "forward", "grads", "optimizer", "params"):
        cause = cause_of(MANIFEST, edited(path, value), first(phase))
        assert cause.explained_by == (named,), phase
        assert named in cause.sentence
        assert cause.unrelated == ()


UNRELATED = [
    ("environment/host", "two", "host: one → two"),
    ("environment/variables/LANG", "de", "variables.LANG: C → de"),
    ("environment/packages/torch", "2.14", "packages.torch: 2.13.0 → 2.14"),
    ("environment/git/commit", "def", "git.commit: abc → def"),
    ("config/steps", 7, "steps: 200 → 7"),
    ("config/lr", 0.1, "lr: 0.05 → 0.1"),
    ("config/shuffle_from", 6, "shuffle_from: none → 6"),
    ("config/perturb", "6:params/w:0:0", "perturb: none → 6:params/w:0:0"),
]


@pytest.mark.parametrize(("path", "value", "named"), UNRELATED, ids=[path for path, *_ in UNRELATED])
def test_a_difference_that_does_not_explain_it_is_listed_as_such(path: str, value: Any, named: str) -> None:
    cause = cause_of(MANIFEST, edited(path, value), first("grads"))
    assert (cause.kind, cause.explained_by, cause.unrelated) == ("nondeterminism", (), (named,))


@pytest.mark.parametrize(("field", "early", "late"), [("shuffle_from", 3, 8), ("perturb", "3:params/w:0:0", "8:params/w:0:0")])
def test_of_two_moments_at_which_a_field_takes_effect_the_earlier_one_counts(field: str, early: Any, late: Any) -> None:
    phase = first("batch", "batch/x", step=5) if field == "shuffle_from" else first("params", step=5)
    before = replace(phase, step=2, previous=1)
    for one, other in ((early, late), (late, early)):
        a, b = edited(f"config/{field}", one), edited(f"config/{field}", other)
        named = f"{field}: {one} → {other}"
        assert cause_of(a, b, phase).explained_by == (named,)
        cause = cause_of(a, b, before)  # neither had taken effect
        assert (cause.explained_by, cause.unrelated) == ((), (named,))


def test_a_cache_elsewhere_is_no_difference() -> None:
    cause = cause_of(MANIFEST, edited("environment/variables/JAX_COMPILATION_CACHE_DIR", "/c"), first("grads"))
    assert (cause.explained_by, cause.unrelated) == ((), ())


def test_threads_are_said_once_and_not_again_by_what_they_set() -> None:
    b = edited("config/threads", 2)
    b["environment"]["variables"]["NPROC"] = "2"
    b["devices"]["cpu_threads"] = 2
    cause = cause_of(MANIFEST, b, first("grads"))
    assert (cause.explained_by, cause.unrelated) == (("threads: 0 → 2",), ())


NAMES = {"batch": "batch", "rng": "key", "forward": "loss", "grads": "gradients"}


@pytest.mark.parametrize("phase", PHASES[1:])
@pytest.mark.parametrize("gone", NAMES)
def test_nothing_is_called_equal_that_was_not_recorded(phase: str, gone: str) -> None:
    if PHASES.index(gone) >= PHASES.index(phase):
        return  # it does not enter that phase
    where = first(phase, "loss" if phase == "forward" else "x")
    hidden = replace(where, recorded=tuple(name for name in PHASES if name != gone))
    said, less = (cause_of(MANIFEST, MANIFEST, item) for item in (where, hidden))
    name = NAMES[gone]
    equal, _, rest = less.evidence[0].partition(" equal")
    assert name in said.evidence[0].partition(" equal")[0] and "not seen" not in said.evidence[0]
    assert name not in equal
    # A training without keys is common: where none was recorded, none is missed.
    assert (name in rest and "not seen" in rest) == (gone != "rng")
    if gone != "rng":
        assert "silent data corruption: " not in less.sentence and "all inputs" not in less.sentence
        if phase in ("forward", "grads"):
            assert "equal recorded inputs" in less.sentence and "equal inputs" in said.sentence


@pytest.mark.parametrize("phase", PHASES[1:])
def test_the_state_before_a_step_is_called_equal_only_where_the_step_before_is_recorded(phase: str) -> None:
    assert "state" in cause_of(MANIFEST, MANIFEST, first(phase, "x")).evidence[0].partition(" equal")[0]
    assert "state before" not in cause_of(MANIFEST, MANIFEST, first(phase, "x", previous=2)).evidence[0].partition(" equal")[0]


def test_of_a_script_corruption_is_the_last_that_is_thought_of() -> None:
    script = edited("launch", {"words": ["python", "train.py"], "variables": {}, "directory": "/", "options": "{}"})
    script["config_phases"] = {}
    experiment, own = (cause_of(manifest, manifest, first("params")) for manifest in (MANIFEST, script))
    assert (experiment.kind, own.kind) == ("corruption", "nondeterminism")
    assert own.sentence.endswith("or, last, silent data corruption")
    captured = "something that is not recorded differs (what the script's functions captured)"
    sentences = [cause_of(manifest, manifest, first("forward", "loss")).sentence for manifest in (MANIFEST, script)]
    assert [captured in sentence for sentence in sentences] == [False, True]


def test_an_initial_state_that_nothing_explains_is_likely_an_initialiser_without_a_seed() -> None:
    unseeded = "an initialiser without a seed"
    assert unseeded in cause_of(MANIFEST, MANIFEST, first("init", step=0, previous=None)).sentence
    assert unseeded not in cause_of(MANIFEST, MANIFEST, first("forward", "loss")).sentence


@pytest.mark.parametrize(
    ("path", "value", "where", "kind"),
    [
        ("config/seed", 1, first("init", step=0, previous=None), "initialisation"),
        ("config/prng", "rbg", first("rng", "rng"), "keys"),
        ("config/seed", 1, first("rng", "rng"), "keys"),
        ("config/shuffle", "sequential", first("batch", "batch/x"), "data-order"),
        ("config/shuffle_from", 5, first("batch", "batch/x"), "data-order"),
        ("data_digest", "other", first("batch", "batch/x"), "data"),
        ("environment/variables/PYTHONHASHSEED", "1", first("batch", "batch/x"), "data-order"),
        ("config/lr", 0.1, first("params"), "optimizer"),
        ("config/momentum", 0.5, first("params"), "optimizer"),
        ("environment/packages/jax", "1", first("params"), "computation"),
        ("config/width", 3, first("forward", "loss"), "computation"),
        ("config/perturb", "5:params/w:0:0", first("params"), "corruption"),
        ("config/perturb", "5:extra/m:0:0", first("forward", "extra/m"), "corruption"),
    ],
    ids=str,
)
def test_the_kind_of_cause_follows_the_phase(path: str, value: Any, where: FirstDifference, kind: str) -> None:
    assert cause_of(MANIFEST, edited(path, value), where).kind == kind


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        (first("init", step=0, previous=None), "nondeterminism"),
        (first("batch", "batch/x"), "data"),
        (first("rng", "rng"), "keys"),
        (first("forward", "loss"), "nondeterminism"),
        (first("forward", "extra/norm/mean"), "corruption"),
        (first("forward", "extra/norm/mean", "loss"), "nondeterminism"),
        (first("grads", "grads/w"), "nondeterminism"),
        (first("params"), "corruption"),
        (first("params", previous=2), "unknown"),
        (first("grads", previous=2), "unknown"),
    ],
    ids=str,
)
def test_where_nothing_differs_around_the_runs_the_advice_is_to_look_again(where: FirstDifference, kind: str) -> None:
    cause = cause_of(MANIFEST, MANIFEST, where)
    assert cause.kind == kind
    assert cause.explained_by == ()
    assert cause.advice


XLA = "--xla_gpu_deterministic_ops"
LEFT_TO_CHANCE = [
    ({"backend": "gpu"}, "", True),
    ({"backend": "gpu"}, f"--xla_dump_to=/x {XLA}=false", True),
    ({"backend": "gpu"}, f"--xla_dump_to=/x {XLA}=true", False),
    ({"backend": "gpu"}, "--xla_gpu_exclude_nondeterministic_ops=true", False),
    ({"backend": "cpu"}, "", False),
    ({"backend": "torch cuda", "deterministic_algorithms": False}, "", True),
    ({"backend": "torch cuda", "deterministic_algorithms": True}, "", False),
    ({"backend": "torch cpu", "deterministic_algorithms": False}, "", False),
]


@pytest.mark.parametrize(("devices", "flags", "left"), LEFT_TO_CHANCE, ids=str)
def test_what_a_gpu_was_left_to_choose_is_the_cause(devices: dict[str, Any], flags: str, left: bool) -> None:
    manifest = edited("devices", devices)
    manifest["environment"]["variables"]["XLA_FLAGS"] = flags
    of_many = cause_of(manifest, manifest, first("params", "params/w", "params/b"))
    assert of_many.kind == ("nondeterminism" if left else "corruption")
    causes = [of_many, cause_of(manifest, manifest, first("grads", "grads/w"))]
    for cause in causes:
        assert ("in no fixed order" in cause.sentence) == left
        assert ("deterministic" in cause.advice and "silent" not in cause.advice) or not left
    # One leaf alone may be a bit that flipped; batch and keys are not computed by such kernels.
    assert cause_of(manifest, manifest, first("params", "params/w")).kind == "corruption"
    assert "in no fixed order" not in cause_of(manifest, manifest, first("rng", "rng")).sentence


def test_the_advice_for_a_gpu_fits_whose_program_it_is() -> None:
    manifest = edited("devices", {"backend": "gpu"})
    assert cause_of(manifest, manifest, first("grads")).advice == "race it with deterministic=true"
    manifest |= {"config": {"command": "python train.py"}, "config_phases": {}}
    assert cause_of(manifest, manifest, first("grads")).advice == f"race it with XLA_FLAGS={XLA}=true"


def test_programs_that_differ_without_a_reason_are_told() -> None:
    cause = cause_of(MANIFEST, edited("program/step/jaxpr", "9"), first("grads"))
    assert "the programs differ" in cause.sentence
    assert "traced program (jaxpr): different" in cause.evidence
    assert "lowered program (StableHLO): equal" in cause.evidence
    # The step's program has no say in the initial state.
    assert cause_of(MANIFEST, edited("program/step/jaxpr", "9"), first("init", step=0)).kind == "nondeterminism"


def test_trees_that_differ_are_put_down_to_the_config() -> None:
    where = first("init", step=0, previous=None)
    leaf = replace(where.leaves[0], b=LeafSpec("w", "float32", (3,)))
    cause = cause_of(MANIFEST, edited("config/width", 3), replace(where, leaves=(leaf,)))
    assert (cause.kind, cause.sentence) == ("config", "the trees differ (shape), because of width: 512 → 3")
    assert "no recorded difference" in cause_of(MANIFEST, MANIFEST, replace(where, leaves=(leaf,))).sentence


@pytest.mark.parametrize("phase", ["forward", "grads", "optimizer", "params"])
def test_a_field_of_any_phase_explains_what_began_in_steps_that_were_not_recorded(phase: str) -> None:
    cause = cause_of(MANIFEST, edited("config/lr", 0.1), first(phase, step=10, previous=0))
    assert (cause.kind, cause.explained_by, cause.unrelated) == ("optimizer", ("lr: 0.05 → 0.1",), ())
    assert "after step 0" in cause.sentence
    assert not any("are equal" in line for line in cause.evidence)
    # Batches are functions of the step alone: the learning rate explains none.
    assert cause_of(MANIFEST, edited("config/lr", 0.1), first("batch", step=10, previous=0)).explained_by == ()


def test_manifests_that_say_nothing_still_give_a_cause() -> None:
    unknown: Iterable[dict[str, Any]] = ({}, {"config": {"mine": 1}})
    for manifest in unknown:
        assert cause_of({}, manifest, first("grads")).sentence
    assert cause_of({}, {"config": {"mine": 1}}, first("rng")).explained_by == ("mine: none → 1",)


def test_every_phase_has_words() -> None:
    for phase in PHASES:
        assert cause_of(MANIFEST, MANIFEST, first(phase)).evidence[0].startswith("step 5: ")
