"""The trace and the run directory: what is written is read, through kills, damage and full disks."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import parsed
from reprotui import disk, run_directory
from reprotui.asked import Asked
from reprotui.checksum import LeafSpec, numpy_form
from reprotui.errors import BadInputError, CannotTellError, ReprotuiError, WorkerFailedError
from reprotui.manifest import Process
from reprotui.record.control import CommandFeed
from reprotui.run_directory import RunDirectory, create_directory, process_alive, read_json, this_process, write_json
from reprotui.trace import PHASES, Follower, LeafTable, Record, Trace, TraceWriter, follower, schema, verify_trace, watch, writer
from reprotui.trace.verify import roots_of

INIT = LeafTable(("init", "init"), (LeafSpec("params/w", "float32", (2, 3)), LeafSpec("params/b", "bfloat16", ())))
STEP = LeafTable(
    ("batch", "rng", "forward", "grads", "optimizer", "params"),
    (
        LeafSpec("batch/x", "uint8", (4, 1)), LeafSpec("rng", "key<fry>", ()),
        LeafSpec("loss", "float32", ()),
        LeafSpec("grads/größe", "float32", (2, 3)), LeafSpec("opt_state/0/mu", "float32", (2, 3)),
        LeafSpec("params/w", "float32", (2, 3)),
    ),
)  # fmt: skip

DOUBLE = replace(STEP, specs=(*STEP.specs[:2], LeafSpec("loss", "float64", ()), *STEP.specs[3:]))


def record(step, **changes):
    """Return a record whose checksums are random but depend on the step alone."""
    table = STEP if step else INIT
    blob = np.random.default_rng(step).integers(0, 1 << 64, len(table.specs), np.uint64).astype("<u8").tobytes()
    loss = np.float32(1 / (step + 1))
    fields = {
        "step": step, "time_ns": 1_000 + step, "table": table, "roots": roots_of(blob, table), "loss": float(loss),
        "loss_bits": int(loss.view(np.uint32)), "metrics": '{"accuracy": 0.5}', "leaf_checksums": blob,
        "leaf_stats": np.arange(2 * len(table.specs), dtype="<f4").tobytes(),
    }  # fmt: skip
    return Record(**{**fields, **changes})


def put(trace_writer, *records):
    for each in records:
        trace_writer.put(lambda each=each: each)


def write(path, steps=20, **changes):
    """Write and seal a trace; return its seal."""
    trace_writer = TraceWriter(path)
    put(trace_writer, *(record(step, **changes) for step in range(steps)))
    return trace_writer.seal()


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "trace.db"
    return path, write(path)


def edit(path, *statements):
    """Change a trace behind its back."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def read_all(path):
    with Trace(path) as trace:
        return list(trace.rows())


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_trace import TraceWriter, put, record
"""


def start_script(script, path, **keywords):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + script, path, Path(__file__).parent], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **keywords},
    )  # fmt: skip


# Writing and reading.


def test_what_is_written_is_read(sealed):
    path, seal = sealed
    with Trace(path) as trace:
        rows = list(trace.rows())
        assert [row.step for row in rows] == list(range(20))
        for row in rows:
            expected = record(row.step)
            for name in ("time_ns", "loss", "loss_bits", "metrics", "roots"):
                assert getattr(row, name) == getattr(expected, name)
            assert trace.table(row.version) == expected.table
            assert trace.leaf_checksums(row.step).tobytes() == expected.leaf_checksums
            assert trace.leaf_stats(row.step).tobytes() == expected.leaf_stats
            assert trace.leaf_stats(row.step).shape == (len(expected.table.specs), 2)
            assert trace.row(row.step) == row
        assert trace.last_step() == 19
        assert trace.previous_step(7) == 6
        assert trace.previous_step(0) is None
        assert trace.row(99) is None
        assert [row.step for row in trace.rows(after=4, limit=3)] == [5, 6, 7]
        assert trace.tables() == {0: INIT.digest, 1: STEP.digest}
        steps, losses, roots = trace.columns()
        assert steps.tolist() == list(range(20))
        assert losses.tolist() == [row.loss for row in rows]
        assert roots.astype("<u8").tobytes() == b"".join(row.roots for row in rows)
        for index, phase in enumerate(PHASES):
            assert rows[3].root(phase) == int(roots[3, index])
        checksums = trace.leaf_checksums(3)
        assert rows[3].root("optimizer") == numpy_form.root(checksums[4:5])
        assert rows[3].root("params") == numpy_form.root(checksums[5:])
        assert rows[3].root("init") == 0
    assert seal["records"] == 20
    assert seal["last_step"] == 19
    assert seal["chain"] == rows[-1].chain.hex()
    assert seal["leaf_tables"] == [INIT.digest.hex(), STEP.digest.hex()]


def test_what_networks_were_asked_is_read_and_a_row_that_lost_its_form_is_damage(tmp_path):
    path = tmp_path / "trace.db"
    trace_writer = TraceWriter(path)
    put(trace_writer, record(1))
    asked = Asked(2, ("policy", "target"), bytes([0, 1]), b"12345678abcdefgh")
    trace_writer.asked(lambda: asked)
    trace_writer.seal()
    with Trace(path) as trace:
        assert trace.asked(0, 1) == {} and trace.asked(0, 9) == {2: asked}
        assert asked.calls == [("policy", b"12345678"), ("target", b"abcdefgh")]
    edit(path, "UPDATE asked SET which = x'0009'")
    with Trace(path) as trace, pytest.raises(CannotTellError, match="lost its form"):
        trace.asked(0, 9)
    edit(path, "DROP TABLE asked")  # of a former version
    with Trace(path) as trace:
        assert trace.asked(0, 9) == {}


def test_absent_values_stay_absent(tmp_path):
    write(tmp_path / "t.db", 2, loss=None, loss_bits=None, metrics=None, leaf_checksums=None, leaf_stats=None)
    with Trace(tmp_path / "t.db") as trace:
        row = trace.row(1)
        assert (row.loss, row.loss_bits, row.metrics) == (None, None, None)
        assert trace.leaf_checksums(1) is None
        assert trace.leaf_stats(1) is None
        assert np.isnan(trace.columns()[1]).all()
    assert verify_trace(tmp_path / "t.db").problem is None


@pytest.mark.parametrize("bits", [0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 0xBFF0000000000000, 0x7FC00001])
def test_loss_bits_round_trip_over_all_64_bits(tmp_path, bits):
    loss = struct.unpack("<d", struct.pack("<Q", bits))[0]
    trace_writer = TraceWriter(tmp_path / "t.db")
    put(trace_writer, record(0), record(1, table=DOUBLE, loss=loss, loss_bits=bits))
    trace_writer.seal()
    row = read_all(tmp_path / "t.db")[1]
    assert row.loss_bits == bits
    assert row.loss == (None if np.isnan(loss) else loss)
    assert verify_trace(tmp_path / "t.db").problem is None


@pytest.mark.parametrize(("dtype", "bits", "loss"), [
    ("float32", 0x3FC00000, 1.5), ("bfloat16", 0x3FC0, 1.5), ("float16", 0x3E00, 1.5), ("float32", 0x7FC00000, None),
])  # fmt: skip
def test_the_loss_that_is_shown_is_what_its_bits_say(tmp_path, dtype, bits, loss):
    table = replace(STEP, specs=(*STEP.specs[:2], LeafSpec("loss", dtype, ()), *STEP.specs[3:]))
    trace_writer = TraceWriter(tmp_path / "t.db")
    put(trace_writer, record(0), record(1, table=table, loss=loss, loss_bits=bits))
    trace_writer.seal()
    edit(tmp_path / "t.db", "UPDATE steps SET loss = 9 WHERE step = 1")
    with Trace(tmp_path / "t.db") as trace:
        assert [trace.row(1).loss, trace.recorded(1).loss, trace.rows_between(1, 1)[0].loss] == [loss] * 3
        assert [row.loss for row in trace.rows()][1] == loss
        assert [row.loss for row in trace.stored_rows()][1] == 9.0


def test_equal_runs_have_equal_chains_and_the_chain_covers_what_a_record_proves(tmp_path):
    seals = [write(tmp_path / "a.db"), write(tmp_path / "b.db", time_ns=5, metrics=None, leaf_stats=None)]
    assert seals[0]["chain"] == seals[1]["chain"]
    assert write(tmp_path / "c.db", loss_bits=1)["chain"] != seals[0]["chain"]
    assert write(tmp_path / "d.db", roots=bytes(56))["chain"] != seals[0]["chain"]
    assert write(tmp_path / "e.db", loss_bits=None)["chain"] != write(tmp_path / "f.db", loss_bits=0)["chain"]


def test_a_trace_without_records_is_read(tmp_path):
    seal = write(tmp_path / "t.db", 0)
    assert (seal["last_step"], seal["records"]) == (None, 0)
    with Trace(tmp_path / "t.db") as trace:
        assert trace.last_step() is None
        assert trace.columns()[2].shape == (0, len(PHASES))
    assert verify_trace(tmp_path / "t.db", seal).problem is None


def test_events_are_kept_in_order(tmp_path):
    trace_writer = TraceWriter(tmp_path / "t.db")
    trace_writer.event("started", "größer 🙂")
    put(trace_writer, record(0))
    trace_writer.event("finished", "")
    trace_writer.seal()
    with Trace(tmp_path / "t.db") as trace:
        events = trace.events()
        assert [(event.kind, event.text) for event in events] == [("started", "größer 🙂"), ("finished", "")]
        assert events[0].time_ns <= events[1].time_ns
        assert trace.events(after=events[0].id) == events[1:]


def test_leaf_tables_refuse_leaves_out_of_phase_order():
    with pytest.raises(ValueError, match="phase order"):
        LeafTable(("params", "batch"), INIT.specs)


def test_roots_of_leaf_rows_of_the_wrong_length_are_zero():
    assert roots_of(b"\1" * 8, STEP) == bytes(56)


def test_attaching_another_trace_joins_both(tmp_path):
    write(tmp_path / "a.db", 6)
    write(tmp_path / "b b.db", 4)
    with Trace(tmp_path / "a.db") as trace:
        query = "SELECT count(*) FROM main.steps a JOIN other.steps b ON a.step = b.step AND a.chain = b.chain"
        assert trace.attach(tmp_path / "b b.db").execute(query).fetchone() == (4,)
        trace.detach()


def test_the_reader_cannot_write(sealed):
    with Trace(sealed[0]) as trace, pytest.raises(sqlite3.OperationalError, match="readonly"):
        trace.attach(sealed[0]).execute("DELETE FROM steps")


def test_the_view_of_roots_is_readable_in_hexadecimal(sealed):
    with contextlib.closing(sqlite3.connect(sealed[0])) as connection:
        row = connection.execute("SELECT init, optimizer, params FROM roots WHERE step = 3").fetchone()
    assert row == ("0" * 16, record(3).roots[40:48].hex().upper(), record(3).roots[48:].hex().upper())


# While it is written.


def test_rows_are_visible_to_others_while_the_writer_lives(tmp_path):
    path = tmp_path / "trace.db"
    trace_writer = TraceWriter(path)
    put(trace_writer, record(0), record(1))
    trace_writer.flush()
    assert [row.step for row in read_all(path)] == [0, 1]
    put(trace_writer, *(record(step) for step in range(2, 5)))
    for _ in watch(tmp_path):  # no flush: the commit comes by itself
        if len(read_all(path)) == 5:
            break
    trace_writer.seal()


def test_a_slow_record_is_visible_while_the_next_one_waits_for_the_device(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.01)
    release, slow = threading.Event(), threading.Event()
    trace_writer = TraceWriter(tmp_path / "trace.db")
    trace_writer.put(lambda: (slow.wait(0.05), record(0))[1])
    trace_writer.put(lambda: (release.wait(), record(1))[1])
    for _ in watch(tmp_path):
        if read_all(tmp_path / "trace.db"):
            break
    release.set()
    assert trace_writer.seal()["records"] == 2


def test_a_trace_is_whole_from_its_first_byte(tmp_path):
    """A reader that looks at any moment finds no file, an empty one, or a trace; never half a schema."""
    done, found = threading.Event(), []

    def look():
        while not done.is_set():
            for path in tmp_path.glob("*.db"):
                try:
                    Follower(path).poll()
                except ReprotuiError as error:
                    found.append(str(error))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for number in range(10):
            write(tmp_path / f"{number}.db", 1)
    finally:
        done.set()
        thread.join()
    assert found == []


def test_seal_leaves_one_file(tmp_path):
    path = tmp_path / "trace.db"
    trace_writer = TraceWriter(path)
    put(trace_writer, record(0))
    trace_writer.flush()
    assert (tmp_path / "trace.db-wal").exists()
    assert trace_writer.seal()["journal"] == "delete"
    assert read_all(path)
    assert list(tmp_path.iterdir()) == [path]


def test_seal_keeps_the_content_while_a_reader_holds_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("reprotui.trace.schema.FOLD_SECONDS", 0.05)
    path = tmp_path / "trace.db"
    trace_writer = TraceWriter(path)
    put(trace_writer, record(0))
    trace_writer.flush()
    with Trace(path) as trace:
        rows = trace.rows()
        assert next(rows).step == 0
        put(trace_writer, record(1))
        seal = trace_writer.seal()
        assert seal["journal"] == "wal"
        rows.close()
    assert verify_trace(path, seal).problem is None
    assert len(read_all(path)) == 2


def test_seal_waits_for_a_reader_that_looks_just_then(tmp_path):
    trace_writer = TraceWriter(tmp_path / "trace.db")
    put(trace_writer, record(0))
    trace_writer.flush()
    trace = Trace(tmp_path / "trace.db")
    assert trace.last_step() == 0
    with ThreadPoolExecutor() as pool:
        seal = pool.submit(trace_writer.seal)
        assert not wait([seal], timeout=0.2).done
        trace.close()
        assert seal.result()["journal"] == "delete"
    assert [path.name for path in tmp_path.iterdir()] == ["trace.db"]


def test_close_without_seal_keeps_what_was_put(tmp_path):
    trace_writer = TraceWriter(tmp_path / "t.db")
    put(trace_writer, *(record(step) for step in range(5)))
    trace_writer.close()
    assert verify_trace(tmp_path / "t.db").records == 5


def test_the_truncate_journal_needs_no_wal(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROTUI_JOURNAL", "truncate")
    path = tmp_path / "trace.db"
    trace_writer = TraceWriter(path)
    put(trace_writer, *(record(step) for step in range(5)))
    trace_writer.flush()
    with Trace(path) as trace:
        assert trace.attach(path).execute("PRAGMA main.journal_mode").fetchone() != ("wal",)
    assert not list(tmp_path.glob("*-wal"))
    seal = trace_writer.seal()
    assert verify_trace(path, seal).records == 5
    assert list(tmp_path.iterdir()) == [path]


MOUNTED = """\
22 1 0:21 / / rw,relatime shared:1 - {root} /dev/vda1 rw
23 22 0:22 / {place} rw - {kind} server:/export rw
24 22 0:23 / {place}2 rw - {other} /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("root", "kind", "other", "mode"),
    [
        ("ext4", "nfs4", "ext4", "TRUNCATE"), ("ext4", "fuse.sshfs", "ext4", "TRUNCATE"), ("ext4", "lustre", "ext4", "TRUNCATE"),
        ("ext4", "xfs", "nfs4", "WAL"), ("nfs4", "ext4", "nfs4", "WAL"), ("overlay", "tmpfs", "nfs", "WAL"),
    ],
)  # fmt: skip
def test_where_several_hosts_may_write_the_journal_is_no_shared_memory(tmp_path, monkeypatch, root, kind, other, mode):
    """The innermost mount counts, and `my runs3` does not lie in `my runs`."""
    place = tmp_path / "my runs"
    (place / "x").mkdir(parents=True)
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTED.format(root=root, place=str(place).replace(" ", "\\040"), kind=kind, other=other))
    monkeypatch.setattr(disk, "MOUNTS", mounts)
    monkeypatch.delenv("REPROTUI_JOURNAL", raising=False)
    assert (schema.file_system(place / "x"), schema.journal_mode(place / "x")) == (kind, mode)
    assert (schema.file_system(tmp_path / "my runs2"), schema.file_system(tmp_path / "my runs3")) == (other, root)
    trace_writer = TraceWriter(place / "x" / "trace.db")
    put(trace_writer, record(0))
    trace_writer.flush()
    assert (place / "x" / "trace.db-wal").exists() == (mode == "WAL")
    trace_writer.close()
    monkeypatch.setenv("REPROTUI_JOURNAL", "truncate" if mode == "WAL" else "wal")
    assert schema.journal_mode(place / "x") != mode


def test_a_file_system_that_nobody_names_gets_the_journal_of_a_local_one(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "MOUNTS", tmp_path / "missing")
    monkeypatch.delenv("REPROTUI_JOURNAL", raising=False)
    assert (schema.file_system(tmp_path), schema.journal_mode(tmp_path)) == ("unknown", "WAL")


@pytest.mark.parametrize("journal", ["wal", "truncate"])
def test_a_killed_writer_leaves_every_step_that_was_seen(tmp_path, journal):
    path = tmp_path / "trace.db"
    script = "writer = TraceWriter(Path(sys.argv[1]))\nfor step in range(10**6): put(writer, record(step))"
    with start_script(script, path, REPROTUI_JOURNAL=journal) as process:
        seen, follow = [], Follower(path)
        for _ in watch(tmp_path):
            seen += follow.poll().rows
            assert process.poll() is None, process.stderr.read()
            if len(seen) >= 50:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert read_all(path)[: len(seen)] == seen
    verified = verify_trace(path)
    assert verified.problem is None
    assert verified.records >= len(seen)


def test_a_copy_without_its_wal_is_a_shorter_trace(tmp_path):
    path, copy = tmp_path / "trace.db", tmp_path / "copy" / "trace.db"
    copy.parent.mkdir()
    trace_writer = TraceWriter(path)
    put(trace_writer, *(record(step) for step in range(5)))
    trace_writer.flush()
    shutil.copy(path, copy)
    put(trace_writer, record(5))
    seal = trace_writer.seal()
    verified = verify_trace(copy)
    assert verified.problem is None
    assert verified.records < 5
    assert "the seal says step 5" in verify_trace(copy, seal).problem
    with Trace(copy) as trace:
        assert trace.events() == []


def test_a_follower_gets_each_row_and_event_once(tmp_path, monkeypatch):
    monkeypatch.setattr(follower, "ROWS_A_LOOK", 37)
    path = tmp_path / "trace.db"
    script = """
writer = TraceWriter(Path(sys.argv[1]))
for step in range(1500):
    put(writer, record(step))
    if step % 100 == 0:
        writer.event("mark", str(step))
writer.seal()
"""
    follow, steps, events = Follower(path), [], []
    assert not any(follow.poll().__dict__.values())
    with start_script(script, path) as process:
        ended = False
        for _ in watch(tmp_path):
            ended = ended or process.poll() is not None
            news = follow.poll()
            while news.rows or news.events:
                steps += [row.step for row in news.rows]
                events += [event.text for event in news.events]
                news = follow.poll()
            if ended:
                break
        assert process.wait() == 0, process.stderr.read()
    assert steps == list(range(1500))
    assert events == [str(step) for step in range(0, 1500, 100)]
    assert [row.step for row in Follower(path, after=1497).poll().rows] == [1498, 1499]


def test_a_follower_waits_for_a_file_that_is_empty(tmp_path):
    (tmp_path / "trace.db").touch()
    assert not any(Follower(tmp_path / "trace.db").poll().__dict__.values())


def test_watching_ends_when_asked(tmp_path):
    stop = threading.Event()
    stop.set()
    assert list(watch(tmp_path, stop)) == []


# Files that are not what they should be.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: path.write_text("step,loss\n0,1\n" * 100), "not a trace, or its beginning is damaged"),
        (lambda path: path.write_bytes(b""), "not a trace of reprotui"),
        (lambda path: edit(path, "CREATE TABLE steps (step INTEGER)"), "an SQLite file, but not a trace of reprotui"),
    ],
    ids=["missing", "directory", "text", "empty", "foreign"],
)
def test_files_that_are_no_traces_are_bad_input(tmp_path, make, message):
    path = tmp_path / "x.db"
    make(path)
    with pytest.raises(BadInputError, match=message):
        Trace(path)


def test_a_newer_schema_asks_for_an_upgrade(sealed):
    edit(sealed[0], "PRAGMA user_version=99")
    with pytest.raises(CannotTellError, match="has trace schema 99, this reprotui reads 2: upgrade reprotui"):
        Trace(sealed[0])


def test_another_checksum_definition_is_named(sealed):
    edit(sealed[0], "UPDATE meta SET value = 'rfp9-64' WHERE key = 'checksum'")
    with pytest.raises(CannotTellError, match="holds checksums rfp9-64, this reprotui compares rfp1-64"):
        Trace(sealed[0])


def test_a_missing_table_is_damage(sealed):
    edit(sealed[0], "DROP TABLE meta")
    with pytest.raises(CannotTellError, match=r"no such table: meta.*steps up to 19 can be read"):
        Trace(sealed[0])


def test_a_long_damaged_trace_is_not_looked_through(sealed, monkeypatch):
    monkeypatch.setattr("reprotui.trace.file.MOST_LOOKED", 8)
    edit(sealed[0], "DROP TABLE meta")
    with pytest.raises(CannotTellError, match=r"no such table: meta.*at least steps up to 7 can be read"):
        Trace(sealed[0])


@pytest.mark.parametrize("keep", [50, 2000, 4096, -4096, -1, 0.5, 0.8])
def test_a_truncated_trace_says_what_can_be_read(tmp_path, keep):
    path = tmp_path / "trace.db"
    seal = write(path, 400)
    size = path.stat().st_size
    os.truncate(path, int(keep * size) if isinstance(keep, float) else keep if keep > 0 else size + keep)
    with pytest.raises(
        ReprotuiError,
        match=r"its beginning is damaged|steps up to \d+ can be read|no record can be read|not a trace|the chain breaks",
    ):
        raise_problem(path, seal)


def raise_problem(path, seal=None):
    """Verify; a problem is raised, whichever way it was told."""
    problem = verify_trace(path, seal).problem
    if problem:
        raise CannotTellError(problem)


def test_an_overwritten_page_leaves_the_steps_before_it_readable(tmp_path):
    path = tmp_path / "trace.db"
    write(path, 400)
    whole, original = read_all(path), path.read_bytes()
    last = []
    for page in range(1, len(original) // 4096):
        path.write_bytes(original[: page * 4096] + b"\xff" * 4096 + original[(page + 1) * 4096 :])
        try:
            with Trace(path) as trace:
                readable = []
                try:
                    readable += trace.rows()
                except CannotTellError as error:
                    assert "steps up to" in str(error) or "no record" in str(error)
                    readable = [] if trace.readable_through() is None else list(trace.rows(limit=trace.readable_through() + 1))
                    last.append(len(readable))
                assert readable == whole[: len(readable)]
        except CannotTellError as error:
            assert "can be read" in str(error)
    assert any(0 < count < 400 for count in last)


def test_flipped_bits_anywhere_are_noticed_or_change_nothing_that_is_proven(tmp_path):
    path = tmp_path / "trace.db"
    seal = write(path)
    original, proven = path.read_bytes(), [(row.step, row.loss_bits, row.roots, row.chain) for row in read_all(path)]
    checksums = {step: record(step).leaf_checksums for step in range(20)}
    generator, noticed = random.Random(0), 0
    for _ in range(200):
        damaged = bytearray(original)
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            raise_problem(path, seal)
        except ReprotuiError:
            noticed += 1
            continue
        with Trace(path) as trace:
            assert [(row.step, row.loss_bits, row.roots, row.chain) for row in trace.rows()] == proven
            for step in range(20):
                found = trace.leaf_checksums(step)
                assert found is None or found.tobytes() == checksums[step]
    assert noticed > 10


# Verification.

EDITS = {
    "edited loss": ("UPDATE steps SET loss_bits = loss_bits + 1 WHERE step = 7", "the chain breaks at step 7"),
    "shown loss": ("UPDATE steps SET loss = 9 WHERE step = 7", "the loss of step 7 is 9.0, and its bits say otherwise"),
    "lost loss": ("UPDATE steps SET loss_bits = NULL WHERE step = 7", "the chain breaks at step 7"),
    "edited roots": ("UPDATE steps SET roots = zeroblob(56) WHERE step = 7", "the chain breaks at step 7"),
    "shortened roots": ("UPDATE steps SET roots = x'00' WHERE step = 7", "step 7 lost its form.*steps up to"),
    "edited chain": ("UPDATE steps SET chain = zeroblob(16) WHERE step = 7", "the chain breaks at step 7"),
    "other table": ("UPDATE steps SET version = 0 WHERE step = 7", "the chain breaks at step 7"),
    "unknown table": ("UPDATE steps SET version = 5 WHERE step = 7", "the chain breaks at step 7"),
    "deleted row": ("DELETE FROM steps WHERE step = 7", "the chain breaks at step 8"),
    "deleted first row": ("DELETE FROM steps WHERE step = 0", "the chain breaks at step 1"),
    "inserted row": ("INSERT INTO steps SELECT 100, time_ns, loss, loss_bits, metrics, version, roots, chain FROM steps "
                     "WHERE step = 7",
                     "the chain breaks at step 100"),
    "edited leaf": ("UPDATE leaf_checksums SET blob = zeroblob(48) WHERE step = 7",
                    "the leaf checksums of step 7 do not give its roots"),
    "shortened leaves": ("UPDATE leaf_checksums SET blob = zeroblob(40) WHERE step = 7", "the leaf checksums of step 7"),
    "torn leaves": ("UPDATE leaf_checksums SET blob = x'00' WHERE step = 7", "damaged.*steps up to 19 can be read"),
    "renamed leaf": ("UPDATE leaves SET path = 'x' WHERE version = 1 AND id = 2", "the chain breaks at step 1"),
    "other dtype": ("UPDATE leaves SET dtype = 'int32' WHERE version = 1 AND id = 2", "the chain breaks at step 1"),
    "other shape": ("UPDATE leaves SET shape = '6' WHERE version = 1 AND id = 5", "the chain breaks at step 1"),
    "no shape": ("UPDATE leaves SET shape = 'a,b' WHERE version = 1 AND id = 5", "damaged.*steps up to 19 can be read"),
    "unknown phase": ("UPDATE leaves SET phase = 'x' WHERE version = 1 AND id = 5", "damaged.*steps up to 19 can be read"),
    "deleted leaf": ("DELETE FROM leaves WHERE version = 1 AND id = 5", "the chain breaks at step 1"),
    "deleted leaf row": ("DELETE FROM leaf_checksums WHERE step = 7", "the seal counts 20 leaf rows, the trace holds 19"),
    "lost tail": ("DELETE FROM steps WHERE step > 15", "the seal says step 19"),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_verification_names_the_first_step_that_was_touched(sealed, name):
    path, seal = sealed
    untouched = verify_trace(path, seal)
    assert (untouched.problem, untouched.records, untouched.last_step, untouched.chain) == (None, 20, 19, seal["chain"])
    statement, message = EDITS[name]
    edit(path, statement)
    with pytest.raises(CannotTellError, match=message):
        raise_problem(path, seal)


def test_verification_notices_reordered_rows(sealed):
    path, seal = sealed
    edit(
        path,
        "UPDATE steps SET step = -1 WHERE step = 7",
        "UPDATE steps SET step = 7 WHERE step = 8",
        "UPDATE steps SET step = 8 WHERE step = -1",
    )
    assert "the chain breaks at step 7" in verify_trace(path, seal).problem


@pytest.mark.parametrize("change", [{"last_step": 18}, {"chain": "00" * 16}, {"last_step": None}])
def test_verification_holds_the_end_against_the_seal(sealed, change):
    path, seal = sealed
    assert verify_trace(path, seal).problem is None
    assert "the trace ends otherwise" in verify_trace(path, {**seal, **change}).problem


def test_a_run_goes_on_from_records_that_fit_and_has_their_chain(sealed):
    path, seal = sealed
    going_on = TraceWriter(path.with_name("on.db"), history=(path, 12))
    assert (going_on.history.last_step, going_on.history.records, going_on.history.leaf_rows) == (12, 13, 13)
    put(going_on, *(record(step) for step in range(13, 20)))
    on = going_on.seal()
    assert (on["chain"], on["leaf_rows"], on["leaf_tables"]) == (seal["chain"], seal["leaf_rows"], seal["leaf_tables"])
    assert verify_trace(path.with_name("on.db"), on).problem is None
    edit(path, "DELETE FROM steps WHERE step = 14")  # nothing of it is taken
    TraceWriter(path.with_name("again.db"), history=(path, 12)).close()


@pytest.mark.parametrize(
    "name",
    ["edited loss", "edited roots", "edited chain", "other table", "deleted row", "edited leaf", "torn leaves", "renamed leaf"],
)
def test_no_run_goes_on_from_a_record_that_was_touched(sealed, name):
    path, _ = sealed
    statement, message = EDITS[name]
    edit(path, statement)
    with pytest.raises(CannotTellError, match=f"no run can go on from .*{message}"):
        TraceWriter(path.with_name("on.db"), history=(path, 12))


def test_a_lost_tail_is_noticed_with_a_seal_only(sealed):
    path, seal = sealed
    edit(path, "DELETE FROM steps WHERE step > 15")
    assert verify_trace(path).problem is None
    assert verify_trace(path, seal).problem is not None


def test_clocks_that_jump_back_do_not_count(tmp_path):
    trace_writer = TraceWriter(tmp_path / "t.db")
    put(trace_writer, *(record(step, time_ns=10**18 - step * 10**12) for step in range(5)))
    assert verify_trace(tmp_path / "t.db", trace_writer.seal()).problem is None


# Failures while writing.


def test_a_duplicate_step_fails_and_earlier_rows_remain(tmp_path):
    trace_writer = TraceWriter(tmp_path / "t.db")
    put(trace_writer, record(0), record(1))
    trace_writer.flush()
    put(trace_writer, record(1))
    with pytest.raises(WorkerFailedError, match=r"t\.db cannot be written: UNIQUE constraint failed"):
        trace_writer.flush()
    for call in (
        lambda: put(trace_writer, record(2)),
        lambda: trace_writer.event("a", "b"),
        trace_writer.flush,
        trace_writer.seal,
    ):
        with pytest.raises(WorkerFailedError):
            call()
    trace_writer.close()
    verified = verify_trace(tmp_path / "t.db")
    assert (verified.problem, verified.last_step) == (None, 1)


def test_a_record_that_fails_on_the_device_keeps_the_rows_put_before_it(tmp_path):
    def fail():
        raise RuntimeError("device lost")

    trace_writer = TraceWriter(tmp_path / "t.db")
    put(trace_writer, record(0), record(1))
    trace_writer.put(fail)
    with pytest.raises(WorkerFailedError, match="device lost"):
        trace_writer.flush()
    trace_writer.close()
    verified = verify_trace(tmp_path / "t.db")
    assert (verified.problem, verified.last_step) == (None, 1)


def test_a_failed_writer_blocks_nobody(tmp_path):
    trace_writer = TraceWriter(tmp_path / "t.db")
    put(trace_writer, record(0), record(0))
    with pytest.raises(WorkerFailedError):
        while True:
            put(trace_writer, record(1))
    trace_writer.close()


@pytest.mark.parametrize("journal", ["wal", "truncate"])
def test_a_full_disk_fails_the_worker_and_keeps_the_committed_rows(tmp_path, journal):
    script = """
import resource, signal
from reprotui.errors import WorkerFailedError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
writer = TraceWriter(Path(sys.argv[1]))
for step in range(100_000):
    try:
        put(writer, record(step))
        if step % 10 == 9:
            writer.flush()
            print(step, flush=True)
    except WorkerFailedError as error:
        print(error)
        writer.close()
        sys.exit(error.exit_code)
"""
    with start_script(script, tmp_path / "trace.db", REPROTUI_JOURNAL=journal) as process:
        out, errors = process.communicate()
    assert process.returncode == WorkerFailedError.exit_code, errors
    *acknowledged, message = out.splitlines()
    assert "trace.db cannot be written" in message
    verified = verify_trace(tmp_path / "trace.db")
    assert verified.problem is None
    assert verified.last_step >= int(acknowledged[-1])


@pytest.mark.parametrize("limit", [1, 10_000])
def test_a_disk_that_is_full_from_the_start_fails_the_worker(tmp_path, limit):
    script = f"""
import resource, signal
from reprotui.errors import WorkerFailedError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    writer = TraceWriter(Path(sys.argv[1]))
    put(writer, record(0))
    writer.flush()
except WorkerFailedError as error:
    print(error)
"""
    with start_script(script, tmp_path / "trace.db") as process:
        out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "trace.db cannot be" in out


@pytest.mark.parametrize("name", ["missing/t.db", "trace.db"])
def test_a_trace_is_not_created_without_directory_or_over_another(sealed, name):
    path, seal = sealed
    with pytest.raises(WorkerFailedError, match="cannot be created"):
        TraceWriter(path.parent / name)
    assert verify_trace(path, seal).problem is None


def test_the_trace_loads_no_framework():
    script = "import sys, reprotui.trace, reprotui.run_directory; print(sorted({'jax', 'torch', 'flax'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# The run directory.


@pytest.fixture
def run(tmp_path):
    write_json(tmp_path / "run.json", {"manifest_version": 1})
    return RunDirectory(tmp_path)


@pytest.mark.parametrize("name", ["a", "A.b_c+d-9", "x" * 100])
def test_names_that_can_be_directories_are_taken(tmp_path, name):
    assert create_directory(tmp_path / "runs", name, "s") == tmp_path / "runs" / name
    with pytest.raises(BadInputError, match="exists already"):
        create_directory(tmp_path / "runs", name, "s")


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "ä", "x" * 101])
def test_names_that_cannot_be_directories_are_refused(tmp_path, name):
    with pytest.raises(BadInputError, match="cannot be a name"):
        create_directory(tmp_path / "runs", name, "s")
    assert not (tmp_path / "runs").exists()


def test_names_that_were_not_asked_for_are_all_different(tmp_path):
    made = {create_directory(tmp_path, None, "digits-mlp").name for _ in range(5)}
    assert len(made) == 5
    assert all(name.startswith("digits-mlp-2") for name in made)


def test_a_runs_directory_that_cannot_be_made_is_bad_input(tmp_path):
    (tmp_path / "file").touch()
    for runs in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(BadInputError, match="cannot be written"):
            create_directory(runs, "a", "s")


def test_the_runs_directory_is_that_of_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("REPROTUI_RUNS", str(tmp_path))
    assert run_directory.default_runs_directory() == tmp_path
    monkeypatch.delenv("REPROTUI_RUNS")
    assert str(run_directory.default_runs_directory()) == "runs"


@pytest.mark.parametrize("value", [{"loss": float("nan")}, {"a": object()}, {"a": "\ud800"}])
def test_a_json_file_that_cannot_be_written_stays_as_it_was(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, {"größe": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, value)
    assert read_json(path) == {"größe": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_json_file_is_never_seen_half_written(tmp_path):
    path, done = tmp_path / "a.json", threading.Event()
    write_json(path, {"n": -1, "fill": []})

    def rewrite():
        for number in range(30):
            write_json(path, {"n": number, "fill": [number] * 5000})
        done.set()

    thread = threading.Thread(target=rewrite)
    thread.start()
    while not done.is_set():
        found = read_json(path)
        assert set(found["fill"]) <= {found["n"]}
    thread.join()
    assert read_json(path)["n"] == 29


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1]", "holds a JSON list"),
    ],
    ids=["empty", "torn", "binary", "deep", "list"],
)
def test_files_that_are_no_json_objects_are_bad_input(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        read_json(tmp_path / "a.json")
    with pytest.raises(BadInputError, match="does not exist"):
        read_json(tmp_path / "b.json")
    with pytest.raises(BadInputError, match="is a directory"):
        read_json(tmp_path)


def test_manifests_are_merged_and_checked(run):
    assert run.update_manifest(seal={"a": 1}) == run.manifest()
    assert read_json(run.manifest_path) == run.manifest().document == {"manifest_version": 1, "seal": {"a": 1}}
    write_json(run.manifest_path, {"manifest_version": 99})
    with pytest.raises(CannotTellError, match="manifest version 99, this reprotui reads up to 1: upgrade"):
        run.manifest()
    write_json(run.manifest_path, {})
    with pytest.raises(BadInputError, match="has no manifest_version"):
        run.manifest()
    run.manifest_path.unlink()
    with pytest.raises(BadInputError, match="is not a run directory"):
        run.manifest()
    with pytest.raises(BadInputError, match="does not exist"):
        RunDirectory(run.path / "absent").manifest()


def test_commands_arrive_once_and_a_torn_line_waits_for_its_end(run):
    feed = CommandFeed(run.commands_path)

    def told() -> list[str]:
        return [command for command, _ in feed.poll()]

    assert told() == []
    run.send("pause")
    run.send("resume")
    with run.commands_path.open("a") as file:
        file.write('{"command": "st')
        file.flush()
        assert told() == ["pause", "resume"]
        assert told() == []
        file.write('op"}\n{"command": "dance"}\nnonsense\n[1]\n{}\n\xff\n{"command": ["stop"]}\n')
        file.flush()
        assert told() == ["stop"]
    run.send("advance", 12)
    run.send("lead", to=15)
    with run.commands_path.open("a") as file:
        file.write('{"command": "advance", "to": "far"}\n{"command": "advance", "to": true}\n')
    assert feed.poll() == [("advance", 12), ("lead", 15)], "a step is a whole number"
    again = [command for command, _ in CommandFeed(run.commands_path).poll()]
    assert again == ["pause", "resume", "stop", "advance", "lead"]
    with pytest.raises(BadInputError, match="unknown command 'dance'"):
        run.send("dance")


def test_the_tail_of_the_log_is_its_last_lines(run):
    assert run.log_tail() == []
    run.log_path.write_bytes(b"\xff broken\n" + b"".join(b"line %d\n" % n for n in range(50_000)))
    assert run.log_tail(2) == ["line 49998", "line 49999"]


def test_the_state_follows_manifest_and_process(run):
    assert run.state() == "created"
    run.update_manifest(process=this_process())
    assert run.state() == "running"
    assert run.state(parsed({"process": replace(this_process(), host=socket.gethostname() + "x")})) == "elsewhere"
    assert run.state(parsed({"process": replace(this_process(), started="1")})) == "killed"  # a reused process id
    assert run.state(parsed({"process": {"host": socket.gethostname()}})) == "killed"
    for state in ("finished", "stopped", "failed"):
        run.update_manifest(result={"state": state})
        assert run.state() == state


def test_a_process_is_alive_until_it_ends_even_before_it_is_reaped(run):
    script = (
        "import dataclasses, json, sys; from reprotui.run_directory import this_process\n"
        "print(json.dumps(dataclasses.asdict(this_process())), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        process = Process(**json.loads(child.stdout.readline()))
        run.update_manifest(process=process)
        assert run.state() == "running"
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert run.state() == "killed"  # still a zombie
        child.wait()
        assert not process_alive(process)
        assert run.state() == "killed"
