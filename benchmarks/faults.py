"""Campaign: one fault in each of many checkpoints. Is every one found, and are whole checkpoints never suspected?

Each lies in a run, with its manifest and with a registry in which two earlier ones were saved and removed.
"""

import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import checkpoint_samples as samples
from benchmarks.common import Progress, in_child, say
from reprotui.checkpoints.damage import Damage, applicable, copy_checkpoint, damage
from reprotui.checkpoints.prune import remove
from reprotui.checkpoints.register import register
from reprotui.checkpoints.registry import registry_path
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.integrity.manifest import identity_of_run
from reprotui.integrity.status import Result, Status
from reprotui.manifest import RunManifest
from reprotui.run_directory import write_json
from reprotui.schedule import CHECKPOINTS

FAULTS = 2000
SAMPLES = 5
"""Checkpoints of each format that are harmed in turn."""
CYCLES = 200
STEP = 3
BESIDE = ["manifest", "registry"]
"""Kinds of damage of the files that a checkpoint is held against."""
MANIFEST = {"manifest_version": 1, "name": "faults", "created_ns": 1, "config": {}, "experiment": {"name": "faults"}}
"""`run.json` of the runs."""


def run(count: int | None = None, seed: int = 0, *, cycles: int = CYCLES, formats: list[str] | None = None) -> dict[str, Any]:
    """Harm copies of checkpoints once each and verify them; then save, copy, move and verify whole ones.

    Args:
        count: faults for each format.
        seed: draws states, kinds and places.
        cycles: whole checkpoints, over all formats.
        formats: of `checkpoint_samples.FORMATS`; None for all.

    Returns:
        A row a format: faults; how many were found; for how many of them the leaf is named besides the file; whole
        checkpoints verified and how many of them were suspected; milliseconds to copy, harm and verify one. Every fault
        that was not found, and every false alarm, is a note.
    """
    chosen = formats or list(samples.FORMATS)
    rows, notes = [], []
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        directory = Path(folder)
        whole = max(SAMPLES, -(-cycles // len(chosen)))
        say("saving checkpoints")
        made = in_child("checkpoint_samples", {"count": whole, "seed": seed, "directory": folder, "formats": chosen})
        for row in made["rows"]:
            found, said = _Campaign(row["format"], directory, seed).run(count or FAULTS, whole)
            rows.append(found)
            notes += said
        notes += [f"{missing} is not installed: not measured" for missing in chosen if missing not in {r["format"] for r in rows}]
    total = sum(row["faults"] for row in rows)
    notes.append(
        f"{sum(row['found'] for row in rows)} of {total} faults found; 0 misses bound the rate by {3 / total:.1g} at 95 %"
    )
    return {"rows": rows, "notes": notes}


class _Campaign:
    def __init__(self, format_: str, directory: Path, seed: int) -> None:
        self._format, self._directory, self._seed = format_, directory, seed
        self._generator = random.Random(f"{seed} {format_}")

    def _checkpoint(self, number: int) -> Path:
        return self._directory / f"{self._format}-run-{number}" / CHECKPOINTS / str(STEP)

    def _register(self, number: int) -> None:
        """Make a run of a checkpoint that was just saved."""
        checkpoint, saved = self._checkpoint(number), self._directory / f"{self._format}-{number}"
        checkpoint.parent.mkdir(parents=True)
        write_json(checkpoint.parent.parent / "run.json", MANIFEST)
        content = samples.content(samples.state(self._seed + number, samples.has_bfloat16(self._format)))
        for step in range(1, STEP):
            path = copy_checkpoint(saved, checkpoint.parent / "of").rename(checkpoint.with_name(str(step)))
            register(path, identity_of_run(RunManifest.parse(MANIFEST, "run.json"), step), content)
            remove(path)
        (checkpoint.parent / "of").rmdir()
        saved.rename(checkpoint)
        register(checkpoint, identity_of_run(RunManifest.parse(MANIFEST, "run.json"), STEP), content)

    def run(self, faults: int, whole: int) -> tuple[dict[str, Any], list[str]]:
        """Run the whole ones, then the faults; return the row and the notes."""
        notes = []
        alarms = 0
        progress = Progress(f"{self._format}", whole + faults)
        for number in range(whole):
            self._register(number)
            result = self._cycle(number)
            alarms += result.status is not Status.VALID
            if result.status is not Status.VALID:
                notes.append(f"{self._format}: whole checkpoint {number} was said to be {result.status}: {result.findings[0]}")
            progress.advance()
        found = named = 0
        seconds = 0.0
        for number in range(faults):
            begun = time.perf_counter()
            done, result = self._fault(number % SAMPLES)
            seconds += time.perf_counter() - begun
            found += result.status is not Status.VALID
            named += any(finding.leaf for finding in result.findings)
            if result.status is Status.VALID:
                notes.append(f"{self._format}: not found: {done}")
            progress.advance()
        row = {
            "format": self._format, "faults": faults, "found": found, "leaf named": named, "whole": whole, "false alarms": alarms,
            "ms each": 1000 * seconds / max(1, faults),
        }  # fmt: skip
        return row, notes

    def _cycle(self, number: int) -> Result:
        """Copy a checkpoint, move the copy, verify.

        One third lies with its manifest alone, one third in a run with a registry, and one third in a run where a crash cut
        off what was appended to the registry.
        """
        copy = self._copy(self._checkpoint(number), self._directory / "copied")
        run = copy.parent.parent.rename(self._directory / "moved")
        moved = run / CHECKPOINTS / copy.name
        if number % 3 == 0:
            (run / "run.json").unlink()
            registry_path(moved.parent).unlink()
        elif number % 3 == 1:
            last = registry_path(moved.parent).read_bytes().splitlines(keepends=True)[-1]
            with registry_path(moved.parent).open("ab") as file:
                file.write(b"#" + last[1 : 1 + self._generator.randrange(len(last))])
        result = verify_checkpoint(moved, "content")
        shutil.rmtree(run)
        return result

    def _fault(self, number: int) -> tuple[Damage, Result]:
        """Harm a copy once; return what was done, and what verification says."""
        copy = self._copy(self._checkpoint(number), self._directory / "damaged")
        # Many faults are flips, the kind that nothing else notices, and many harm what the checkpoint is held against.
        kinds = self._generator.choices((["flip"], BESIDE, applicable(copy)), (2, 1, 2))[0]
        done = damage(copy, self._generator.choice(kinds), self._generator)
        result = verify_checkpoint(copy, "content")
        shutil.rmtree(self._directory / "damaged")
        return done, result

    @staticmethod
    def _copy(checkpoint: Path, run: Path) -> Path:
        copy = copy_checkpoint(checkpoint, run / CHECKPOINTS)
        shutil.copy2(checkpoint.parent.parent / "run.json", run)
        return copy
