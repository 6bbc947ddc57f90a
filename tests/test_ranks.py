"""Trainings of several processes: every rank is recorded, one verdict over all, and copies that differ are named with theirs.

Real processes: DDP and FSDP2 over gloo, below a launcher. The faults are on one rank alone. How copies are found among more
ranks, and what is no copy, is tested on traces that are written as processes write them.
"""

import json
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from benchmarks.common import ROOT
from conftest import Cli
from pilots import dashboard, drive
from reprotui.checksum import LeafSpec
from reprotui.compare import torn
from reprotui.compare.torn import torn_of
from reprotui.errors import CannotTellError
from reprotui.ranks import named
from reprotui.report.collect import collect_report
from reprotui.report.json_form import to_json
from reprotui.trace import LeafTable, Record, Trace, TraceWriter
from reprotui.trace.phases import ROOTS_BYTES
from reprotui.trace.verify import roots_of

SCRIPT = ROOT / "benchmarks" / "scripts" / "data_parallel.py"


def training(how: str, *fault: str) -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    return f"env {sys.executable} {SCRIPT} {port} 2 {' '.join([how, *fault])}"


def raced(reprotui: Cli, name: str, how: str, fault: str, again: bool = True) -> dict[str, Any]:
    """Race a clean training against one with a fault, and another clean one before it if asked for."""
    runs = [training(how), *([training(how)] if again else []), training(how, fault)]
    words = [word for label, run in zip("abcdef", runs, strict=False) for word in (f"--{label}", run)]
    return json.loads(reprotui("race", "--json", "--name", name, *words, exit_code=1).stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, bare_environment: dict[str, str]) -> Cli:
    return Cli(tmp_path_factory.mktemp("ranks"), bare_environment)


@pytest.fixture(scope="module")
def ddp(home: Cli) -> dict[str, Any]:
    return raced(home, "ddp", "ddp", "reduce")


@pytest.fixture(scope="module")
def fsdp(home: Cli) -> dict[str, Any]:
    return raced(home, "fsdp", "fsdp", "flip", again=False)


@pytest.mark.slow
def test_every_rank_is_recorded_in_a_run_directory_of_its_own(home: Cli, ddp: dict[str, Any]) -> None:
    run = home.runs / "ddp" / "a"
    for rank, path in enumerate((run, run / "ranks" / "0001")):
        manifest = json.loads((path / "run.json").read_text())
        assert (manifest["rank"], manifest["world_size"], manifest["host"]) == (rank, 2, socket.gethostname())
        assert manifest["result"]["state"] == "finished"
        with Trace(path / "trace.db") as trace:
            assert trace.last_step() == 6
    assert [rank["state"] for rank in ddp["runs"]["a"]["ranks"]] == ["finished"] * 2
    home("compare", str(run), "ddp/b", "--verify", exit_code=0)


@pytest.mark.slow
def test_two_clean_trainings_are_identical_on_all_ranks(ddp: dict[str, Any]) -> None:
    clean = ddp["verdicts"][0]
    assert (clean["kind"], clean["torn"], clean["ranks"]["numbers"]) == ("identical", [], [0, 1])
    assert any("all 2 ranks" in note for note in clean["notes"])


def test_a_fault_on_one_rank_is_named_with_it(ddp: dict[str, Any]) -> None:
    found = ddp["verdicts"][1]
    assert (found["kind"], found["step"], found["phase"], found["ranks"]["numbers"]) == ("diverged", 4, "grads", [1])
    assert f"at step 4 · grads · rank 1 (host {socket.gethostname()})" in found["headline"]


@pytest.mark.slow
def test_copies_that_differ_are_torn_and_what_belongs_to_a_rank_is_not(home: Cli, ddp: dict[str, Any]) -> None:
    """Batches and losses differ from the first step on; the gradients that were not reduced are what tears."""
    said = "TORN at step 4 · grads/0/weight · ranks 0 and 1 differ from one another"
    assert ddp["verdicts"][1]["torn"] == [f"C: {said}"]
    assert [[rank["torn"] for rank in ddp["runs"][label]["ranks"]] for label in "abc"] == [[False] * 2, [False] * 2, [True] * 2]
    torn = home.compare("ddp/c", exit_code=1)
    assert torn["headline"] == said and (torn["torn"]["phase"], torn["torn"]["step"]) == ("grads", 4)
    assert "EQUAL" in home("compare", "ddp/a", exit_code=0).stdout
    opened = json.loads(home("open", "ddp/c", "--once", "--json", exit_code=1).stdout)["runs"][0]
    assert opened["torn"] == said and [rank["step"] for rank in opened["ranks"]] == [6, 6]


@pytest.mark.slow
def test_parts_of_sharded_arrays_are_recorded_with_their_slice(home: Cli, fsdp: dict[str, Any]) -> None:
    (flipped,) = fsdp["verdicts"]
    assert flipped["torn"] == []  # each part is on one rank: there is no copy that could tell
    assert (flipped["step"], flipped["phase"], flipped["ranks"]["numbers"]) == (4, "params", [1])
    assert flipped["leaves"][0]["path"] == "params/0/weight[4:8,:]"


@pytest.mark.slow
def test_a_rank_without_records_leaves_it_open(home: Cli, ddp: dict[str, Any]) -> None:
    half = home.runs / "half"
    shutil.copytree(home.runs / "ddp" / "b", half)
    shutil.rmtree(half / "ranks")
    found = home.compare("ddp/a", "half", exit_code=3)["verdicts"][0]
    assert (found["kind"], found["ranks"]["numbers"]) == ("incomplete", [1])
    assert "rank 1: half left no records" in found["headline"]
    # What another rank did differently is a difference all the same.
    home.compare("ddp/c", "half", exit_code=1)


def test_one_process_against_two_is_compared_by_whole_arrays(home: Cli, ddp: dict[str, Any]) -> None:
    alone = home.runs / "alone"
    shutil.copytree(home.runs / "ddp" / "a", alone)
    manifest = json.loads((alone / "run.json").read_text())
    (alone / "run.json").write_text(
        json.dumps({key: value for key, value in manifest.items() if key not in ("rank", "world_size")})
    )
    found = home.compare("ddp/a", "alone")["verdicts"][0]
    assert found["kind"] == "identical" and "a has 2 processes, alone has 1 process: compared by whole" in found["notes"][0]
    assert "it belongs to one process: batch" in found["notes"][0]
    assert home.compare("ddp/c", "alone", exit_code=1)["verdicts"][0]["phase"] == "grads", "the fault reaches what is whole"
    assert "alone cannot be compared" in home("compare", "alone", exit_code=2).stderr


# Copies among more ranks, on traces as processes write them

PATHS = ("batch/x", "loss", "grads/w", "opt_state/m", "params/w", "params/b")
PHASES_OF = ("batch", "forward", "grads", "optimizer", "params", "params")
COPIES = frozenset({"grads/", "opt_state/", "params/"})


def written(
    folder: Path,
    ranks: int,
    flips: Iterable[tuple[int, int, int]] = (),
    copies: Mapping[int, frozenset[str]] = {},
    steps: int = 5,
) -> dict[int, Path]:
    """Write the traces of a training; a flip is (rank, step, leaf), and stays as the training goes on."""
    table = LeafTable(PHASES_OF, tuple(LeafSpec(path, "float32", (3,)) for path in PATHS))
    found = {}
    for rank in range(ranks):
        found[rank] = folder / f"{rank}.db"
        writer = TraceWriter(found[rank])
        writer.copies(copies.get(rank, COPIES))
        for step in range(steps):
            sums = np.arange(6, dtype=np.uint64) + np.uint64(1000 * step)
            sums[:2] += np.uint64(rank << 20)  # batch and loss are those of the rank
            for of, since, leaf in flips:
                if of == rank and step >= since:
                    sums[leaf] ^= np.uint64(1 << 40)
            record = Record(step, 1, table, bytes(ROOTS_BYTES), leaf_checksums=sums.tobytes())
            writer.put(lambda record=record: record)
        writer.seal()
    return found


def test_the_majority_names_the_odd_rank(tmp_path: Path) -> None:
    found = torn_of(written(tmp_path, 8, [(5, 3, 4)]))
    assert found is not None
    assert found.said(dict.fromkeys(range(8), "n3")) == "TORN at step 3 · params/w · rank 5 (host n3) against the other seven"


def test_the_first_place_is_told_in_causal_order(tmp_path: Path) -> None:
    found = torn_of(written(tmp_path, 3, [(1, 3, 5), (1, 3, 2), (2, 4, 2)]))
    assert found is not None and (found.step, found.path, found.ranks) == (3, "grads/w", (1,))


def test_without_a_majority_all_are_named(tmp_path: Path) -> None:
    found = torn_of(written(tmp_path, 4, [(1, 2, 3), (3, 2, 3)]))
    assert found is not None and not found.majority and found.ranks == (0, 1, 2, 3)
    assert found.said({}) == "TORN at step 2 · opt_state/m · ranks 0-3 differ from one another"


def test_equal_copies_are_silent_whatever_belongs_to_a_rank(tmp_path: Path) -> None:
    assert torn_of(written(tmp_path, 4)) is None
    (tmp_path / "own").mkdir()
    assert torn_of(written(tmp_path / "own", 4, [(1, 2, 0), (2, 2, 1)])) is None


def test_what_one_rank_does_not_call_a_copy_is_none(tmp_path: Path) -> None:
    assert torn_of(written(tmp_path, 3, [(1, 3, 4)], {2: COPIES - {"params/"}})) is None
    (tmp_path / "called").mkdir()
    assert torn_of(written(tmp_path / "called", 3, [(1, 3, 4)], {2: COPIES | {"params/w"}})) is not None


@pytest.mark.parametrize("seed", range(24))
def test_the_first_copy_that_differs_is_found_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Held against a search value by value: ranks that keep other steps, tables that change, leaves that some ranks have."""
    draw = random.Random(seed)
    monkeypatch.setattr(torn, "STEPS", draw.choice([1, 3, 4096]))
    monkeypatch.setattr(torn, "BLOCK_BYTES", draw.choice([1, 100, 1 << 20]))
    ranks, steps, real = draw.randint(2, 5), 12, draw.random() < 0.7
    changes, lacking = draw.randrange(steps), draw.choice([None, draw.randrange(ranks)])
    odd = (
        (draw.randrange(ranks), draw.randrange(steps), draw.choice(["grads/w", "params/w", "params/b"]))
        if draw.random() < 0.8
        else None
    )
    values: dict[tuple[int, int], dict[str, int]] = {}
    paths = {}
    for rank in range(ranks):
        paths[rank] = tmp_path / f"{rank}.db"
        writer = TraceWriter(paths[rank])
        writer.copies(COPIES)
        every = draw.choice([1, 0.8])
        for step in range(steps):
            names = [
                name for name in PATHS if not (name == "params/b" and rank == lacking) and (step >= changes or name != "grads/w")
            ]
            phases = tuple(PHASES_OF[PATHS.index(name)] for name in names)
            sums = {name: 1000 * step + PATHS.index(name) + (rank << 20 if name in PATHS[:2] else 0) for name in names}
            if odd and odd[0] == rank and step >= odd[1] and odd[2] in sums:
                sums[odd[2]] ^= 1 << 40
            kept = draw.random() < every
            if kept:
                values[rank, step] = sums
            table = LeafTable(phases, tuple(LeafSpec(name, "float32", (3,)) for name in names))
            blob = np.array(list(sums.values()), np.uint64).tobytes() if kept else None
            roots = roots_of(np.array(list(sums.values()), np.uint64).tobytes(), table) if real else bytes(ROOTS_BYTES)
            record = Record(step, 1, table, roots, leaf_checksums=blob)
            writer.put(lambda record=record: record)
        writer.seal()
    expected = next(
        (
            (step, name)
            for step in range(steps)
            if all((rank, step) in values for rank in range(ranks))
            for name in PATHS[2:]
            if len({values[rank, step][name] for rank in range(ranks) if name in values[rank, step]}) > 1
        ),
        None,
    )
    search = torn.TornSearch(paths)
    found = search.look()
    assert (found and (found.step, found.path)) == expected
    looked = [step for step in range(steps) if all((rank, step) in values for rank in range(ranks))]
    assert search.steps == len([step for step in looked if expected is None or step <= expected[0]])


def test_leaf_rows_that_lost_their_form_are_damage(tmp_path: Path) -> None:
    traces = written(tmp_path, 3)
    with closing(sqlite3.connect(traces[1])) as connection:
        connection.execute("UPDATE leaf_checksums SET blob = x'00' WHERE step = 2")
        connection.commit()
    with pytest.raises(CannotTellError, match="steps 0 to 4 lost their form"):
        torn.TornSearch(traces).look()
    assert torn_of(traces) is None


@pytest.mark.parametrize(
    ("numbers", "size", "said"),
    [
        ((3,), 8, "rank 3 (host n2)"), (tuple(range(8)), 8, "all 8 ranks"), ((4, 5, 6, 7), 8, "ranks 4-7 (host n2)"),
        ((0, 2), 8, "ranks 0 and 2 (host n2)"), ((0, 2, 4, 5, 6), 8, "ranks 0, 2 and 4-6 (host n2)"),
    ],
)  # fmt: skip
def test_ranks_are_written_short(numbers: tuple[int, ...], size: int, said: str) -> None:
    assert named(numbers, size, dict.fromkeys(range(size), "n2")) == said


def test_the_dashboard_says_torn_and_lists_the_ranks(home: Cli, ddp: dict[str, Any]) -> None:
    async def look() -> None:
        async with dashboard(home.runs / "ddp" / "c", home.runs / "ddp" / "a") as driven:
            await driven.until("the verdict", lambda: "TORN at step 4" in driven.text())
            await driven.press("H")
            await driven.until("the ranks", lambda: "esc closes" in driven.text())
            rows = [line for line in driven.text().splitlines() if "finished" in line and socket.gethostname() in line]
            assert ["TORN" in line for line in rows] == [True, True, False, False], driven.text()
            await driven.press("escape")
            await driven.until("the race again", lambda: "esc closes" not in driven.text())

    drive(look())


def test_a_report_lists_the_ranks_and_reads_the_leaves_of_the_one_that_differs(home: Cli, ddp: dict[str, Any]) -> None:
    found = to_json(collect_report([home.runs / "ddp" / "a", home.runs / "ddp" / "c"]))
    jsonschema.validate(
        found, json.loads(resources.files("reprotui.report").joinpath("schema/report-v2.json").read_text(encoding="utf-8"))
    )
    assert found["exit_code"] == 1 and [rank["torn"] for rank in found["runs"][1]["ranks"]] == [True, True]
    assert found["comparisons"][0]["steps"] and found["comparisons"][0]["problem"] is None


BY_HAND = """
import os, sys
import numpy as np
from reprotui import Recorder

with Recorder(**({"name": sys.argv[1]} if len(sys.argv) > 1 else {})) as recorder:
    for step in range(1, 4):
        recorder.step(step, params={"w": np.full(3, step + int(os.environ["RANK"]))}, loss=1.0)
"""


def by_hand(cli: Cli, *words: str, **variables: str) -> None:
    cli.write("hand.py", BY_HAND)
    for rank in "01":
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "REPROTUI_RUNS": str(cli.runs)}
        subprocess.run(
            [sys.executable, "hand.py", *words], cwd=cli.directory, env={**cli.environment, **world, **variables}, check=True
        )


@pytest.mark.slow
def test_ranks_that_are_started_by_hand_find_one_run_by_its_name_or_their_job(bare_environment: Any, tmp_path: Path) -> None:
    cli = Cli(tmp_path, bare_environment)
    for name in ("one", "two"):
        by_hand(cli, name)
    found = cli.compare("one", "two", exit_code=0)["verdicts"][0]
    assert (found["kind"], found["ranks"]["numbers"]) == ("identical", [0, 1])
    # Nobody said that what they hold are copies: that it differs is no fault, and that it is equal would prove nothing.
    assert "CANNOT TELL" in cli("compare", "one", exit_code=3).stdout
    for _ in range(2):
        by_hand(cli, TORCHELASTIC_RUN_ID="j/7")
    assert {path.name for path in cli.runs.iterdir()} == {"one", "two", "hand-j-7", "hand-j-7-2"}
    assert all((path / "ranks" / "0001" / "trace.db").is_file() for path in cli.runs.iterdir())


@pytest.mark.slow
def test_processes_that_nothing_names_alike_have_a_run_each(bare_environment: Any, tmp_path: Path) -> None:
    cli = Cli(tmp_path, bare_environment)
    by_hand(cli)
    assert len(list(cli.runs.iterdir())) == 2 and not list(cli.runs.glob("*/ranks"))
