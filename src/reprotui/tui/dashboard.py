"""What a screen may ask of the application. The application knows the screens; they know no more of it than this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from textual.dom import DOMNode

from reprotui.run_directory import RunDirectory
from reprotui.settings import Settings
from reprotui.tui.symbols import Symbols

if TYPE_CHECKING:
    from reprotui.race.launch import Worker
    from reprotui.race.start import Started


class Dashboard(Protocol):
    """The application as its screens see it; `keymap_settings` are keys of the settings, by the action's id."""

    runs_directory: Path
    settings: Settings
    symbols: Symbols
    keymap_settings: dict[str, str]

    def open_runs(
        self, paths: Sequence[Path], processes: Mapping[str, Worker] | None = None, at_divergence: str | None = None
    ) -> None:
        """Open runs or races on a screen of their own."""

    def open_started(self, started: Started) -> None:
        """Open a race that was just started here."""

    def open_diagnosis(self, runs: Sequence[RunDirectory]) -> None:
        """Open the search for the cause of the difference of a race's runs."""

    def copy(self, text: str, what: str) -> None:
        """Copy to the clipboard and to a file, and say both."""

    def end_with(self, error: Exception) -> None:
        """End because of an error that nobody foresaw."""


def dashboard_of(node: DOMNode) -> Dashboard:
    """Return the application that a screen or widget belongs to, by what it may be asked."""
    return cast(Dashboard, node.app)
