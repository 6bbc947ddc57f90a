"""The ledger of chance: which line of a script lets chance or data in, and what two ledgers say about a difference."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli
from pilots import dashboard, drive
from reprotui.chance import Chance
from reprotui.compare.chance import entries
from reprotui.compare.ledger import NOTHING_NOTED, side_by_side
from reprotui.report.collect import collect_report
from reprotui.report.json_form import to_json
from reprotui.report.markdown import render_markdown
from reprotui.trace import Trace, TraceWriter
from test_compare import history, run, to_record

MANY = """
import os, random, secrets, tempfile, uuid
from random import sample
import numpy as np
import jax
sample(range(9), 3)
random.shuffle([1, 2])
tempfile.mkdtemp()  # draws a name: no business of the training
np.random.rand(2)
np.random.default_rng()
np.random.RandomState()
np.random.SeedSequence()
random.Random()
random.Random(5)
secrets.token_bytes(4)
uuid.uuid4()
hash("text")
hash(7)
open("data.txt").read()
os.listdir("folder")
for turn in range(3):
    jax.random.key(turn)
random.seed(3)
random.random()
np.random.seed(4)
np.random.normal()
random.seed(None)
random.random()
np.random.default_rng(np.int64(8))
np.random.RandomState(5)
one = 6
np.random.RandomState(one)
np.random.RandomState(one + 1)
np.random.RandomState(seed=None)
np.random.default_rng(np.random.SeedSequence(11))
np.random.SeedSequence(None if one else 6)
np.random.default_rng(np.random.SeedSequence())
np.random.default_rng(np.random.PCG64())
np.random.default_rng(np.random.SeedSequence().spawn(2)[1])
np.random.default_rng(np.random.PCG64(12))
np.random.default_rng(np.random.SeedSequence([1, 2]))
"""
TORCH = """
import torch
from torch.utils.data import DataLoader, random_split
generator = torch.Generator()
generator.manual_seed(12)
DataLoader([1, 2], shuffle=True, generator=generator)
random_split([1, 2], [1, 1], torch.Generator().manual_seed(13))
torch.manual_seed(14)
torch.seed()
"""
READ = """
import glob, gzip, os
from pathlib import Path
Path("data.txt").read_text()
glob.glob("folder/*")
for found in os.walk("other"): pass
gzip.open("data.gz", "wt").write("text")
gzip.open("data.gz", "rt").read()
"""
TRAIN = """
import os, random, sys
import jax, jax.numpy as jnp, numpy as np
data = np.arange(64, dtype=np.float32).reshape(16, 4) / 64
order = list(range(16))
key = jax.random.key(0)
seeded = "--seeded" in sys.argv
{chance}
@jax.jit
def train(w, x):
    loss, g = jax.value_and_grad(lambda w: jnp.mean((x @ w - 1) ** 2))(w)
    return w - 0.1 * g, loss
w = jnp.ones((4, 1))
for step in range(6):
    w, loss = train(w, data[order[:8]])
"""
CASES = {
    "if seeded: random.seed(1)\nrandom.shuffle(order)": (
        "the batch differs, because random.shuffle at train.py:9 draws from Python's generator, which nothing seeded",
        "call random.seed(0) before it",
    ),
    "order = np.random.default_rng(1 if seeded else None).permutation(16)": (
        "the batch differs, because numpy.random.default_rng at train.py:8 was given no seed",
        "give it a seed: order = np.random.default_rng(1 if seeded else None).permutation(16)",
    ),
    "order = np.random.default_rng(1 if seeded else os.getpid()).permutation(16)": (
        "the batch differs, because numpy.random.default_rng at train.py:8 was given another seed (A ",
        "give it a seed that is written down: order = ",
    ),
    "order.sort(key=lambda n: len(str(n)) if seeded else hash(str(n)))": (
        "the batch differs, likely because hash(str) at train.py:8 is another number in each process (PYTHONHASHSEED is not set)",
        "use hashlib, or set PYTHONHASHSEED=0",
    ),
}


def race(reprotui: Cli, chance: str, *arguments: str, exit_code: int) -> dict[str, Any]:
    """Race a script with these lines against itself; return the verdict."""
    reprotui.write("train.py", TRAIN.format(chance=chance))
    done = reprotui("race", "--json", "--name", "race", "--", sys.executable, "train.py", *arguments, exit_code=exit_code)
    return json.loads(done.stdout)["verdicts"][0]


@pytest.mark.parametrize("chance", CASES)
def test_the_line_that_let_chance_in_is_the_cause(reprotui: Cli, chance: str) -> None:
    sentence, advice = CASES[chance]
    found = race(reprotui, chance, exit_code=1)
    assert (found["step"], found["phase"]) == (1, "batch")
    assert found["cause"]["sentence"].startswith(sentence)
    assert found["cause"]["advice"].startswith(advice)


def test_a_seeded_script_is_identical_and_an_unseeded_draw_behind_the_difference_is_no_cause(reprotui: Cli) -> None:
    shuffled = next(iter(CASES))
    assert race(reprotui, shuffled, "--seeded", exit_code=0)["kind"] == "identical"
    # Nobody seeds this draw, and it comes after the step at which the runs differ.
    reprotui.write("train.py", TRAIN.format(chance="data = data + np.float32(os.getpid())") + "random.random()\n")
    done = reprotui("race", "--json", "--name", "late", "--", sys.executable, "train.py", exit_code=1)
    verdict = json.loads(done.stdout)["verdicts"][0]
    assert verdict["phase"] == "batch" and "random.random" not in verdict["cause"]["sentence"]


def noted(reprotui: Cli, source: str, **variables: str) -> list[Chance]:
    """Return what the ledger of a script's run says."""
    reprotui.write("many.py", source)
    reprotui.write("data.txt", "some text")
    (reprotui.directory / "folder").mkdir(exist_ok=True)
    environment = {**reprotui.environment, "REPROTUI_RUNS": str(reprotui.runs), **variables}
    command = [sys.executable, "-m", "reprotui.observe", "--name", "many", "many.py"]
    done = subprocess.run(command, cwd=reprotui.directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Trace(reprotui.runs / "many" / "trace.db") as trace:
        return trace.chance()


def test_every_way_in_is_noted_once_with_its_line_and_seed(reprotui: Cli) -> None:
    found = noted(reprotui, MANY)
    lines = MANY.splitlines()
    assert all(item.path == "many.py" and item.step == 0 and item.text == lines[item.line - 1].strip() for item in found)
    told = [(item.line, item.kind, item.source, item.value) for item in found if item.kind != "file"]
    assert [entry for entry in told if entry[1] != "folder"] == [
        (6, "draw", "random.sample", None),
        (7, "draw", "random.shuffle", None),
        (9, "draw", "numpy.random.rand", None),
        (10, "seed", "numpy.random.default_rng", None),
        (11, "seed", "a generator of numpy.random", None),
        (12, "seed", "a generator of numpy.random", None),
        (13, "seed", "random.Random", None),
        (14, "seed", "random.Random", "5"),
        (15, "entropy", "os.urandom", None),
        (16, "entropy", "os.urandom", None),
        (17, "hash", "hash(str)", None),
        (22, "seed", "jax.random.key", "0"),
        (23, "seed", "random.seed", "3"),
        (25, "seed", "numpy.random.seed", "4"),
        (27, "seed", "random.seed", None),
        (28, "draw", "random.random", None),
        (29, "seed", "numpy.random.default_rng", "8"),
        (30, "seed", "a generator of numpy.random", "5"),
        (32, "seed", "a generator of numpy.random", "6"),
        (34, "seed", "a generator of numpy.random", None),
        (35, "seed", "numpy.random.default_rng", "SeedSequence(11)"),
        (36, "seed", "a generator of numpy.random", None),
        *[
            (line, "seed", source, None)
            for line in (37, 38, 39)
            for source in ("a generator of numpy.random", "numpy.random.default_rng")
        ],
        (40, "seed", "numpy.random.default_rng", "SeedSequence(12)"),
        (41, "seed", "numpy.random.default_rng", "SeedSequence([1, 2])"),
    ]  # of line 33 the seed cannot be looked up, so nothing is said
    (file,) = [item for item in found if item.kind == "file"]
    digest = "b94f6f125c79e3a5ffaa826f584c10d52ada669e6762051b826b55776d05aed2"
    assert (file.line, file.source, file.value) == (19, "open(data.txt)", f"9 bytes, SHA-256 {digest}")
    (folder,) = [item for item in found if item.kind == "folder"]
    assert (folder.line, folder.source) == (20, "os.listdir(folder)") and str(folder.value).startswith("0 names")


@pytest.mark.slow
def test_seeds_of_torch_and_of_what_draws_from_a_generator_of_ones_own_are_noted(reprotui: Cli) -> None:
    assert [(item.line, item.source, item.value) for item in noted(reprotui, TORCH) if item.kind != "file"] == [
        (6, "torch.utils.data.RandomSampler", "12"),
        (7, "torch.utils.data.random_split", "13"),
        (8, "torch.manual_seed", "14"),
        (9, "torch.seed", None),
    ]


def test_what_python_reads_for_a_script_is_told_as_the_line_of_the_script(reprotui: Cli) -> None:
    (reprotui.directory / "other").mkdir()
    found = [(item.line, item.kind, item.source) for item in noted(reprotui, READ)]
    assert found == [
        (4, "file", "open(data.txt)"),
        (5, "folder", "os.scandir(folder)"),
        (6, "folder", "os.scandir(other)"),
        (8, "file", "open(data.gz)"),
    ]


def test_two_calls_on_one_line_stand_side_by_side_with_their_own_kind() -> None:
    keys = [Chance(0, "seed", "jax.random.key", "train.py", 3, "a, b = key(0), key(1)", value) for value in "01"]
    lines = side_by_side([keys, [keys[0], keys[0]]])
    assert [line.values for line in lines] == [("0", "0"), ("1", "0")]
    assert [line.differs for line in lines] == [(False, False), (False, True)]
    assert [line.differs for line in side_by_side([keys, keys])] == [(False, False)] * 2


def test_hashing_is_no_chance_where_its_salt_is_set(reprotui: Cli) -> None:
    assert [item for item in noted(reprotui, "hash('text')\n", PYTHONHASHSEED="7") if item.kind == "hash"] == []


UNHARMED = """
import json, os, pickle, random, sys
import numpy as np
from random import shuffle
pickle.loads(pickle.dumps(shuffle))([1, 2]), pickle.loads(pickle.dumps(np.random.rand))(2)
assert isinstance(np.random.mtrand._rand, np.random.RandomState) and np.random.RandomState(1).__reduce__()
os.mkfifo("pipe")
descriptor = os.open("pipe", os.O_RDWR)
os.write(descriptor, b"for the script alone")
with open("pipe", "rb", buffering=0) as pipe:
    assert pipe.read(100) == b"for the script alone"
random.seed(1), np.random.seed(2)
order = list(range(20)); shuffle(order)
child = os.fork()
if child == 0:
    random.seed(None); random.random(); os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(json.dumps([order, random.random(), np.random.rand(3).tolist(), np.random.default_rng(3).random(), hash(("a", 1)) % 1]))
"""


def test_what_a_script_gets_is_what_it_gets_alone(reprotui: Cli) -> None:
    reprotui.write("unharmed.py", UNHARMED)
    outputs = []
    for words in ([], ["-m", "reprotui.observe"]):
        environment = {**reprotui.environment, "REPROTUI_RUNS": str(reprotui.runs)}
        done = subprocess.run(
            [sys.executable, *words, "unharmed.py"], cwd=reprotui.directory, env=environment, capture_output=True, text=True
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
        os.unlink(reprotui.directory / "pipe")  # noqa: PTH108
    assert outputs[0] == outputs[1] and outputs[0]


NOWHERE = """
import os, random, shutil
name = os.fsdecode(b"data-\\xff.txt")
open(name, "w").close()
open(name).read()
os.mkdir("gone"); os.chdir("gone"); shutil.rmtree("../gone")
random.shuffle([1, 2])
os.chdir("/")
for number in range(600):
    exec(compile("random.random()", f"<cell {number}>", "exec"))
print("trained")
"""


def test_a_place_that_cannot_be_told_never_stops_the_script(reprotui: Cli) -> None:
    found = noted(reprotui, NOWHERE)
    assert [item.source for item in found if item.kind == "file"] == ["open(data-\\udcff.txt)"]
    with Trace(reprotui.runs / "many" / "trace.db") as trace:
        (told,) = [event.text for event in trace.events() if event.kind == "ledger-ended"]
    assert told.startswith("where chance enters is not noted any more: FileNotFoundError")


def at(kind: str, value: str | None, *, step: int = 0, source: str = "open(data.npy)", line: int = 3) -> Chance:
    return Chance(step, kind, source, "train.py", line, "load()", value)


def test_a_file_or_a_listing_that_differs_is_certain_and_equal_ones_say_nothing() -> None:
    (found,) = entries([at("file", "8 bytes, SHA-256 aa")], [at("file", "8 bytes, SHA-256 bb")], 1)
    assert found.text == "data.npy, read at train.py:3, differs (A 8 bytes, SHA-256 aa, B 8 bytes, SHA-256 bb)" and found.certain
    listed = [[at("folder", order, source="os.listdir(data)")] for order in ("2 names, x", "2 names, y")]
    (found,) = entries(*listed, 1)
    assert "os.listdir(data) at train.py:3 gave other names, or another order" in found.text and found.certain
    assert entries(listed[0], listed[0], 1) == []
    # A place that one run alone reached says nothing about the other.
    assert entries([at("seed", None)], [], 1) == []


def test_what_was_reached_after_the_difference_is_no_cause() -> None:
    seeds = [[at("seed", value, step=4, source="jax.random.key")] for value in ("1", "2")]
    assert entries(*seeds, 4) == []
    (found,) = entries(*seeds, 5)
    assert found.text == "jax.random.key at train.py:3 was given another seed (A 1, B 2)"


def test_a_trace_of_a_former_version_has_no_ledger(trace_without_chance: Path) -> None:
    with Trace(trace_without_chance) as trace:
        assert trace.chance() == []


@pytest.fixture
def trace_without_chance(tmp_path: Path) -> Path:
    """Return a trace such as those that were written before there was a ledger."""
    import sqlite3

    path = tmp_path / "trace.db"
    TraceWriter(path).seal()
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE chance")
    connection.commit()
    connection.close()
    return path


# The ledger on its own, side by side

SEEDS = at("seed", "1", source="jax.random.key"), at("seed", "2", source="jax.random.key")
ENTERED = (
    [SEEDS[0], at("draw", None, source="random.shuffle", line=4), at("file", "8 bytes, SHA-256 aa"), at("hash", None, line=9)],
    [SEEDS[1], at("draw", None, source="random.shuffle", line=4), at("file", "8 bytes, SHA-256 aa")],
)


@pytest.fixture
def noted_runs(tmp_path: Path) -> Path:
    """Return the folder of two runs of scripts whose ledgers are `ENTERED`."""
    (tmp_path / "race").mkdir()
    for label, places in zip("ab", ENTERED, strict=True):
        run(tmp_path / "race" / label, history(3), kind="script", config_phases={})
        (tmp_path / "race" / label / "trace.db").unlink()
        writer = TraceWriter(tmp_path / "race" / label / "trace.db")
        for record in [to_record(step, leaves, True) for step, leaves in history(3).items()]:
            writer.put(lambda record=record: record)
        for place in places:
            writer.chance(place)
        writer.seal()
    return tmp_path / "race"


def test_the_ledgers_stand_side_by_side() -> None:
    lines = side_by_side(ENTERED)
    assert [(line.place, line.values, line.differs) for line in lines] == [
        ("train.py:3", ("1", "2"), (False, True)),
        ("train.py:4", ("nothing seeded it", "nothing seeded it"), (None, None)),
        ("train.py:3", ("8 bytes, SHA-256 aa", "8 bytes, SHA-256 aa"), (False, False)),
        ("train.py:9", ("another salt in each process", None), (None, None)),
    ]


@pytest.mark.slow
def test_compare_lists_the_ledger_where_it_is_asked_for(noted_runs: Path, reprotui: Cli) -> None:
    said = reprotui("compare", noted_runs / "a", noted_runs / "b", "--chance").stdout
    (seed,) = [line for line in said.splitlines() if "jax.random.key" in line]
    assert "train.py:3" in seed and "a 1  b 2" in seed and seed.split()[0] in ("≠", "!=")
    assert "random.shuffle" in said and "nothing seeded it" in said
    found = reprotui.compare(noted_runs / "a", noted_runs / "b", "--chance")["chance"]
    assert [line["differs"] for line in found] == [[False, True], [None, None], [False, False], [None, None]]
    assert "chance" not in reprotui.compare(noted_runs / "a", noted_runs / "b")


def test_a_ledger_that_cannot_be_read_is_said_and_nothing_is_said_of_it(noted_runs: Path, reprotui: Cli) -> None:
    os.truncate(noted_runs / "b" / "trace.db", 4096)
    done = reprotui("compare", noted_runs / "a", noted_runs / "b", "--chance", exit_code=3)
    (seed,) = [line for line in done.stdout.splitlines() if "jax.random.key" in line]
    assert "a 1  b cannot be read" in seed and seed.split()[0] == "?"
    os.truncate(noted_runs / "a" / "trace.db", 4096)
    done = reprotui("compare", noted_runs / "a", noted_runs / "b", "--chance", exit_code=3)
    assert "a ledger of chance cannot be read" in done.stdout and NOTHING_NOTED not in done.stdout


def test_where_nothing_was_noted_the_list_says_why(tmp_path: Path, reprotui: Cli) -> None:
    (tmp_path / "quiet").mkdir()
    views = [run(tmp_path / "quiet" / label, history(3)) for label in "ab"]
    assert NOTHING_NOTED in reprotui("compare", *(view.run.path for view in views), "--chance").stdout
    reprotui.write("one.json", '{"hash": "1"}')
    refused = reprotui("compare", "one.json", "one.json", "--chance", exit_code=2)
    assert "name run directories or a race" in refused.stderr


def test_the_report_holds_the_ledger(noted_runs: Path) -> None:
    report = collect_report([noted_runs / "a", noted_runs / "b"])
    text = render_markdown(report)
    assert "Chance" in text and "jax.random.key" in text and "nothing seeded it" in text
    assert [item["value"] for item in to_json(report)["runs"][0]["chance"]] == ["1", None, "8 bytes, SHA-256 aa", None]


@pytest.mark.usefixtures("own_settings")
def test_the_dashboard_shows_the_ledger(noted_runs: Path) -> None:
    async def look() -> None:
        async with dashboard(noted_runs / "a", noted_runs / "b") as driven:
            await driven.press("C")
            await driven.until("the ledger", lambda: "where chance and data entered" in driven.text())
            text = driven.text()
            assert "≠ train.py:3  jax.random.key" in text and "A 1" in text and "B 2" in text
            assert "? train.py:4  random.shuffle" in text and "nothing seeded it" in text
            await driven.press("escape")
            await driven.until("the race again", lambda: "where chance and data entered" not in driven.text())

    drive(look())
