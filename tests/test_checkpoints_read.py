"""Checkpoints of a run through the command line: verify, list, diff, register, sign, damage, and the campaign of faults."""

import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import checkpoint_samples as samples
from benchmarks import run_benchmark
from benchmarks.common import with_benchmarks
from conftest import Cli, parsed
from reprotui.checkpoints.damage import KINDS, applicable, copy_checkpoint, damage
from reprotui.checkpoints.listing import latest_good, list_checkpoints
from reprotui.checkpoints.register import announce_removal, register
from reprotui.checkpoints.registry import ASIDE, GENESIS, REMOVED, SAVED, append, read_registry, registry_path
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.checksum import LeafSpec, numpy_form
from reprotui.cli import main
from reprotui.errors import BadInputError
from reprotui.integrity import Identity, IntegrityError, Status, build_manifest, identity_of_run, manifest_path, write_manifest
from reprotui.integrity.leaves import LeafDifference
from reprotui.trace import LeafTable, Record, TraceWriter
from reprotui.trace.verify import roots_of

STEPS = (1, 2, 3)
EXPERIMENT = {"name": "e", "source_digest": "00"}
MANIFEST = {"manifest_version": 1, "name": "r", "created_ns": 5, "config": {"seed": 0}, "experiment": EXPERIMENT}


@pytest.fixture(scope="module")
def saved(once: Any, bare_environment: dict[str, str]) -> Path:
    """Return a directory with checkpoints of states 0 to 3 in every format, written by the frameworks' own savers."""

    def build(path: Path) -> None:
        options = json.dumps({"count": 4, "directory": str(path), "formats": list(samples.FORMATS)})
        command = [sys.executable, "-m", "benchmarks.child", "checkpoint_samples", options]
        done = subprocess.run(command, env=with_benchmarks(bare_environment), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return once("checkpoints-of-all-formats", build)


class InProcess(Cli):
    """The command line without a process for each call: these tests make a hundred, and nothing here trains."""

    def __call__(self, *arguments: object, exit_code: int | None = 0, **_: Any) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.directory), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([str(argument) for argument in arguments])
            except SystemExit as end:
                code = int(end.code or 0)
        said = f"{arguments}\n{out.getvalue()}\n{err.getvalue()}"
        # An error that nobody foresaw is never what a test expects: its traceback belongs into the report of the test.
        log = re.search(r"the traceback is in (\S+\.log)", err.getvalue())
        assert log is None, f"{said}\n{Path(log[1]).read_text()}"
        assert exit_code is None or code == exit_code, f"exit code {code}: {said}"
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.fixture
def cli(tmp_path: Path, bare_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Return the command line in the test's own directory."""
    monkeypatch.delenv("REPROTUI_RUNS", raising=False)
    return InProcess(tmp_path, bare_environment)


def record(writer: TraceWriter, step: int, leaves: bool) -> None:
    """Put the state of a step into a trace, as a worker records it."""
    state = samples.state(step)
    phase = "params" if step else "init"
    chosen = sorted(path for path in state if path.split("/")[0] in ("params", "opt_state"))
    table = LeafTable(tuple(phase for _ in chosen), tuple(LeafSpec(p, state[p].dtype.name, state[p].shape) for p in chosen))
    checksums = np.array([numpy_form.checksum(state[path]) for path in chosen], "<u8").tobytes()
    writer.put(lambda: Record(step, 0, table, roots_of(checksums, table), leaf_checksums=checksums if leaves else None))


@pytest.fixture
def run(tmp_path: Path, saved: Path) -> Path:
    """Return a run with a trace of steps 0 to 3 and registered checkpoints of the steps 1 to 3; step 2 has no leaf row."""
    path = tmp_path / "runs" / "r"
    (path / "checkpoints").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(MANIFEST))
    writer = TraceWriter(path / "trace.db")
    for step in (0, *STEPS):
        record(writer, step, leaves=step != 2)
    writer.seal()
    for step in STEPS:
        save(path, saved, step)
    return path


def save(run: Path, saved: Path, step: int, state: int | None = None) -> Path:
    """Copy a state into the run as the checkpoint of a step, and register it."""
    state = step if state is None else state
    path = run / "checkpoints" / str(step)
    shutil.copytree(saved / f"orbax-{state}", path)
    register(path, identity_of_run(parsed(MANIFEST), step), samples.content(samples.state(state)))
    return path


def verify(cli: Cli, *arguments: object, exit_code: int | None = None) -> list[tuple[str, set[str], set[str | None]]]:
    """Verify through the command line; return status, files and leaves that are named for each checkpoint."""
    done = cli("checkpoint", "verify", *arguments, "--json", exit_code=exit_code)
    found = json.loads(done.stdout)
    statuses = [result["status"] for result in found["results"]]
    assert found["status"] in statuses
    return [
        (result["status"], {f["path"] for f in result["findings"]}, {f["leaf"] for f in result["findings"]} - {None})
        for result in found["results"]
    ]


# Verify


@pytest.mark.parametrize("level", ["files", "content", "trace"])
def test_whole_checkpoints_are_valid_at_every_level(cli: Cli, run: Path, level: str) -> None:
    done = cli("checkpoint", "verify", "r", "--all", "--level", level, exit_code=0)
    assert done.stdout.count("VALID") == 3
    assert verify(cli, run, "--all", "--level", level, exit_code=0) == [("VALID", set(), set())] * 3
    if level == "content":
        assert samples.content(samples.state(3)).root in done.stdout


def test_the_newest_step_is_verified_where_none_is_named(cli: Cli, run: Path) -> None:
    assert "checkpoints/3" in cli("checkpoint", "verify", run).stdout
    assert "step 1" in cli("checkpoint", "verify", run, "--step", 1).stdout
    assert "there is 1, 2, 3" in cli("checkpoint", "verify", run, "--step", 9, exit_code=2).stderr
    assert "--all is for a run" in cli("checkpoint", "verify", run / "checkpoints" / "1", "--all", exit_code=2).stderr


def value_file(checkpoint: Path) -> Path:
    """Return the largest file, which holds the values."""
    return max((path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def test_a_flip_in_values_names_file_and_leaf(cli: Cli, run: Path) -> None:
    path = value_file(run / "checkpoints" / "3")
    flip(path, path.stat().st_size // 2)
    ((status, files, leaves),) = verify(cli, run, exit_code=1)
    assert status == "CORRUPT"
    assert path.relative_to(run / "checkpoints" / "3").as_posix() in files
    assert leaves and all(leaf.startswith(("params/", "opt_state/", "extra/")) for leaf in leaves if leaf)
    ((_, files, leaves),) = verify(cli, run, "--level", "files", exit_code=1)
    assert leaves == set()
    flip(path, path.stat().st_size // 2)
    verify(cli, run, exit_code=0)


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flip_in_any_file_is_found_and_named(run: Path, where: str) -> None:
    checkpoint = run / "checkpoints" / "1"
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        at = {"first": 0, "middle": path.stat().st_size // 2, "last": -1}[where]
        flip(path, at)
        result = verify_checkpoint(checkpoint, "files")
        assert [(found.status, found.path) for found in result.findings] == [
            (Status.CORRUPT, path.relative_to(checkpoint).as_posix())
        ]
        flip(path, at)
    assert verify_checkpoint(checkpoint).status is Status.VALID


def test_a_write_that_went_wrong_is_found_though_the_files_are_those_that_were_written(run: Path, saved: Path) -> None:
    checkpoint = run / "checkpoints" / "4"
    shutil.copytree(saved / "orbax-0", checkpoint)
    intended = samples.state(0)
    for change, leaf in (
        (lambda a: np.nextafter(a, np.float32(9)), "params/dense_1/bias"),
        (lambda a: a.T.copy(), "params/dense_0/kernel"),
        (lambda a: a.view(np.int32), "opt_state/0/mu/dense_0/bias"),
        (lambda a: a + a, "extra/scale"),
    ):
        other = {path: change(array) if path == leaf else array for path, array in intended.items()}
        register(checkpoint, identity_of_run(parsed(MANIFEST), 4), samples.content(other))
        assert verify_checkpoint(checkpoint, "files").status is Status.VALID
        result = verify_checkpoint(checkpoint)
        assert [(found.status, found.leaf) for found in result.findings] == [(Status.CORRUPT, leaf)]
    register(checkpoint, identity_of_run(parsed(MANIFEST), 4), samples.content(intended))
    assert verify_checkpoint(checkpoint).status is Status.VALID


def test_missing_extra_and_renamed_leaves_are_told_apart(run: Path, saved: Path) -> None:
    checkpoint = run / "checkpoints" / "4"
    shutil.copytree(saved / "orbax-0", checkpoint)
    state = samples.state(0)
    bias = state["params/dense_0/bias"]
    without = {path: array for path, array in state.items() if path != "params/dense_0/bias"}
    for recorded, expected in (
        (without, [(Status.EXTRA, "params/dense_0/bias")]),
        (state | {"params/more": bias}, [(Status.MISSING, "params/more")]),
        (without | {"params/b": bias}, [(Status.MISSING, "params/b"), (Status.EXTRA, "params/dense_0/bias")]),
    ):
        register(checkpoint, identity_of_run(parsed(MANIFEST), 4), samples.content(recorded))
        assert [(found.status, found.leaf) for found in verify_checkpoint(checkpoint).findings] == expected


@pytest.mark.parametrize(
    ("leaf", "change"),
    [
        ("params/dense_0/bias", lambda a: np.where(np.arange(a.size) == 3, np.nextafter(a, np.float32(9)), a)),
        ("extra/scale", lambda a: (a.view(np.uint16) ^ 1).view(a.dtype)),
        ("rng", lambda a: a + np.uint32(1)),
    ],
    ids=["ulp", "bfloat16", "key"],
)
def test_one_bit_of_one_element_is_another_content(leaf: str, change: Callable[[Any], Any]) -> None:
    state = samples.state(0)
    assert samples.content(state | {leaf: change(state[leaf])}).root != samples.content(state).root
    key = LeafSpec("rng", "key<fry>", ()), state["rng"]
    assert samples.digest_state([key]) != samples.digest_state([(key[0]._replace(dtype="key<rbg>"), key[1])])


# Identity and registry


def test_another_steps_checkpoint_under_this_name_is_corrupt(cli: Cli, run: Path) -> None:
    directory = run / "checkpoints"
    shutil.rmtree(directory / "3")
    shutil.copytree(directory / "2", directory / "3")
    ((status, _, _),) = verify(cli, run, "--step", 3, exit_code=1)
    assert status in ("CORRUPT", "MISSING", "EXTRA")
    # Even with the manifest that belongs to it, and without the registry that knows better.
    shutil.copy(manifest_path(directory / "2"), manifest_path(directory / "3"))
    found = verify_checkpoint(directory / "3", "files")
    assert (found.status, len(found.findings)) == (Status.CORRUPT, 2)
    assert any("is of step 2" in str(finding) for finding in found.findings)
    outside = copy_checkpoint(directory / "3", run.parent / "outside")
    registry_path(outside.parent).unlink()
    assert [finding.message for finding in verify_checkpoint(outside, "files").findings] == [
        "is of step 2, the checkpoint is named 3"
    ]
    assert verify_checkpoint(directory / "2").status is Status.VALID


def test_another_runs_checkpoint_is_corrupt(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "runs" / "other"
    shutil.copytree(run, other)
    assert verify_checkpoint(other / "checkpoints" / "1", "files").status is Status.VALID
    (other / "run.json").write_text(json.dumps(MANIFEST | {"created_ns": 6}))
    found = verify_checkpoint(other / "checkpoints" / "1", "files")
    assert found.status is Status.CORRUPT and "is of the run" in found.findings[0].message


def test_a_pair_that_was_rolled_back_is_stale(cli: Cli, run: Path, saved: Path) -> None:
    directory = run / "checkpoints"
    old = copy_checkpoint(directory / "3", run.parent / "old")
    shutil.rmtree(directory / "3")
    save(run, saved, 3, state=0)
    assert verify(cli, run, exit_code=0)[0][0] == "VALID"
    shutil.rmtree(directory / "3")
    shutil.copytree(old, directory / "3")
    shutil.copy(manifest_path(old), manifest_path(directory / "3"))
    assert verify(cli, run, exit_code=1)[0][0] == "STALE"
    assert latest_good(run)[0].path.name == "2"
    # Where it was put back with its whole registry, only a head kept elsewhere shows it.
    newer = read_registry(directory)
    shutil.copy(registry_path(old.parent), registry_path(directory))
    older = read_registry(directory)
    assert verify_checkpoint(directory / "3").status is Status.VALID
    assert newer is not None and older is not None and newer.head != older.head
    assert newer.entries[: len(older.entries)] == older.entries


def test_a_manifest_that_was_made_anew_is_not_the_registered_one(run: Path) -> None:
    checkpoint = run / "checkpoints" / "3"
    flip(value_file(checkpoint), 100)
    write_manifest(manifest_path(checkpoint), build_manifest(checkpoint, identity_of_run(parsed(MANIFEST), 3)))
    result = verify_checkpoint(checkpoint, "files")
    assert result.status is Status.CORRUPT
    assert "not the manifest that was registered" in result.findings[0].message


def test_the_registry_is_a_chain(run: Path) -> None:
    path = registry_path(run / "checkpoints")
    raw = path.read_bytes()
    lines = raw.splitlines(keepends=True)
    for harmed in (lines[0] + lines[2], lines[1] + lines[0] + lines[2], raw.replace(b'"step":2', b'"step":5'), b"{}\n" + raw):
        path.write_bytes(harmed)
        assert verify_checkpoint(run / "checkpoints" / "3", "files").status is Status.CORRUPT
        assert latest_good(run)[0] is None
    path.write_bytes(raw)
    assert verify_checkpoint(run / "checkpoints" / "3", "files").status is Status.VALID


def torn(line: bytes, at: int) -> bytes:
    """Return what a crash leaves of a line that was being appended: so much of it, and no brace yet."""
    return (b"#" + line[1:])[:at]


def former(directory: Path) -> bytes:
    """Return the registry of a directory as the version before wrote it: without the length of each line."""
    entries, raw, previous = read_registry(directory).entries, b"", GENESIS
    for entry in entries:
        value = {name: value for name, value in asdict(entry).items() if name != "digest"} | {"previous": previous}
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        previous = hashlib.sha256(text.encode()).hexdigest()
        raw += json.dumps(value | {"digest": previous}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    return raw


def problems(run: Path) -> dict[str, Status | None]:
    return {entry.path.name: entry.problem for entry in list_checkpoints(run)}


def test_a_line_that_a_crash_cut_off_counts_for_nothing_wherever_it_was_cut(run: Path, saved: Path) -> None:
    path = registry_path(run / "checkpoints")
    raw = path.read_bytes()
    last = raw.rindex(b"{")
    for at in (1, 2, 5, 10, 11, 14, 60, len(raw) - last - 1, len(raw) - last):
        path.write_bytes(raw[:last] + torn(raw[last:], at))
        assert problems(run) == {"1": None, "2": None, "3": Status.UNREGISTERED}, at
        assert "begun and never finished" in list_checkpoints(run)[2].message
    shutil.rmtree(run / "checkpoints" / "3")
    save(run, saved, 3)
    assert verify_checkpoint(run / "checkpoints" / "3").status is Status.VALID
    assert path.read_bytes().startswith(raw[:last]) and b"#" not in path.read_bytes()


def test_damage_of_an_acknowledged_line_is_said_and_nothing_is_cut_off(cli: Cli, run: Path) -> None:
    path = registry_path(run / "checkpoints")
    raw = path.read_bytes()
    last = raw.rindex(b"{")
    harmed = [
        raw[:-1],
        raw[:-1] + b"\x8a",
        raw[:-10],
        *(raw[: last + size] for size in (1, 2, 9, 10, 30)),
        raw + b"{",
        raw + b"x",
    ]
    harmed += [raw + b'{"kind":"sav', raw + b"# no line", raw + b"#\n", raw + b"\n", raw + bytes(40), raw + raw[last:-9]]
    # A line feed that became another end of a line must not make the rest of the file unread.
    harmed += [raw[:last] + b"#" + raw[last + 1 :] + b"x", raw.replace(b"3", b"\r", 1), raw[: last - 1] + b"\r" + raw[last:]]
    for number, bytes_ in enumerate(harmed):
        path.write_bytes(bytes_)
        assert set(problems(run).values()) == {Status.CORRUPT}, (number, bytes_[-40:])
        cli("checkpoint", "prune", run, "--keep", 1, exit_code=1)
        with pytest.raises(IntegrityError):
            append(run / "checkpoints", SAVED, "4", 4, "0" * 64, None)
        assert path.read_bytes() == bytes_
        assert sorted(problems(run)) == ["1", "2", "3"]
    path.write_bytes(raw)
    assert set(problems(run).values()) == {None}


@pytest.mark.slow
def test_every_flipped_byte_of_the_registry_is_found(run: Path) -> None:
    path = registry_path(run / "checkpoints")
    raw = bytearray(path.read_bytes())
    for at in range(len(raw)):
        raw[at] ^= 1 << at % 8
        path.write_bytes(raw)
        with pytest.raises(IntegrityError):
            read_registry(run / "checkpoints")
        raw[at] ^= 1 << at % 8


def test_a_kill_inside_an_append_leaves_what_was_acknowledged(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = registry_path(run / "checkpoints")
    before = path.read_bytes()
    synced = os.fsync
    for stop in (1, 2):
        calls = iter(range(1, 10))

        def die(descriptor: int, calls: Any = calls, stop: int = stop) -> None:
            synced(descriptor)
            if next(calls) == stop:
                raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", die)
        with pytest.raises(KeyboardInterrupt):
            append(run / "checkpoints", SAVED, "4", 4, "0" * 64, None)
        monkeypatch.undo()
        assert path.read_bytes().startswith(before + b'#"length":')
        assert [entry.step for entry in read_registry(run / "checkpoints").entries] == [1, 2, 3]
    append(run / "checkpoints", SAVED, "4", 4, "0" * 64, None)
    assert [entry.step for entry in read_registry(run / "checkpoints").entries] == [1, 2, 3, 4]


def test_registries_of_the_former_version_are_read_and_gone_on_with(cli: Cli, run: Path) -> None:
    directory = run / "checkpoints"
    path = registry_path(directory)
    lines = former(directory)
    path.write_bytes(lines)
    assert set(problems(run).values()) == {None}
    # Whether its last line was cut off by a crash or later, nobody can tell: it counts for nothing, and is kept.
    last = lines.rindex(b"{")
    path.write_bytes(lines[:-30])
    assert problems(run) == {"1": None, "2": None, "3": Status.UNREGISTERED}
    assert "or the line was damaged" in list_checkpoints(run)[2].message
    cli("checkpoint", "register", run, "--step", 3, exit_code=0)
    assert (directory / ASIDE).read_bytes() == lines[last:-30] + b"\n"
    assert verify(cli, run, "--all", exit_code=0) == [("VALID", set(), set())] * 3
    assert b'{"length":' in path.read_bytes().splitlines()[2]
    # What cannot be a crash is damage there too.
    for harmed in (lines[:-1], lines[:-1] + b"\x8a", lines + b"x", lines[:last] + b"{\n"):
        path.write_bytes(harmed)
        assert set(problems(run).values()) == {Status.CORRUPT}, harmed[-20:]


def test_pruning_says_what_it_leaves_alone_and_what_was_not_registered_can_be(cli: Cli, run: Path) -> None:
    directory = run / "checkpoints"
    raw = registry_path(directory).read_bytes()
    registry_path(directory).write_bytes(raw[: raw.rindex(b"{")])  # as a crash between manifest and registry leaves it
    would = json.loads(cli("checkpoint", "prune", run, "--keep", 1, "--dry-run", "--json").stdout)
    assert (would["removed"], would["kept"]) == ([1], [2])
    assert [(entry["step"], entry["problem"]) for entry in would["left_alone"]] == [(3, "UNREGISTERED")]
    said = cli("checkpoint", "prune", run, "--keep", 1).stdout
    assert "3 is UNREGISTERED: the registry does not know it; register it or delete it yourself" in said
    cli("checkpoint", "register", run, "--step", 3)
    assert verify(cli, run, "--all", exit_code=0) == [("VALID", set(), set())] * 2
    assert "left alone" not in cli("checkpoint", "prune", run, "--keep", 1).stdout
    assert sorted(problems(run)) == ["3"]
    assert "registered already" in cli("checkpoint", "register", run, "--step", 3, exit_code=2).stderr


def test_what_was_damaged_before_its_registration_is_not_registered(cli: Cli, run: Path) -> None:
    directory = run / "checkpoints"
    raw = registry_path(directory).read_bytes()
    registry_path(directory).write_bytes(raw[: raw.rindex(b"{")])
    flip(value_file(directory / "3"), 100)
    assert "SHA-256" in cli("checkpoint", "register", run, "--step", 3, exit_code=1).stderr


# Names that come out of files


def entry(directory: Path, kind: str, name: str) -> None:
    """Append a line that names anything, with a chain that holds: whoever wrote a file can compute it."""
    body = {
        "kind": kind, "name": name, "step": None, "manifest": "0" * 64, "content": None, "created_ns": 1,
        "previous": read_registry(directory).head,
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
    rest = json.dumps({**body, "digest": digest}, ensure_ascii=False, separators=(",", ":"))[1:] + "\n"
    with registry_path(directory).open("ab") as file:
        file.write(b'{"length":%d,' % len(rest.encode()) + rest.encode())


@pytest.mark.parametrize("name", ["../../x", "..", "", "a/b", "/etc/x", "a\x00", "a\nb", "plain"])
@pytest.mark.parametrize("kind", [SAVED, REMOVED])
def test_a_name_in_the_registry_leads_nowhere_else(cli: Cli, run: Path, kind: str, name: str) -> None:
    outside = manifest_path(run.parent / "x")
    outside.write_text("somebody's own")
    entry(run / "checkpoints", kind, name)
    done = cli("checkpoint", "prune", run, "--keep", 1, exit_code=0 if name == "plain" else 1)
    assert outside.exists()
    if name != "plain":
        assert "line 4 names" in done.stderr
        assert set(problems(run).values()) == {Status.CORRUPT}
        with pytest.raises(BadInputError, match="before it is registered"):
            append(run.parent / "other", kind, name, None, "0" * 64, None)


@pytest.mark.parametrize("how", ["manifest", "link"])
def test_pruning_a_run_never_removes_outside_of_it(cli: Cli, run: Path, how: str) -> None:
    elsewhere = run.parent / "mine"
    (run / "checkpoints").rename(elsewhere)
    if how == "link":
        (run / "checkpoints").symlink_to(elsewhere)
    else:
        (run / "run.json").write_text(json.dumps({**MANIFEST, "checkpointing": {"directory": str(elsewhere)}}))
    assert "name that directory itself" in cli("checkpoint", "prune", run, "--keep", 1, exit_code=2).stderr
    assert sorted(path.name for path in elsewhere.iterdir() if path.is_dir()) == ["1", "2", "3"]
    assert "removed steps 1, 2" in cli("checkpoint", "prune", elsewhere, "--keep", 1).stdout


def test_links_among_checkpoints_are_damage_and_never_followed_by_a_removal(cli: Cli, run: Path) -> None:
    directory = run / "checkpoints"
    (directory / "3").rename(run.parent / "kept")
    (directory / "3").symlink_to(run.parent / "kept")
    assert problems(run) == {"1": None, "2": None, "3": Status.CORRUPT}
    (directory / ".removing-9").symlink_to(run.parent / "kept")
    assert "removed steps 1 (" in cli("checkpoint", "prune", run, "--keep", 1).stdout
    assert (run.parent / "kept" / "state").is_dir() and not (directory / ".removing-9").is_symlink()


def test_no_registry_and_no_manifest_are_unregistered(cli: Cli, run: Path) -> None:
    directory = run / "checkpoints"
    manifest_path(directory / "3").unlink()
    assert verify(cli, run, exit_code=3)[0][0] == "UNREGISTERED"
    assert latest_good(run)[0].path.name == "2"
    registry_path(directory).unlink()
    assert verify(cli, run, "--step", 2, exit_code=3)[0][0] == "UNREGISTERED"
    outside = copy_checkpoint(directory / "2", run.parent / "outside")
    assert verify(cli, outside, exit_code=0)[0][0] == "VALID"


# Crash leftovers


def test_leftovers_of_a_crash_are_incomplete_and_passed_over(cli: Cli, run: Path, saved: Path) -> None:
    directory = run / "checkpoints"
    (directory / "77").mkdir()
    shutil.copytree(saved / "orbax-0", directory / "88.orbax-checkpoint-tmp")
    shutil.copytree(saved / "orbax-0", directory / "90")
    shutil.rmtree(directory / "90" / "state")
    shutil.copytree(saved / "orbax-0", directory / "91")
    for marker in ("commit_success.txt", "_CHECKPOINT_METADATA"):
        (directory / "91" / marker).unlink(missing_ok=True)
    shutil.rmtree(directory / "1")
    announce_removal(directory / "2")
    listed = {entry.path.name: entry.problem for entry in list_checkpoints(run)}
    assert listed == {
        "1": Status.MISSING, "2": Status.INCOMPLETE, "3": None, "77": Status.INCOMPLETE, "90": Status.INCOMPLETE,
        "91": Status.UNREGISTERED, "88.orbax-checkpoint-tmp": Status.INCOMPLETE,
    }  # fmt: skip
    found = verify(cli, run, "--all", exit_code=1)
    assert [status for status, _, _ in found] == [
        "MISSING", "INCOMPLETE", "VALID", "INCOMPLETE", "INCOMPLETE", "INCOMPLETE", "INCOMPLETE",
    ]  # fmt: skip
    assert verify(cli, directory / "77", exit_code=3)[0][0] == "INCOMPLETE"
    good, passed = latest_good(run)
    assert (good.path.name, passed) == ("3", [])
    flip(value_file(directory / "3"), 50)
    assert [result.path.name for result in latest_good(run)[1]] == ["3"]


def test_latest_good_walks_back_and_stops_where_asked(run: Path) -> None:
    assert latest_good(run)[0].step == 3
    assert latest_good(run, at_most=2)[0].step == 2
    flip(value_file(run / "checkpoints" / "2"), 10)
    good, passed = latest_good(run, at_most=2)
    assert (good.step, [result.status for result in passed]) == (1, [Status.CORRUPT])
    # A younger time makes nothing newer.
    os.utime(run / "checkpoints" / "1")
    assert latest_good(run)[0].step == 3
    assert latest_good(run, at_most=0) == (None, [])


def test_the_list_shows_what_is_there(cli: Cli, run: Path) -> None:
    shown = cli("checkpoint", "list", "r").stdout
    assert shown.count("not verified") == 3 and samples.content(samples.state(2)).root[:16] in shown
    entries = json.loads(cli("checkpoint", "list", run, "--json").stdout)["checkpoints"]
    assert [entry["step"] for entry in entries] == [1, 2, 3]
    assert all(entry["problem"] is None and entry["bytes"] > 20_000 for entry in entries)
    assert "it has no run.json" in cli("checkpoint", "list", run / "checkpoints" / "1", exit_code=2).stderr
    shutil.rmtree(run / "checkpoints")
    assert "no checkpoints in" in cli("checkpoint", "list", run).stdout
    cli("checkpoint", "verify", run, exit_code=3)
    cli("checkpoint", "verify", run, "--all", exit_code=3)


# The trace


def test_a_state_that_the_run_never_had_at_that_step_is_found_by_the_trace(cli: Cli, run: Path, saved: Path) -> None:
    for step in (3, 2):
        shutil.rmtree(run / "checkpoints" / str(step))
        save(run, saved, step, state=0)
        assert verify(cli, run, "--step", step, exit_code=0)[0][0] == "VALID"
    ((status, files, leaves),) = verify(cli, run, "--step", 3, "--level", "trace", exit_code=1)
    assert (status, files) == ("CORRUPT", {"trace.db"})
    assert leaves == {path for path in samples.state(0) if path.startswith(("params", "opt_state"))}
    # Step 2 has no leaf row: the root shows it, without a leaf.
    assert verify(cli, run, "--step", 2, "--level", "trace", exit_code=1) == [("CORRUPT", {"trace.db"}, set())]
    verify(cli, run, "--step", 1, "--level", "trace", exit_code=0)


def test_what_the_trace_cannot_say_is_unchecked(cli: Cli, run: Path, saved: Path) -> None:
    save(run, saved, 9, state=0)
    assert verify(cli, run, "--step", 9, "--level", "trace", exit_code=3) == [("UNCHECKED", {"trace.db"}, set())]
    (run / "trace.db").rename(run / "gone")
    assert verify(cli, run, "--step", 1, "--level", "trace", exit_code=3)[0][0] == "UNCHECKED"
    (run / "trace.db").write_bytes(b"not a trace")
    assert verify(cli, run, "--step", 1, "--level", "trace", exit_code=3)[0][0] == "UNREADABLE"
    outside = copy_checkpoint(run / "checkpoints" / "1", run.parent / "outside")
    assert verify(cli, outside, "--level", "trace", exit_code=3)[0][0] == "UNCHECKED"


# Hygiene


def test_verifying_loads_no_framework_and_writes_nothing(run: Path, bare_environment: dict[str, str]) -> None:
    before = {path: path.lstat().st_mtime_ns for path in run.rglob("*")}
    code = (
        "import sys\nfrom reprotui.cli import main\n"
        f"assert main(['checkpoint', 'verify', {str(run)!r}, '--all', '--level', 'trace']) == 0\n"
        "print([name for name in ('jax', 'orbax', 'torch', 'flax', 'pydantic') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=bare_environment, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert {path: path.lstat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize("kind", ["fifo", "link", "loop"])
def test_a_checkpoint_that_is_no_plain_tree_is_refused_at_once(cli: Cli, run: Path, kind: str) -> None:
    checkpoint = run / "checkpoints" / "3"
    target = next((checkpoint / "state" / "array_metadatas").iterdir())
    target.unlink()
    if kind == "fifo":
        os.mkfifo(target)
    else:
        target.symlink_to("loop" if kind == "loop" else run / "run.json")
    assert verify(cli, run)[0][0] == ("UNREADABLE" if kind == "fifo" else "CORRUPT")
    assert cli("checkpoint", "diff", checkpoint, checkpoint, exit_code=None).returncode in (1, 3)
    (run / "checkpoints" / "4").symlink_to("2")
    assert verify(cli, run, "--step", 4)[0][0] == "CORRUPT"


@pytest.mark.parametrize(
    "arguments", [["verify", "--level", "quick", "x"], ["verify"], ["sign", "x"], ["damage", "x", "--kind", "y"], []]
)
def test_wrong_usage_exits_with_2(cli: Cli, arguments: list[str]) -> None:
    cli("checkpoint", *arguments, exit_code=2)


# Single files


@pytest.mark.parametrize("format_", ["torch", "safetensors", "npz"])
def test_a_single_file_is_registered_verified_renamed_and_damaged(cli: Cli, saved: Path, format_: str) -> None:
    path = Path(shutil.copy(saved / f"{format_}-0", cli.directory / "model"))
    assert verify(cli, path, exit_code=3)[0][0] == "UNREGISTERED"
    assert ": 1 file, " in cli("checkpoint", "register", path).stdout
    assert "registered already" in cli("checkpoint", "register", path, exit_code=2).stderr
    shown = cli("checkpoint", "verify", path, exit_code=0).stdout
    assert samples.content(samples.state(0, samples.has_bfloat16(format_))).root in shown
    renamed = path.rename(cli.directory / "renamed")
    manifest_path(path).rename(manifest_path(renamed))
    assert verify(cli, renamed, exit_code=0)[0][0] == "VALID"
    flip(renamed, renamed.stat().st_size // 2)
    status, files, _ = verify(cli, renamed, exit_code=1)[0]
    assert (status, files) == ("CORRUPT", {"renamed"})
    renamed.unlink()
    assert verify_checkpoint(renamed).status is Status.MISSING


def test_a_damaged_zip_is_corrupt_without_a_manifest_too(cli: Cli, saved: Path) -> None:
    path = Path(shutil.copy(saved / "torch-0", cli.directory / "model.pt"))
    flip(path, path.read_bytes().find(samples.state(0)["params/dense_0/kernel"].tobytes()))
    assert verify(cli, path, exit_code=1) == [("CORRUPT", {"model.pt", "model.pt.manifest.json"}, {"params/dense_0/kernel"})]
    assert "CORRUPT" in cli("checkpoint", "register", path, exit_code=1).stderr


def test_a_full_disk_leaves_no_half_manifest(cli: Cli, saved: Path) -> None:
    path = Path(shutil.copy(saved / "safetensors-0", cli.directory / "model"))
    outside = Cli(cli.directory, cli.environment)
    done = outside("checkpoint", "register", path, exit_code=2, file_size=100)
    assert "File too large" in done.stderr
    assert [entry.name for entry in cli.directory.iterdir()] == ["model"]
    outside("checkpoint", "register", path)
    assert verify(cli, path, exit_code=0)[0][0] == "VALID"


def test_a_directory_of_any_name_holds_checkpoints(cli: Cli, saved: Path) -> None:
    directory = cli.directory / "my models é"
    directory.mkdir()
    for step in (5, 6):
        shutil.copytree(saved / f"orbax-{step - 5}", directory / str(step))
        register(directory / str(step), Identity(step=step), samples.content(samples.state(step - 5)))
    assert verify(cli, directory, "--all", exit_code=0) == [("VALID", set(), set())] * 2
    assert latest_good(directory)[0].step == 6
    shutil.copy(saved / "npz-0", directory / "other.npz")
    cli("checkpoint", "register", directory / "other.npz")
    assert [entry.path.name for entry in list_checkpoints(directory)] == ["5", "6", "other.npz"]


# Differences


def test_diff_of_two_steps_and_of_formats(cli: Cli, run: Path, saved: Path) -> None:
    assert "SAME  10 leaves" in cli("checkpoint", "diff", saved / "orbax-1", saved / "torch-1").stdout
    assert "SAME" in cli("checkpoint", "diff", run, "r", "--step", 2).stdout
    found = json.loads(cli("checkpoint", "diff", saved / "orbax-1", saved / "safetensors-2", "--json", exit_code=1).stdout)
    assert (found["same"], found["formats"], len(found["leaves"])) == (False, ["orbax", "safetensors"], 10)
    kernel = next(leaf for leaf in found["leaves"] if leaf["path"] == "params/dense_0/kernel")
    delta = np.abs(samples.state(1)["params/dense_0/kernel"].astype(np.float64) - samples.state(2)["params/dense_0/kernel"])
    assert kernel["elements"]["max_abs"] == delta.max()
    npz = cli("checkpoint", "diff", saved / "npz-1", saved / "torch-1", exit_code=1).stdout
    # npz keeps no bfloat16, so one leaf is not there; another state of the generator follows from that.
    assert "DIFFERENT" in npz and "only in B" in npz
    assert "does not exist" in cli("checkpoint", "diff", saved / "npz-1", "nothing", exit_code=2).stderr


def test_diff_shows_leaf_index_and_ulp(cli: Cli) -> None:
    a = {"w": np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4), "b": np.ones(3), "k": np.int32([1, 2])}
    b = {**a, "w": a["w"].copy(), "b": np.ones((3, 1))}
    b["w"][1, 2] = np.nextafter(a["w"][1, 2], np.float32(9))
    b["more"] = b.pop("k")
    for name, state in (("a", a), ("b", b)):
        samples._WRITERS["npz"](cli.directory / name, state)
    shown = cli("checkpoint", "diff", "a", "b", exit_code=1).stdout
    assert "DIFFERENT  4 of 4 leaves" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("w ")]
    assert "1 of 12" in line and "[1,2]" in line and line.rstrip().endswith(" 1")
    assert "shape: float64[3] → float64[3,1]" in shown and "only in A" in shown and "only in B" in shown
    assert "ulp          1: 1" in shown


def test_a_leaf_that_differs_has_one_kind_whoever_compares(cli: Cli) -> None:
    sides = {"a": np.ones(3, np.float32), "shape and dtype": np.ones(2), "dtype": np.ones(3), "bits": np.zeros(3, np.float32)}
    for name, array in sides.items():
        samples._WRITERS["npz"](cli.directory / name, {"w": array})
    for name, kind in (("shape and dtype", "shape"), ("dtype", "dtype"), ("bits", "bits")):
        (leaf,) = json.loads(cli("checkpoint", "diff", "a", name, "--json", exit_code=1).stdout)["leaves"]
        spec_a, spec_b = (LeafSpec("w", side.dtype.name, side.shape) for side in (sides["a"], sides[name]))
        assert leaf["kind"] == LeafDifference("params", "w", spec_a, spec_b, 1, 2).recorded_json()["kind"] == kind
        assert "phase" not in leaf and (leaf["elements"] is not None) == (kind == "bits")
    assert json.loads(cli("checkpoint", "diff", "a", "a", "--json").stdout)["leaves"] == []


def test_names_with_points_and_slashes_are_paired(cli: Cli) -> None:
    state = {"params/w": np.ones(3, np.float32)}
    samples._WRITERS["npz"](cli.directory / "a", state)
    samples._WRITERS["safetensors"](cli.directory / "b", {"params.w": np.ones(3, np.float32)})
    shown = cli("checkpoint", "diff", "a", "b").stdout
    assert "SAME  1 leaves" in shown and "are taken for one leaf" in shown


# Damage


def test_damage_is_seeded_and_harms_a_copy(cli: Cli, run: Path) -> None:
    first = cli("checkpoint", "damage", run, "--step", 3, "--count", 2, "--seed", 5)
    again = cli("checkpoint", "damage", run, "--step", 3, "--count", 2, "--seed", 5, "--out", "again")
    assert first.stdout == again.stdout and len(first.stdout.splitlines()) == 2
    verify(cli, "damaged/3", exit_code=None)
    assert cli("checkpoint", "verify", "damaged/3", exit_code=None).returncode in (1, 3)
    assert verify(cli, run, "--all", exit_code=0) == [("VALID", set(), set())] * 3
    assert "exists already" in cli("checkpoint", "damage", run, "--step", 3, exit_code=2).stderr
    cli("checkpoint", "damage", run, "--step", 3, "--in-place", "--kind", "flip")
    assert verify(cli, run, exit_code=1)[0][0] == "CORRUPT"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format_", samples.FORMATS)
def test_every_kind_of_damage_does_something(tmp_path: Path, saved: Path, format_: str, kind: str) -> None:
    whole = copy_checkpoint(saved / f"{format_}-0", tmp_path / "whole")
    register(whole, Identity(), samples.content(samples.state(0, samples.has_bfloat16(format_))))
    if kind not in applicable(whole):
        assert (format_ == "orbax", kind) == (False, "add")
        return
    for seed in range(3):
        copy = copy_checkpoint(whole, tmp_path / f"{seed}")
        done = damage(copy, kind, random.Random(seed))
        assert done.kind == kind
        result = verify_checkpoint(copy)
        assert result.status.exit_code in (1, 3), done
        named = {finding.path for finding in result.findings}
        assert {done.file, copy.name, manifest_path(copy).name} & named or kind == "add", (done, named)
    assert verify_checkpoint(whole).status is Status.VALID


def test_the_campaign_finds_every_fault_and_suspects_no_whole_checkpoint() -> None:
    result = run_benchmark("faults", count=60, seed=3, cycles=12)
    for row in result["rows"]:
        assert (row["found"], row["false alarms"]) == (60, 0), result["notes"]
        # Orbax lays its files out anew each time: a fault hits a leaf's own bytes once in five or so (9 to 16 of 60 were seen),
        # and fewer than three of 60 come once in 5,000 campaigns. The other formats are the same bytes each time.
        assert row["leaf named"] > (2 if row["format"] == "orbax" else 10)
    assert [row["format"] for row in result["rows"]] == list(samples.FORMATS)


def test_the_campaign_notices_a_verifier_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprotui.checkpoints.verify.check_files", lambda *_: ([], 0))
    monkeypatch.setattr("reprotui.integrity.verify.compare_digests", lambda *_: [])
    result = run_benchmark("faults", count=30, seed=3, cycles=1, formats=["safetensors"])
    assert result["rows"][0]["found"] < 30
    assert any("not found: " in note for note in result["notes"])


# Signatures


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with two pairs of EC keys."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    directory = tmp_path_factory.mktemp("keys")
    for name in ("ours", "other"):
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        (directory / f"{name}.pem").write_bytes(private)
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (directory / f"{name}.pub").write_bytes(public)
    return directory


def test_what_was_signed_verifies_with_its_key_and_no_other(cli: Cli, run: Path, keys: Path) -> None:
    assert verify(cli, run, "--key", keys / "ours.pub", exit_code=1)[0][:2] == ("TAMPERED", {"3.sig.json"})
    assert "3.sig.json" in cli("checkpoint", "sign", run, "--key", keys / "ours.pem").stdout
    assert verify(cli, run, "--key", keys / "ours.pub", exit_code=0)[0][0] == "VALID"
    assert verify(cli, run, "--key", keys / "other.pub", exit_code=1)[0][0] == "TAMPERED"
    assert "was not checked" in cli("checkpoint", "verify", run).stdout
    assert [entry.signed for entry in list_checkpoints(run)] == [False, False, True]
    assert "not a private key" in cli("checkpoint", "sign", run, "--key", keys / "ours.pub", exit_code=2).stderr
    assert "cannot be read" in cli("checkpoint", "sign", run, "--key", keys / "nothing", exit_code=2).stderr


def test_the_bundle_has_the_form_that_model_signing_reads(run: Path, keys: Path) -> None:
    """Its official tool (1.1.1) verified such a bundle, and this code one of its own making."""
    import base64

    from reprotui.checkpoints.sign import sign_checkpoint

    bundle = json.loads(sign_checkpoint(run / "checkpoints" / "3", keys / "ours.pem").read_text())
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    assert (statement["_type"], statement["predicateType"]) == (
        "https://in-toto.io/Statement/v1", "https://model_signing/signature/v1.0",
    )  # fmt: skip
    names = [resource["name"] for resource in statement["predicate"]["resources"]]
    assert names == sorted(names, key=lambda name: Path(name).parts)
    assert statement["subject"][0]["digest"]["sha256"] == verify_checkpoint(run / "checkpoints" / "3").files


@pytest.mark.parametrize("harm", ["flip", "signature", "payload", "strip", "manifest", "garbage", None])
def test_whatever_is_changed_after_signing_is_found(run: Path, keys: Path, harm: str | None) -> None:
    from reprotui.checkpoints.sign import sign_checkpoint

    checkpoint = run / "checkpoints" / "3"
    path = sign_checkpoint(checkpoint, keys / "ours.pem")
    bundle = json.loads(path.read_text())
    envelope = bundle["dsseEnvelope"]
    if harm == "flip":
        flip(value_file(checkpoint), 99)
    elif harm == "manifest":
        # A new state with a manifest and a registry entry of its own, and the old signature.
        register(checkpoint, identity_of_run(parsed(MANIFEST), 3), None)
    elif harm == "strip":
        path.unlink()
    elif harm == "garbage":
        path.write_text("[" * 10_000)
    elif harm == "signature":
        other = json.loads(sign_checkpoint(run / "checkpoints" / "2", keys / "ours.pem").read_text())
        path.write_text(json.dumps(other))
    elif harm == "payload":
        envelope["payload"] = (
            envelope["payload"][:40] + ("B" if envelope["payload"][40] == "A" else "A") + envelope["payload"][41:]
        )
        path.write_text(json.dumps(bundle))
    status = verify_checkpoint(checkpoint, public_key=keys / "ours.pub").status
    assert status is {None: Status.VALID, "flip": Status.CORRUPT}.get(harm, Status.TAMPERED)


def test_only_a_valid_checkpoint_is_signed(cli: Cli, run: Path, keys: Path) -> None:
    flip(value_file(run / "checkpoints" / "3"), 99)
    done = cli("checkpoint", "sign", run, "--key", keys / "ours.pem", exit_code=1)
    assert "not signed" in done.stderr
    assert not (run / "checkpoints" / "3.sig.json").exists()
