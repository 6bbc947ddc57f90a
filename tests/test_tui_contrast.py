"""Contrast of everything that is read, in every theme, by the definition of WCAG 2: from the styles that reach the terminal."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.color import Color
from rich.segment import Segment

from pilots import Dashboard, dashboard, drive
from reprotui.settings import Settings
from reprotui.tui.screens.new_race import NewRaceScreen
from reprotui.tui.theme import NAMES, THEMES

pytestmark = pytest.mark.usefixtures("own_settings")
TEXT = 4.5
"""The least contrast of text that is not large (WCAG 2, 1.4.3)."""
MARKS = 3.0
"""The least contrast of signs that are no letters: curves, bars, heat maps (1.4.11); lines around panes are decoration."""
SIGNS = "=≠≈?!–Δ▸▾●┊"
DECORATION = "─━│┃╭╮╰╯┌┐└┘├┤┬┴┼▁▂▃▄▅▆▇▔▎▏▕▊▌▐"


def luminance(color: Color) -> float:
    parts = [value / 255 for value in color.get_truecolor()]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: Color, b: Color) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def faint(segments: list[Segment]) -> Iterator[str]:
    """Yield what is hard to read of a line."""
    for text, style, control in segments:
        read = "".join(character for character in text if character.isalnum() or character in SIGNS)
        drawn = "".join(character for character in text if not character.isspace() and character not in DECORATION)
        if control or not drawn:
            continue
        assert style is not None and style.color is not None and style.bgcolor is not None, repr(text)
        color, background = (style.bgcolor, style.color) if style.reverse else (style.color, style.bgcolor)
        least, found = TEXT if read else MARKS, contrast(color, background)
        if found < least or style.dim:
            yield f"{found:.2f} {color.get_truecolor().hex} on {background.get_truecolor().hex}: {text.strip()[:60]!r}"


def faint_texts(driven: Dashboard) -> list[str]:
    """Return what is hard to read of what is on the terminal now; of a dialog that alone: what lies behind it is dimmed."""
    screen = driven.app.screen
    strips = screen._compositor.render_strips()
    if screen.is_modal:
        areas = [widget.region for widget in screen.children if widget.region.area and widget.display]
        strips = [
            strips[y].crop(area.x, area.right) for area in areas for y in range(max(0, area.y), min(area.bottom, len(strips)))
        ]
    return list(dict.fromkeys(found for strip in strips for found in faint(list(strip))))


async def in_every_theme(driven: Dashboard, what: str) -> None:
    for name in NAMES:
        driven.app.theme = name
        await driven.pilot.pause()
        await driven.pilot.pause()
        assert not (found := faint_texts(driven)), f"{what}, theme {name}:\n" + "\n".join(found)


SIZES = ((80, 24), (150, 44))


@pytest.mark.slow
@pytest.mark.parametrize("state", ["bit-flip", "identical", "nan-loss", "killed"])
def test_races_and_their_steps_can_be_read_in_every_theme(sample: Any, state: str) -> None:
    async def look() -> None:
        async with dashboard(sample(state), size=SIZES[1]) as driven:
            for size in SIZES if state == "bit-flip" else SIZES[1:]:
                await driven.pilot.resize_terminal(*size)
                await in_every_theme(driven, f"race of {state}")
                await driven.press("enter", "tab")
                await in_every_theme(driven, f"step of {state}")
                await driven.press("escape", "escape")
                assert driven.app.screen is driven.race

    drive(look())


async def keys(driven: Dashboard, *names: str) -> None:
    for name in names:
        await driven.press(name)


DIALOGS: dict[str, Callable[[Dashboard], Awaitable[None]]] = {
    "home": lambda driven: keys(driven),
    "home, ready-made": lambda driven: keys(driven, "tab"),
    "home, lessons": lambda driven: keys(driven, "T"),
    "a lesson": lambda driven: keys(driven, "T", "enter"),
    "home, marked": lambda driven: keys(driven, "space"),
    "home, filter": lambda driven: keys(driven, "slash"),
    "help": lambda driven: keys(driven, "question_mark"),
    "legend": lambda driven: keys(driven, "i"),
    "deleting": lambda driven: keys(driven, "D"),
    "palette": lambda driven: keys(driven, "ctrl+p"),
    "report": lambda driven: keys(driven, "enter", "e"),
    "checkpoints": lambda driven: keys(driven, "enter", "c"),
    "a key of checkpoints": lambda driven: keys(driven, "enter", "c", "K"),
    "a notification": lambda driven: keys(driven, "escape"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", DIALOGS)
def test_screens_and_dialogs_can_be_read_in_every_theme(sample: Any, tmp_path: Path, what: str) -> None:
    sample("bit-flip")

    async def look() -> None:
        async with dashboard(runs=tmp_path, size=SIZES[1]) as driven:
            await driven.until("the list", lambda: "bit-flip" in driven.text())
            await DIALOGS[what](driven)
            await in_every_theme(driven, what)

    drive(look())


def test_how_to_begin_can_be_read_in_every_theme(tmp_path: Path) -> None:
    async def look() -> None:
        async with dashboard(runs=tmp_path, size=SIZES[0]) as driven:
            await driven.until("how to begin", lambda: "start the first race" in driven.text())
            await in_every_theme(driven, "home, empty")

    drive(look())


def test_the_form_can_be_read_in_every_theme(tmp_path: Path) -> None:
    async def look() -> None:
        async with dashboard(runs=tmp_path, size=SIZES[1]) as driven:
            await driven.press("a")
            assert isinstance(driven.app.screen, NewRaceScreen)
            await in_every_theme(driven, "form")
            await driven.press("enter")
            await in_every_theme(driven, "form, editing")

    drive(look())


@pytest.mark.slow
def test_a_colour_that_is_too_faint_is_found(sample: Any) -> None:
    """Of the detector: each theme's own muted colour made fainter is seen at once."""

    async def look(name: str) -> None:
        async with dashboard(
            sample("identical") if name == NAMES[0] else path, size=SIZES[0], settings=Settings(theme=name)
        ) as driven:
            theme = next(theme for theme in THEMES if theme.name == name)
            assert not faint_texts(driven)
            driven.app.register_theme(
                type(theme)(**{**vars(theme), "variables": {**theme.variables, "muted": theme.panel or ""}})
            )
            driven.app.refresh_css()
            await driven.steady()
            assert faint_texts(driven)

    path = Path("identical")
    for name in NAMES:
        drive(look(name))
