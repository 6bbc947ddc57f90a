"""Campaign: one fault in each of many traces. Does any reader fail, and does verification ever say that such a trace is whole?"""

import random
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.common import Progress
from benchmarks.trace_readers import READERS, compare_verified, run_commands
from benchmarks.trace_samples import SAMPLES, write_sample
from reprotui.errors import ReprotuiError
from reprotui.run_directory import RunDirectory

FAULTS = 100
COMMANDS_EVERY = 25
"""For one of so many faults, the real commands are run too, in processes of their own."""
PAGE = 4096
LEAF_PAGE = 0x0D
"""First byte of a page of SQLite that holds rows of a table."""
PROVEN = (
    "PRAGMA application_id", "PRAGMA user_version", "SELECT value FROM meta WHERE key = 'checksum'", "SELECT * FROM leaf_tables",
    "SELECT * FROM leaves", "SELECT step, loss_bits, version, roots, chain FROM steps", "SELECT * FROM leaf_checksums",
    "PRAGMA quick_check",
)  # fmt: skip
"""What a trace proves, read row after row. Times, statistics, events and readable numbers are for the eye."""
STATEMENTS = (
    "UPDATE leaf_checksums SET blob = (SELECT blob FROM leaf_checksums WHERE step = :b) WHERE step = :a",
    "UPDATE leaf_checksums SET blob = zeroblob(length(blob)) WHERE step = :a",
    "UPDATE leaf_checksums SET blob = substr(blob, 1, length(blob) - 8) WHERE step = :a",
    "UPDATE leaf_checksums SET step = step + 100000 WHERE step = :a",
    "INSERT INTO leaf_checksums SELECT step + 100000, blob FROM leaf_checksums WHERE step = :a",
    "DELETE FROM leaf_checksums WHERE step = :a",
    "DELETE FROM steps WHERE step = :a",
    "UPDATE steps SET roots = (SELECT roots FROM steps WHERE step = :b) WHERE step = :a",
    "UPDATE leaf_tables SET digest = zeroblob(16) WHERE version = :a % 2",
    "UPDATE leaves SET path = path || 'x' WHERE version = 1 AND id = :a % 12",
)
"""Rows harmed by SQL: the file stays a whole SQLite file. Steps `:a` and `:b` are drawn."""


def run(count: int | None = None, seed: int = 0, *, kinds: list[str] | None = None) -> dict[str, Any]:
    """Harm copies of traces once each, and read each with everything that reads traces.

    Args:
        count: faults of each kind.
        seed: draws traces and places.
        kinds: of `KINDS`; None for all.

    Returns:
        A row a kind of fault, and one of whole traces: faults; those that changed what a sealed trace proves, and for how
        many of them `compare --verify` refused to say MATCH; how often a reader was called, how often it answered that
        something cannot be read or told, and how often it failed in any other way. Every false MATCH, every failure, and
        every doubt about a whole trace is a note.
    """
    chosen = [*(kinds or KINDS)]
    rows, notes = [], []
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        samples = [write_sample(Path(folder) / name, name) for name in SAMPLES]
        progress = Progress("trace_faults", (count or FAULTS) * len(chosen) + len(samples))
        for kind in ["none", *chosen]:
            campaign = _Campaign(kind, samples, random.Random(f"{seed} {kind}"))
            for number in range((count or FAULTS) if kind != "none" else len(samples)):
                campaign.fault(number)
                progress.advance()
            rows.append(campaign.row())
            notes += campaign.notes
    total = sum(row["faults"] for row in rows[1:])
    found, harmed = (sum(row[name] for row in rows[1:]) for name in ("found", "harmed"))
    failed, calls = (sum(row[name] for row in rows) for name in ("failed", "calls"))
    notes.append(f"{total} faults: {found} of {harmed} harmed traces found by compare --verify, {failed} of {calls} calls failed")
    return {"rows": rows, "notes": notes}


class _Campaign:
    def __init__(self, kind: str, samples: list[Path], generator: random.Random) -> None:
        self._kind, self._samples, self._generator = kind, samples, generator
        self._counts: Counter[str] = Counter()
        self._seconds = 0.0
        self.notes: list[str] = []

    def row(self) -> dict[str, Any]:
        names = ("faults", "harmed", "found", "calls", "refused", "failed")
        each = 1000 * self._seconds / max(1, self._counts["calls"])
        return {"fault": self._kind, **{name: self._counts[name] for name in names}, "ms a call": each}

    def fault(self, number: int) -> None:
        """Harm a copy of a sample once and read it."""
        sample = self._samples[number % len(self._samples)]
        runs = sample.parent / "harmed"
        pair = Path(shutil.copytree(sample, runs / "pair"))
        harmed = RunDirectory(pair / "b")
        before = proven(harmed.trace_path)
        said = f"{self._kind} of {sample.name} {number}"
        if self._kind != "none":
            said += f", {KINDS[self._kind](harmed.trace_path, self._generator)}"
        self._counts["faults"] += 1
        whole = proven(harmed.trace_path) == before
        sealed = harmed.manifest().seal is not None
        matches = self._call(said, "compare --verify", compare_verified, pair)
        self._counts["harmed"] += sealed and not whole
        self._counts["found"] += sealed and not whole and not matches
        if matches and not whole:
            self.notes.append(f"{said}: compare --verify says MATCH")
        if self._kind == "none" and sealed and not matches:
            self.notes.append(f"{said}: compare --verify doubts a whole trace")
        for name, reader in READERS.items():
            self._call(said, name, reader, pair)
        if number % COMMANDS_EVERY == COMMANDS_EVERY - 1:
            self._call(said, "commands", run_commands, pair)
        shutil.rmtree(runs)

    def _call(self, said: str, name: str, reader: Callable[[Path, Path], Any], pair: Path) -> Any:
        """Read, count how that ends, and return what it gives."""
        self._counts["calls"] += 1
        begun = time.perf_counter()
        try:
            return reader(pair / "a", pair / "b")
        except ReprotuiError as error:
            self._counts["refused"] += 1
            if "\n" in str(error):
                self.notes.append(f"{said}: {name} says more than a line: {error}")
        except Exception as error:  # what no reader may let out is what is looked for
            self._counts["failed"] += 1
            self.notes.append(f"{said}: {name}: {type(error).__name__}: {error}")
        finally:
            self._seconds += time.perf_counter() - begun
        return None


def proven(path: Path) -> list[Any] | None:
    """Return what a trace proves, and its size; None where SQLite cannot read it through."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return [*(connection.execute(query).fetchall() for query in PROVEN), path.stat().st_size]
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def _flip(path: Path, generator: random.Random) -> str:
    content = bytearray(path.read_bytes())
    at, bit = generator.randrange(len(content)), generator.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {at}"


def _zero(path: Path, generator: random.Random) -> str:
    content = bytearray(path.read_bytes())
    at, length = generator.randrange(len(content)), generator.choice((1, 16, 200, PAGE, 3 * PAGE))
    content[at : at + length] = bytes(len(content[at : at + length]))
    path.write_bytes(content)
    return f"{length} bytes from byte {at}"


def _swap(path: Path, generator: random.Random) -> str:
    content = bytearray(path.read_bytes())
    pages = range(1, len(content) // PAGE)
    leaves = [page for page in pages if content[page * PAGE] == LEAF_PAGE]
    a, b = generator.sample(leaves if generator.random() < 0.75 else pages, 2)
    for_a, for_b = (bytes(content[page * PAGE : (page + 1) * PAGE]) for page in (b, a))
    content[a * PAGE : (a + 1) * PAGE], content[b * PAGE : (b + 1) * PAGE] = for_a, for_b
    path.write_bytes(content)
    return f"pages {a} and {b}"


def _truncate(path: Path, generator: random.Random) -> str:
    size = path.stat().st_size
    keep = generator.choice((generator.randrange(size), PAGE * generator.randrange(size // PAGE), size - 1))
    path.write_bytes(path.read_bytes()[:keep])
    return f"to {keep} of {size} bytes"


def _append(path: Path, generator: random.Random) -> str:
    length = generator.choice((1, 17, PAGE, 2 * PAGE))
    with path.open("ab") as file:
        file.write(generator.randbytes(length))
    return f"{length} bytes"


def _row(path: Path, generator: random.Random) -> str:
    with closing(sqlite3.connect(path)) as connection:
        last = connection.execute("SELECT max(step) FROM steps").fetchone()[0]
        a, b = generator.sample(range(last + 1), 2)
        statement = generator.choice(STATEMENTS)
        with connection:
            connection.execute(statement, {"a": a, "b": b})
    return f"{statement} with {a}, {b}"


KINDS = {"flip": _flip, "zero": _zero, "swap": _swap, "truncate": _truncate, "append": _append, "row": _row}
"""What is done to a file, by name; each returns where."""
