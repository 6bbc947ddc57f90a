"""Damaged traces: verification never calls one whole, and whatever reads them answers in a sentence."""

import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks import run_benchmark, trace_faults
from benchmarks.trace_readers import READERS, compare_verified
from benchmarks.trace_samples import write_sample
from conftest import Cli
from reprotui.compare import compare_traces
from reprotui.errors import CannotTellError, ReprotuiError
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace, verify_trace
from test_compare import changed, history, write

PAGE = 4096


@pytest.fixture
def race(once: Any, tmp_path: Path) -> Path:
    """Return a sealed race of two equal runs that nobody has trained."""
    return Path(shutil.copytree(once("harmed-samples", lambda path: write_sample(path, "small")) / "small", tmp_path / "small"))


def problem_of(run: Path) -> str:
    return verify_trace(run / "trace.db", RunDirectory(run).manifest().seal).problem or ""


def children(path: Path, table: str) -> list[int]:
    """Return the pages that hold the rows of a table, in order."""
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    page = path.read_bytes()[(root - 1) * PAGE : root * PAGE]
    assert page[0] == 5  # rows on pages below
    count, last = struct.unpack(">H", page[3:5])[0], struct.unpack(">I", page[8:12])[0]
    cells = struct.unpack(f">{count}H", page[12 : 12 + 2 * count])
    return [*(struct.unpack(">I", page[cell : cell + 4])[0] for cell in cells), last]


def swap_pages(path: Path, a: int, b: int) -> None:
    content = bytearray(path.read_bytes())
    places = [slice((page - 1) * PAGE, page * PAGE) for page in (a, b)]
    content[places[0]], content[places[1]] = content[places[1]], content[places[0]]
    path.write_bytes(content)


def loosened(path: Path, *statements: str) -> None:
    """Write what SQLite's types forbid, as a damaged page may hold it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(replace(sql, 'STRICT', ''), ', WITHOUT', 'WITHOUT')")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("table", ["leaf_checksums", "steps"])
def test_pages_out_of_their_place_are_noticed(race: Path, table: str) -> None:
    assert compare_verified(race / "a", race / "b")
    path = race / "b" / "trace.db"
    pages = children(path, table)
    swap_pages(path, pages[1], pages[3])
    assert "can be read" in problem_of(race / "b") or "the chain breaks" in problem_of(race / "b")
    assert not compare_verified(race / "a", race / "b")
    swap_pages(path, pages[1], pages[3])
    assert compare_verified(race / "a", race / "b")


def sparse(path: Path) -> None:
    """Write a trace of every second step, and a leaf row in between."""
    write(path, history(40, every=2))
    edit(path, "INSERT INTO leaf_checksums SELECT 7, blob FROM leaf_checksums WHERE step = 8")


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def lose_events(path: Path) -> None:
    """Write zeros over the page of the events."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * PAGE : page * PAGE] = bytes(PAGE)
    path.write_bytes(content)


HARMED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a leaf row of another step": (
        lambda path: edit(path, "UPDATE leaf_checksums SET step = 100007 WHERE step = 7"),
        "the seal counts 301 leaf rows, the trace holds 300",
    ),
    "a leaf row too many": (
        lambda path: edit(path, "INSERT INTO leaf_checksums SELECT 100007, blob FROM leaf_checksums WHERE step = 7"),
        "1 leaf rows stand behind the last record",
    ),
    "a leaf row without its record": (
        lambda path: edit(
            path, "DELETE FROM leaf_checksums WHERE step = 7", "UPDATE leaf_checksums SET step = -7 WHERE step = 8"
        ),
        "damaged|the seal counts",
    ),
    "a digest that is not its table's": (
        lambda path: edit(path, "UPDATE leaf_tables SET digest = zeroblob(16) WHERE version = 1"),
        "leaf table 1 is not the one that its digest stands for.*steps up to 300 can be read",
    ),
    "bytes behind the end": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "the file has .* bytes, its pages have"),
    "a page that holds no record": (lose_events, "damaged .*steps up to 300 can be read"),
}


@pytest.mark.parametrize("name", HARMED)
def test_a_trace_verifies_only_if_every_row_was_read_and_nothing_else_is_there(race: Path, name: str) -> None:
    harm, said = HARMED[name]
    assert problem_of(race / "b") == ""
    harm(race / "b" / "trace.db")
    with pytest.raises(CannotTellError, match=said):
        raise CannotTellError(problem_of(race / "b"))
    assert not compare_verified(race / "a", race / "b")


LOST_FORM = {
    "path": "UPDATE leaves SET path = x'ff00' WHERE version = 1 AND id = 3",
    "shape": "UPDATE leaves SET shape = 7.5 WHERE version = 1 AND id = 3",
    "digest": "UPDATE leaf_tables SET digest = 'text' WHERE version = 1",
    "version": "UPDATE steps SET version = 7 WHERE step = 100",
    "version that is text": "UPDATE steps SET version = 'x' WHERE step = 100",
    "roots": "UPDATE steps SET roots = 'x' WHERE step = 100",
    "loss": "UPDATE steps SET loss = x'00' WHERE step = 100",
    "loss bits": "UPDATE steps SET loss_bits = 'x' WHERE step = 100",
    "metrics": "UPDATE steps SET metrics = x'ff' WHERE step = 100",
    "time": "UPDATE steps SET time_ns = 'noon' WHERE step = 100",
    "step": "UPDATE steps SET step = 9223372036854775807 WHERE step = 300",
    "negative step": "UPDATE steps SET step = -5 WHERE step = 0",
    "leaf row": "UPDATE leaf_checksums SET blob = 5 WHERE step = 100",
    "short leaf row": "UPDATE leaf_checksums SET blob = substr(blob, 9) WHERE step = 100",
    "statistics": "UPDATE leaf_stats SET blob = 'x' WHERE step = 100",
    "short statistics": "UPDATE leaf_stats SET blob = x'00000000' WHERE step = 100",
    "event": "UPDATE events SET text = x'ff' WHERE id = 1",
    "event that is no text": "UPDATE events SET kind = CAST(x'ff' AS TEXT) WHERE id = 1",
    "checksum": "UPDATE meta SET value = x'ff' WHERE key = 'checksum'",
    "schema": "DROP VIEW roots",
}


@pytest.mark.parametrize("reader", READERS)
def test_values_that_lost_their_form_are_one_sentence(race: Path, reader: str) -> None:
    whole = (race / "b" / "trace.db").read_bytes()
    READERS[reader](race / "a", race / "b")
    for name, statement in LOST_FORM.items():
        (race / "b" / "trace.db").write_bytes(whole)
        loosened(race / "b" / "trace.db", statement)
        try:
            READERS[reader](race / "a", race / "b")
        except ReprotuiError as error:
            assert "\n" not in str(error)
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error


def test_every_lost_form_is_damage_to_whoever_verifies(race: Path) -> None:
    whole = (race / "b" / "trace.db").read_bytes()
    for_the_eye = {"statistics", "short statistics", "event", "event that is no text", "schema"}
    for name, statement in LOST_FORM.items():
        (race / "b" / "trace.db").write_bytes(whole)
        loosened(race / "b" / "trace.db", statement)
        assert name in for_the_eye or not compare_verified(race / "a", race / "b"), name


def test_no_row_that_was_passed_over_makes_two_runs_identical(tmp_path: Path) -> None:
    """A join finds by step: a record on a page out of its place is compared with nothing."""
    steps = history(400)
    paths = [write(tmp_path / "a.db", steps), write(tmp_path / "b.db", changed(steps, 50, "params:params/w", until=51))]
    with Trace(paths[0]) as a, Trace(paths[1]) as b:
        first = compare_traces(a, b).first
        assert first is not None and first.step == 50
    pages = children(paths[1], "steps")
    with closing(sqlite3.connect(paths[1])) as connection:
        total = connection.execute("SELECT count(*) FROM steps").fetchone()[0]
    number = 50 * len(pages) // total  # the page of step 50, or one beside it
    for page in (number - 1, number, number + 1):
        whole = paths[1].read_bytes()
        swap_pages(paths[1], pages[page], pages[-2])
        with Trace(paths[0]) as a, Trace(paths[1]) as b:
            try:
                found = compare_traces(a, b).first
                assert found is not None and found.step == 50
            except CannotTellError as error:
                assert "can be read" in str(error)
        paths[1].write_bytes(whole)


@pytest.mark.slow
def test_the_command_line_says_what_can_still_be_read(sample: Any, tmp_path: Path, bare_environment: dict[str, str]) -> None:
    race, cli = sample("identical"), Cli(tmp_path, bare_environment)
    assert "MATCH" in cli("compare", race, "--verify").stdout
    path = race / "b" / "trace.db"
    pages = children(path, "leaf_checksums")
    swap_pages(path, pages[0], pages[1])
    said = cli("compare", race, "--verify", exit_code=3).stdout
    assert "MATCH" not in said and "the trace of b does not verify" in said and "can be read" in said
    whole, page = path.read_bytes(), children(path, "steps")[-1]
    path.write_bytes(whole[: (page - 1) * PAGE] + b"\xff" * PAGE + whole[page * PAGE :])
    for command in (("compare", race), ("compare", race, "--verify"), ("open", race, "--once"), ("report", race)):
        assert "can be read" in cli(*command, exit_code=3).stdout, command
    assert "can be read" in cli("replay", race / "b", "--step", 80, exit_code=3).stderr
    assert "can be read" in cli("runs", "--runs-dir", tmp_path, exit_code=0).stdout


def test_the_campaign_finds_every_harmed_trace_and_no_reader_fails() -> None:
    result = run_benchmark("trace_faults", count=3, seed=5)
    assert [row["fault"] for row in result["rows"]] == ["none", *trace_faults.KINDS]
    assert [row["failed"] for row in result["rows"]] == [0] * 7, result["notes"]
    assert all(row["found"] == row["harmed"] for row in result["rows"]), result["notes"]
    assert result["rows"][0]["refused"] == 0 and len(result["notes"]) == 1, result["notes"]
    assert sum(row["harmed"] for row in result["rows"]) > 6


@pytest.mark.slow
def test_the_campaign_notices_a_verifier_and_a_reader_that_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprotui.trace.verify._first_wrong_leaf_row", lambda *_: None)
    monkeypatch.setattr("reprotui.trace.Trace.check_structure", lambda *_, **__: None)
    monkeypatch.setattr("reprotui.trace.file.DAMAGE", ())
    result = run_benchmark("trace_faults", count=3, seed=5, kinds=["append", "zero"])
    _, appended, zeroed = result["rows"]
    assert appended["found"] < appended["harmed"]
    assert zeroed["failed"] > 0, result
    assert any("compare --verify says MATCH" in note for note in result["notes"])
    assert any("Error: " in note for note in result["notes"])
