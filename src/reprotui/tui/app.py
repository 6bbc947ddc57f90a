"""The application: which screen, theme, signs, keys; everything else is in the screens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.filter import LineFilter

from reprotui.settings import Settings, load_settings, remember, remembered
from reprotui.tui.actions import ACTIONS, EVERYWHERE
from reprotui.tui.ascii_filter import AsciiFilter
from reprotui.tui.screens.base import ActionScreen, _binding
from reprotui.tui.symbols import choose
from reprotui.tui.theme import NAMES, THEMES

COPY_FILE = "reprotui-copied.txt"
"""Beside the settings: what was copied last, for terminals that drop the clipboard sequence."""


def _step_provider() -> Any:
    from reprotui.tui.palette import StepProvider  # textual's palette is not part of the first frame

    return StepProvider


class DashboardApp(App[int]):
    """The dashboard.

    Args:
        runs: the runs directory.
        paths: runs or races to open at once; none opens Home.
        settings: None reads those of the user.
        symbols: `auto`, `unicode` or `ascii`; None takes that of the settings.
        processes: workers of `paths` that this process started, by label.
        at_divergence: `stop` or `pause`: what the runs of `paths` are asked for at the first difference.
    """

    TITLE = "reprotui"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [_binding(item) for item in ACTIONS if item.screen == EVERYWHERE]
    COMMANDS: ClassVar[set[Any]] = App.COMMANDS | {_step_provider}

    def __init__(
        self, runs: Path, paths: Sequence[Path] = (), settings: Settings | None = None, symbols: str | None = None,
        processes: Mapping[str, Any] | None = None, at_divergence: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._at_divergence = at_divergence
        self.runs_directory = runs
        self.settings = load_settings() if settings is None else settings
        self.symbols = choose(symbols or self.settings.symbols)
        self._ascii_filters = [AsciiFilter()] if self.symbols.ascii else []
        self.keymap_settings = dict(self.settings.keys)
        self._paths = list(paths)
        self._processes = dict(processes or {})
        for item in THEMES:
            self.register_theme(item)
        theme = str(remembered().get("theme") or self.settings.theme)
        self.theme = theme if theme in NAMES else NAMES[0]
        if self.keymap_settings:
            self.set_keymap(self.keymap_settings)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return the variables of the first theme: styles are read before a theme is set."""
        return THEMES[0].variables

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return what every line passes on its way to the terminal."""
        return [*super().get_line_filters(), *self._ascii_filters]

    def on_mount(self) -> None:
        if self._paths:
            self.open_runs(self._paths, self._processes, self._at_divergence)
        else:
            from reprotui.tui.screens.home import HomeScreen

            self.push_screen(HomeScreen(self.runs_directory))

    def open_runs(
        self, paths: Sequence[Path], processes: Mapping[str, Any] | None = None, at_divergence: str | None = None
    ) -> None:
        """Open runs or races on a screen of their own; what cannot be opened is said, and nothing else changes."""
        from reprotui.errors import ReprotuiError
        from reprotui.race.monitor import members
        from reprotui.tui.screens.race import RaceScreen

        try:
            runs = members(paths)
        except ReprotuiError as error:
            self.notify(str(error), severity="error", timeout=8, markup=False)
            return
        at_divergence = at_divergence or ("stop" if self.settings.stop_at_divergence else None)
        self.push_screen(RaceScreen(runs, processes or {}, at_divergence))

    def copy(self, text: str, what: str) -> None:
        """Copy to the terminal's clipboard and to a file, and say both: many terminals drop the sequence silently."""
        from reprotui.settings import state_directory

        self.copy_to_clipboard(text)
        path = state_directory() / COPY_FILE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            self.notify(f"{what} sent to the terminal's clipboard; {path} cannot be written: {error.strerror}", markup=False)
            return
        self.notify(f"{what} copied to the terminal's clipboard, and to {path}", timeout=4, markup=False)

    async def action_back(self) -> None:
        """Peel one layer: inside the screen first, then the screen; Home stays."""
        screen = self.screen
        if isinstance(screen, ActionScreen) and screen.go_back():
            return
        if len(self.screen_stack) > 2:
            await self.pop_screen()
        elif isinstance(screen, ActionScreen) and screen.NAME != "home":
            from reprotui.tui.screens.home import HomeScreen

            await self.switch_screen(HomeScreen(self.runs_directory))
        else:
            self.notify("nothing left to close; q leaves the dashboard", timeout=3)

    def action_help(self) -> None:
        """Show the keys of the current screen."""
        from reprotui.tui.screens.help import HelpScreen

        if isinstance(self.screen, ActionScreen):
            self.push_screen(HelpScreen(self.screen.NAME, self.symbols, self.keymap_settings))

    def action_theme(self) -> None:
        """Take the next theme, and remember it."""
        names = list(NAMES)
        self.theme = names[(names.index(self.theme) + 1) % len(names)]
        remember("theme", self.theme)
        self.notify(f"theme: {self.theme}", timeout=2)

    async def action_quit(self) -> None:
        """Leave; runs go on."""
        self.exit(0)

    def get_system_commands(self, screen: Any) -> Any:
        """Fill the palette from the table of actions: those of this screen, then those that hold everywhere."""
        from reprotui.tui.palette import commands

        for title, text, call in commands(self, screen):
            yield SystemCommand(title, text, call)


def run_dashboard(
    runs: Path, paths: Sequence[Path] = (), symbols: str | None = None, processes: Mapping[str, Any] | None = None,
    at_divergence: str | None = None,
) -> int:  # fmt: skip
    """Open the dashboard and return its exit code; it gives way to the runs that it watches."""
    from reprotui.race.priority import give_way

    give_way()
    app = DashboardApp(runs, paths, symbols=symbols, processes=processes, at_divergence=at_divergence)
    code = app.run()
    return int(code or 0) or int(app.return_code or 0)
