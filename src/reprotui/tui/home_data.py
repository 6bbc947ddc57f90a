"""What Home asks for, most of it in threads. No textual here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where it runs: the first frame waits for nothing
    from reprotui.race.entries import Entry
    from reprotui.race.presets import Preset
    from reprotui.race.start import Started


def matching(entries: Sequence[Entry], text: str) -> list[Entry]:
    """Return the entries that contain every word of a text, in whatever they show."""
    words = text.lower().split()
    if not words:
        return list(entries)
    return [entry for entry in entries if all(word in shown(entry) for word in words)]


def shown(entry: Entry) -> str:
    """Return everything that a line of the list says."""
    verdict = entry.outcome.headline if entry.outcome else ""
    return f"{entry.name} {entry.experiment} {entry.state} {verdict} {entry.problem}".lower()


def load_rest() -> tuple[Sequence[Preset], tuple[Entry, ...]]:
    """Return the ready-made races and the sample runs."""
    from reprotui.race.listing import Listing
    from reprotui.race.presets import PRESETS as READY
    from reprotui.race.samples import samples_directory

    samples = samples_directory()
    return READY, () if samples is None else tuple(sorted(Listing(samples).read(), key=lambda entry: entry.name))


def start_first(runs: Path) -> Started:
    """Start the first of the ready-made races."""
    from reprotui.race.presets import PRESETS as READY

    return READY[0].start(runs)


def delete_all(runs: Path, paths: Sequence[Path]) -> str:
    """Delete runs and races; return their names."""
    from reprotui.race.delete import delete

    for path in paths:
        delete(runs, path)
    return ", ".join(path.name for path in paths)
