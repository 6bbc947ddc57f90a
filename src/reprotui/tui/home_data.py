"""What Home asks for, most of it in threads. No textual here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where it runs: the first frame waits for nothing
    from reprotui.lessons.catalog import Lesson
    from reprotui.race.entries import Entry
    from reprotui.race.presets import Preset
    from reprotui.race.start import Started
    from reprotui.tui.listing_watch import Lists


NAMED = 8
"""Deleted runs that are named one by one."""
ORDERS = ("age", "name", "experiment", "state", "steps", "loss", "verdict")
"""As `race.entries` has them, which a test holds together: it imports numpy, for which the first frame does not wait."""

GROUPS = ("host", "experiment", "config")
"""What a fleet can be grouped by."""


def arranged(entries: Sequence[Entry], text: str, order: str) -> list[Entry]:
    """Return the entries that match a text, in one of `ORDERS`, backwards with a minus before it."""
    found = matching(entries, text)
    if order == ORDERS[0] or not found:
        return found  # as they come
    from reprotui.race.entries import in_order

    return in_order(found, order.removeprefix("-"), order.startswith("-"))


def matching(entries: Sequence[Entry], text: str) -> list[Entry]:
    """Return the entries that contain every word of a text, in whatever they show."""
    words = text.lower().split()
    if not words:
        return list(entries)
    return [entry for entry in entries if all(word in shown(entry) for word in words)]


def shown(entry: Entry) -> str:
    """Return everything that a line of the list says."""
    verdict = entry.outcome.headline if entry.outcome else ""
    hosts = " ".join(host for member in entry.members for host in member.hosts)
    return f"{entry.name} {entry.experiment} {entry.state} {verdict} {entry.problem} {entry.note} {hosts}".lower()


def runs_listing(directory: Path) -> Lists:
    """Return what lists a runs directory."""
    from reprotui.race.listing import Listing

    return Listing(directory)


def fleet_listing(directories: Sequence[Path]) -> Lists:
    """Return what lists several runs directories, races and runs."""
    from reprotui.race.fleet import FleetListing

    return FleetListing(directories)


def is_empty(directory: Path) -> bool:
    """Say whether nothing is there: one look that costs nothing, so that the first frame is the right one."""
    try:
        with os.scandir(directory) as found:
            return next(found, None) is None
    except OSError:
        return True


def load_rest() -> tuple[Sequence[Preset], tuple[Lesson, ...], tuple[Entry, ...]]:
    """Return the ready-made races, the lessons and the sample runs."""
    from reprotui.lessons.catalog import all_lessons
    from reprotui.race.listing import Listing
    from reprotui.race.presets import PRESETS as READY
    from reprotui.race.samples import samples_directory

    samples = samples_directory()
    entries = () if samples is None else tuple(sorted(Listing(samples).read(), key=lambda entry: entry.name))
    return READY, all_lessons(), entries


def start_first(runs: Path) -> Started:
    """Start the first of the ready-made races."""
    from reprotui.race.presets import PRESETS as READY

    return READY[0].start(runs)


def delete_all(runs: Path, paths: Sequence[Path]) -> str:
    """Delete runs and races; return their names, or how many they are.

    Raises:
        BadInputError: some could not be deleted; all others are.
    """
    from reprotui.errors import BadInputError
    from reprotui.race.delete import delete

    failed = []
    for path in paths:
        try:
            delete(runs, path)
        except BadInputError as error:
            failed.append(str(error))
    if failed:
        raise BadInputError(f"{len(paths) - len(failed)} deleted; {'; '.join(failed[:3])}{' …' if len(failed) > 3 else ''}")
    return ", ".join(path.name for path in paths) if len(paths) <= NAMED else f"{len(paths)} runs and races"
