"""The palette: every action of the screen by its name, and `go to step N`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from textual.app import App
from textual.command import DiscoveryHit, Hit, Hits, Provider

from reprotui.tui.actions import EVERYWHERE, key_name, keys_of, of_screen
from reprotui.tui.screens.base import ActionScreen


def commands(app: App[Any], screen: Any) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Yield title, help and call of every action that can be asked for on a screen."""
    if not isinstance(screen, ActionScreen):
        return
    keymap = screen.dashboard.keymap_settings
    for item in of_screen(screen.NAME):
        if item.method == "command_palette":
            continue
        keys = " ".join(key_name(key) for key in keys_of(item, keymap))
        call: Callable[[], Any] = (
            getattr(app, f"action_{item.method}") if item.screen == EVERYWHERE else partial(screen.action_do, item.id)
        )
        yield f"{item.text.capitalize()}  ({keys})", item.help, call


class StepProvider(Provider):
    """`go to step 1234`: any number that is typed."""

    async def discover(self) -> Hits:
        if hasattr(self.screen, "go_to_step"):
            yield DiscoveryHit("Go to step N", lambda: None, help="type a number, as in: step 1234")

    async def search(self, query: str) -> Hits:
        go = getattr(self.screen, "go_to_step", None)
        digits = "".join(character for character in query if character.isdigit())
        if go and digits:
            yield Hit(1.0, f"Go to step {int(digits)}", partial(go, int(digits)), help="put the cursor there")
