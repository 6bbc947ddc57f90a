"""Arrays that span devices and processes: read where they lie, never by a call that spans devices; copies that must agree."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.common import ROOT
from conftest import PATIENCE, Cli, edit_manifest, events_of
from pilots import dashboard, drive
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace
from test_observe import command, printed, race

COLLECTIVES = re.compile(r"\b(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast)")

PIECES = """
import json, sys
import jax, jax.numpy as jnp, ml_dtypes, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from reprotui.checksum import numpy_form
from reprotui.checksum.leaves import to_numpy
from reprotui import Recorder
from reprotui.record import devices
from reprotui.record.lanes import Plan, take
from reprotui.trace import Trace

assert jax.device_count() == 4
devices.FIRST = int(sys.argv[1])
bits = np.random.default_rng(0).integers(0, 2**32, (8, 12, 4), np.uint32)
floats = np.random.default_rng(1).normal(size=(8, 12, 4)).astype(np.float32)
arrays = [floats, bits, floats.view(np.complex64), bits.view(np.int16), floats.astype(ml_dtypes.bfloat16), bits > 9]
keys = jax.random.split(jax.random.key(0), (8, 4, 2))
specs = [P(), P("x"), P(None, "y"), P("x", "y"), P("y", "x"), P(("x", "y")), P(None, ("y", "x")), P("x", None, "y")]
checked = 0

def check(leaves, statistics, copies=True):
    global checked
    taken = take(leaves, statistics=statistics, copies=copies).result()
    assert taken.lanes.tolist() == [list(numpy_form.lanes(to_numpy(leaf))) for leaf in leaves], leaves[0].sharding
    assert not taken.torn
    checked += len(leaves)
    return taken

for kind in (AxisType.Explicit, AxisType.Auto):
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(kind, kind))
    with jax.set_mesh(mesh):
        for spec in specs if kind is AxisType.Auto else specs[3:5]:
            check([jax.device_put(floats, NamedSharding(mesh, spec)), floats], statistics=False)
        # What lies on one device alone, on another one, and in the host's memory goes along.
        leaves = [*(jax.device_put(array, NamedSharding(mesh, P("x", None, "y"))) for array in arrays)]
        leaves += [jax.device_put(keys, NamedSharding(mesh, P("y"))), jax.device_put(np.float32(3), NamedSharding(mesh, P()))]
        leaves += [jax.device_put(floats, device) for device in jax.devices()[:2]] + [floats, 2.5]
        check(leaves[:8], statistics=False, copies=False)
        taken = check(leaves, statistics=True)
        assert taken.numbers[7] == 3 and taken.numbers[11] == 2.5 and not taken.norms[6].any()
        norm, largest = numpy_form.statistics(floats)
        for leaf in (0, 8, 9, 10):
            assert np.allclose(taken.norms[leaf], (norm, largest), rtol=1e-6), (leaf, taken.norms[leaf])

# One plan for arrays of the same types that lie elsewhere the next time.
plan, whole = Plan([jnp.asarray(floats)]), list(numpy_form.lanes(floats))
for spec in (P(), P(None, "y")):
    assert take([jax.device_put(floats, NamedSharding(mesh, spec))], plan=plan).result().lanes.tolist() == [whole]

# A NaN is found on whichever device it lies.
broken = floats.copy()
broken[7, 11, 3] = np.nan
leaves = [jax.device_put(broken, NamedSharding(mesh, P("x", "y"))), jax.device_put(floats, NamedSharding(mesh, P()))]
assert take(leaves).result().not_finite.tolist() == [True, False]

# Reading does not keep the memory that a call is given.
array = jax.device_put(floats, NamedSharding(mesh, P("x"))) * 1
before = [shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards]
taken = take([array])
given = jax.jit(lambda x: x + 1, donate_argnums=0)(array)
assert array.is_deleted() and before == [shard.data.unsafe_buffer_pointer() for shard in given.addressable_shards]
assert taken.result().lanes.tolist() == [whole]

def torn(spec, *changed):
    sharding = NamedSharding(mesh, spec)
    shards = []
    for number, (device, index) in enumerate(sharding.addressable_devices_indices_map(floats.shape).items()):
        shard = floats[index].copy()
        shard[0, 0, 0] += number if number in changed else 0
        shards.append(jax.device_put(shard, device))
    array = jax.make_array_from_single_device_arrays(floats.shape, sharding, shards)
    assert not take([array], copies=False).result().torn
    return [item.text(7, "params/w") for item in take([floats, array]).result().torn]

said = [torn(P()), torn(P(), 3), torn(P(), 0), torn(P(), 1, 3), torn(P(), 1, 2, 3), torn(P("x"), 3), torn(P(("x", "y")), 3)]

# A Recorder writes the same, however its trees are divided.
def recorded(name, lay):
    with Recorder(name=name, runs=".", statistics_every=1) as rec:
        params = {"w": lay(floats, P("x")), "b": lay(floats[0], P(None, "y"))}
        rec.init(params=params)
        for step in (1, 2):
            rec.step(step, loss=lay(np.float32(step), P()), params=params, rng=lay(jax.random.key(step), P()))
    with Trace(rec.run.trace_path) as trace:
        rows = list(trace.rows())
        sums = [(row.roots, row.loss, trace.leaf_checksums(row.step).tolist()) for row in rows]
        return sums, [trace.leaf_stats(row.step) for row in rows]

divided, norms = recorded("divided", lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)))
single, same_norms = recorded("single", lambda leaf, spec: jax.device_put(leaf, jax.devices()[2]))
assert divided == single and [loss for _, loss, _ in divided] == [None, 1, 2]
assert all(np.allclose(a, b, rtol=1e-6) for a, b in zip(norms, same_norms, strict=True))
print(json.dumps([checked, said]))
"""


def with_devices(environment: dict[str, str], count: int) -> dict[str, str]:
    """Return an environment in which jax's CPU is so many devices."""
    return {**environment, "XLA_FLAGS": f"{environment['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"}


@pytest.mark.slow
@pytest.mark.parametrize("first", ["0", "1000"], ids=["compiled", "at once"])
def test_parts_add_up_to_the_whole_and_copies_that_differ_are_named(reprotui: Cli, first: str) -> None:
    environment = with_devices(reprotui.environment, 4)
    done = subprocess.run(
        [sys.executable, "-c", PIECES, first],
        cwd=reprotui.directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    checked, said = json.loads(done.stdout)
    assert checked == 2 * (8 + 2) + 2 * (8 + 12)
    # The change to device 0 is none: its number is added. Rows 4 to 7 lie on devices 2 and 3.
    assert said == [
        [],
        ["TORN at step 7 · params/w · device 3 differs from the others"],
        [],
        ["TORN at step 7 · params/w · devices 0, 1, 2 and 3 differ from one another"],
        ["TORN at step 7 · params/w · devices 0, 1, 2 and 3 differ from one another"],
        ["TORN at step 7 · params/w[4:8,:,:] · devices 2 and 3 differ from one another"],
        [],
    ]


# Every way to call a step


@pytest.mark.slow
@pytest.mark.parametrize("way", ["automatic", "explicit", "aot", "pmap", "shard_map"])
def test_every_way_to_train_on_several_devices_is_seen(reprotui: Cli, way: str) -> None:
    one = command("jax_sharded", way)
    found = race(reprotui, "--a", one, "--b", one, "--c", f"{one} batch", exit_code=1)
    same, other = found["verdicts"]
    assert same["headline"] == "IDENTICAL through step 8" and not same["torn"]
    assert (other["kind"], other["step"], other["phase"]) == ("diverged", 5, "batch"), other["headline"]
    batch = "batch/batch" if way in ("automatic", "explicit", "aot") else "batch"
    assert [leaf["path"] for leaf in other["leaves"]] == [f"{batch}/x", f"{batch}/y"]
    with Trace(reprotui.runs / "race" / "a" / "trace.db") as trace:
        paths = {spec.path: spec.shape for spec in trace.table(trace.recorded(8).version).specs}
    assert paths["params/w2"] == ((4, 8, 1) if way == "pmap" else (8, 1))


def programs(reprotui: Cli, place: str, *command_line: str) -> dict[str, str]:
    """Run a command, and return the compiled programs of its process, and the digest that it printed."""
    folder = reprotui.directory / place
    flags = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
    environment = {**reprotui.environment, "XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(
        [sys.executable, *command_line], cwd=reprotui.directory, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    texts = [path.read_text() for path in sorted(folder.glob("*after_optimizations.txt"))]
    assert texts, list(folder.iterdir())
    printed_digest = printed(done.stdout, "digest")[0]
    # Without the tables of files and functions, and what refers to them: a program is what it computes.
    computes = (
        re.sub(r"\n.*?\n(?=%|ENTRY)", "\n", re.sub(r",? *metadata=\{[^}]*\}", "", text), count=1, flags=re.S) for text in texts
    )
    return {"digest": printed_digest, **dict.fromkeys(computes, "")}


COMPILED = """
import sys
from reprotui.observe.bootstrap import main
from reprotui.record import devices
devices.FIRST = 0
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow(but="way1")
@pytest.mark.parametrize("way", [("automatic", "--columns"), ("explicit", "--two")])
def test_no_program_of_ours_spans_devices_and_no_bit_changes(reprotui: Cli, way: tuple[str, ...]) -> None:
    script = str(Path(__file__).parent / "scripts" / "jax_sharded.py")
    own = programs(reprotui, "own", script, *way)
    seen = programs(reprotui, "seen", "-c", COMPILED, "--name", "seen", script, *way)
    assert own.pop("digest") == seen.pop("digest")
    # The script's own programs do contain collectives: they would be found.
    assert any(COLLECTIVES.search(text) for text in own)
    ours = [text for text in seen if text not in own]
    assert sum(text.startswith("HloModule jit_of_leaves") for text in ours) >= 4
    for text in ours:
        assert not COLLECTIVES.search(text), text[:2000]
        assert not re.search(r"(num_partitions|replica_count)=([2-9]|\d\d)", text), text[:300]


# Copies that differ


@pytest.mark.slow
def test_a_replica_that_differs_is_said_by_the_run_alone(reprotui: Cli) -> None:
    """Both runs are torn alike: they are identical, and not well; who reads first copies alone cannot know it."""
    torn = command("jax_sharded", "automatic", "torn")
    done = reprotui("race", "--headless", "--name", "race", "--a", torn, "--b", torn, exit_code=1)
    said = "TORN at step 0 · params/w2 · device 3 differs from the others"
    assert "IDENTICAL through step 8 · TORN in A and B" in done.stdout
    assert f"A: {said}" in done.stdout and f"B: {said}" in done.stdout
    assert f"≠ A: {said}" in done.stderr and f"≠ B: {said}" in done.stderr
    runs = [reprotui.runs / "race" / label for label in "ab"]
    assert ("torn", said) in events_of(runs[0])
    result = RunDirectory(runs[0]).manifest().result
    assert result is not None and result.torn[0] == said
    # Each leaf once: what follows from it is torn too, and stays so.
    assert len(result.torn) == len(set(result.torn)) == len([kind for kind, _ in events_of(runs[0]) if kind == "torn"])

    compared = reprotui.compare(*runs, exit_code=1)
    assert compared["verdicts"][0]["kind"] == "identical" and f"A: {said}".replace("A", "a", 1) in compared["verdicts"][0]["torn"]
    shown = reprotui("compare", *runs, exit_code=1).stdout
    assert "TORN" in shown.splitlines()[0] and "MATCH" not in shown
    report = json.loads(reprotui("report", *runs, "--json", exit_code=1).stdout)
    assert report["comparisons"][0]["verdict"]["torn"][0].endswith(said)
    assert json.loads(reprotui("open", runs[0], "--json", exit_code=1).stdout)["runs"][0]["torn"] == said

    async def look() -> None:
        async with dashboard(reprotui.runs / "race") as driven:
            await driven.until("the verdict", lambda: "TORN in A and B" in driven.text())
            assert f"A: {said}" in driven.text() and driven.get("VerdictBand").has_class("-diverged")
            assert "TORN at step 0" in " ".join(line for line in driven.lines() if "differs from the others" in line)

    drive(look())

    first = race(reprotui, "--replicas", "first", "--a", torn, "--b", torn, exit_code=0, name="first")
    assert first["verdicts"][0]["torn"] == [] and first["verdicts"][0]["headline"] == "IDENTICAL through step 8"
    assert RunDirectory(reprotui.runs / "first" / "a").manifest().recording.replicas == "first"


def test_a_replica_that_is_torn_on_the_way_and_its_twin(reprotui: Cli) -> None:
    later, well = command("jax_sharded", "explicit", "--two", "torn-at-6"), command("jax_sharded", "explicit", "--two")
    found = race(reprotui, "--a", well, "--b", later, exit_code=1)["verdicts"][0]
    who = "devices 0 and 1 differ from one another"
    assert found["torn"][0] == f"B: TORN at step 6 · replaced/params/w2 · {who}"
    assert all(text.startswith("B: ") for text in found["torn"])


TORN_BATCH = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import NamedSharding, PartitionSpec as P
from reprotui.experiments import ExperimentConfig, State, StepOutput

class Experiment:
    Config = ExperimentConfig

    def __init__(self, config):
        self.config, self.optimizer = config, optax.sgd(config.lr)
        self.sharding = NamedSharding(jax.make_mesh((2,), ("d",)), P())

    def init(self, key):
        params = {"w": jax.random.normal(key, (8, 1))}
        return State(params, self.optimizer.init(params))

    def batch(self, step):
        x = np.full((4, 8), step, np.float32)
        shards = [jax.device_put(x + (step == 3) * number, device) for number, device in enumerate(jax.devices()[:2])]
        return {"x": jax.make_array_from_single_device_arrays(x.shape, self.sharding, shards)}

    def train_step(self, state, batch, key):
        loss, grads = jax.value_and_grad(lambda params: jnp.mean((batch["x"] @ params["w"]) ** 2))(state.params)
        updates, opt_state = self.optimizer.update(grads, state.opt_state)
        return State(optax.apply_updates(state.params, updates), opt_state), StepOutput(loss, grads)
"""


@pytest.mark.slow
def test_a_single_run_that_is_torn_does_not_end_well(reprotui: Cli) -> None:
    reprotui.write("torn.py", TORN_BATCH)
    reprotui = Cli(reprotui.directory, with_devices(reprotui.environment, 2))
    reprotui("run", "torn.py", "steps=2", "--name", "well", exit_code=0)
    done = reprotui("run", "torn.py", "steps=4", "--name", "torn", exit_code=1)
    said = "TORN at step 3 · batch/x · devices 0 and 1 differ from one another"
    assert f"≠ {said}" in done.stderr and said in done.stdout
    reprotui("run", "torn.py", "steps=4", "--name", "first", "--replicas", "first", exit_code=0)
    reprotui.compare("torn", "first", exit_code=1)


# Several processes


def both(reprotui: Cli, *faults: str) -> str:
    """Write a shell script that starts a training of two processes; return its command."""
    script = ROOT / "benchmarks" / "scripts" / "two_processes.py"
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    ranks = [" ".join([sys.executable, str(script), str(port), rank, *faults]) for rank in "01"]
    name = f"both{''.join(faults)}-{port}.sh"
    reprotui.write(name, f"{ranks[0]} &\nfirst=$!\n{ranks[1]} &\nsecond=$!\nwait $first && wait $second\n")
    return f"sh {name}"


@pytest.mark.slow
def test_two_processes_are_raced_and_what_each_holds_is_recorded(reprotui: Cli) -> None:
    found = race(reprotui, "--a", both(reprotui), "--b", both(reprotui), "--c", both(reprotui, "batch"), exit_code=1)
    same, other = found["verdicts"]
    assert same["headline"] == "IDENTICAL through step 8"
    assert any("all 2 ranks" in note for note in same["notes"]) and same["torn"] == []
    assert (other["step"], other["phase"], other["ranks"]["numbers"]) == (5, "batch", [0])
    assert [leaf["path"] for leaf in other["leaves"]] == ["batch/x[0:8,:]", "batch/y[0:8,:]"]
    for label in "abc":
        log = (reprotui.runs / "race" / label / "worker.log").read_text()
        losses = re.findall(r"^loss (\S+)$", log, re.MULTILINE)
        assert len(losses) == 2 and len(set(losses)) == 1, log
    with Trace(reprotui.runs / "race" / "a" / "trace.db") as trace:
        shapes = {spec.path: spec.shape for spec in trace.table(trace.recorded(8).version).specs}
    assert shapes["params/w[0:3,:]"] == (3, 1) and shapes["params/b"] == (1,)
    with Trace(reprotui.runs / "race" / "a" / "ranks" / "0001" / "trace.db") as trace:
        assert "params/w[3:6,:]" in {spec.path for spec in trace.table(trace.recorded(8).version).specs}
        assert "params/b" in trace.copies() and not any(path.startswith("batch/x[0:") for path in trace.copies())
    # Another process of a training holds other parts: that they differ says nothing.
    edit_manifest(reprotui.runs / "race" / "c", devices=lambda devices: {**devices, "process": 1})
    verdict = reprotui.compare("race/a", "race/c", exit_code=3)["verdicts"][0]
    assert verdict["kind"] == "incomparable" and "is process 0 of its training and" in verdict["reason"]


# Whether observing changes anything


@pytest.mark.slow
@pytest.mark.parametrize("how", ["two devices", "two processes"])
def test_certify_compares_the_end_of_a_training_on_several_devices_or_processes(reprotui: Cli, how: str) -> None:
    """The processes are found below a shell, in the runs that are not observed as in those that are."""
    words = both(reprotui) if how == "two processes" else command("jax_sharded", "automatic", "--two")
    found = json.loads(reprotui("certify", "--json", "--", *words.split(), exit_code=0).stdout)
    assert found["kind"] == "unchanged" and [trial["observed"] for trial in found["trials"]] == [False, True] * 2
    assert len({trial["state"] for trial in found["trials"]}) == 1 and found["trials"][0]["state"]
