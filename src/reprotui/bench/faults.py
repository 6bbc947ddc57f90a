"""Campaign: one fault in each of many checkpoints. Is every one found, and are whole checkpoints never suspected?"""

import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from reprotui.bench import checkpoint_samples as samples
from reprotui.bench.common import Progress, in_child, say
from reprotui.checkpoints.damage import Damage, applicable, copy_checkpoint, damage
from reprotui.checkpoints.register import register
from reprotui.checkpoints.registry import registry_path
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.integrity.manifest import Identity, manifest_path
from reprotui.integrity.status import Result, Status

FAULTS = 2000
SAMPLES = 5
"""Checkpoints of each format that are harmed in turn."""
CYCLES = 200


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

    def run(self, faults: int, whole: int) -> tuple[dict[str, Any], list[str]]:
        """Run the whole ones, then the faults; return the row and the notes."""
        notes = []
        alarms = 0
        progress = Progress(f"{self._format}", whole + faults)
        for number in range(whole):
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
        """Register a checkpoint that was just saved, copy it, move the copy, verify.

        Half of them keep their registry, half lie with their manifest alone.
        """
        path = self._directory / f"{self._format}-{number}"
        registry_path(self._directory).touch()
        leaves = samples.state(self._seed + number, samples.has_bfloat16(self._format))
        register(path, Identity(step=number), samples.content(leaves))
        copy = copy_checkpoint(path, self._directory / "copied")
        moved = self._directory / "moved"
        moved.mkdir()
        shutil.move(copy, moved / copy.name)
        shutil.move(manifest_path(copy), moved)
        if number % 2:
            shutil.move(registry_path(copy.parent), moved)
        result = verify_checkpoint(moved / copy.name, "content")
        shutil.rmtree(copy.parent)
        shutil.rmtree(moved)
        return result

    def _fault(self, number: int) -> tuple[Damage, Result]:
        """Harm a copy once; return what was done, and what verification says."""
        folder = self._directory / "damaged"
        copy = copy_checkpoint(self._directory / f"{self._format}-{number}", folder)
        kinds = applicable(copy)
        # Half of the faults are flips, the kind that nothing else notices.
        kind = "flip" if self._generator.random() < 0.5 else self._generator.choice(kinds)
        done = damage(copy, kind, self._generator)
        result = verify_checkpoint(copy, "content")
        shutil.rmtree(folder)
        return done, result
