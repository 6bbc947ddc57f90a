"""Themes: Okabe-Ito colours in each, told apart by people who do not see red and green; signs carry the meaning anyway."""

from textual.theme import Theme

RUNS_DARK = ("#56b4e9", "#e69f00", "#2fbf94", "#cc79a7", "#f0e442", "#5b8fd6", "#d98a5b", "#b9b9b9")
RUNS_LIGHT = ("#0072b2", "#a86e00", "#00785a", "#a04d7c", "#8a7d00", "#3a5a9c", "#a0522d", "#5a5a5a")
"""Colours of runs A to H, each against the theme's background."""


def _theme(name: str, dark: bool, runs: tuple[str, ...], background: str, foreground: str, differs: str, **more: str) -> Theme:
    surface, panel, equal, unknown, muted = more["surface"], more["panel"], more["equal"], more["unknown"], more["muted"]
    variables = {f"run-{letter}": colour for letter, colour in zip("abcdefgh", runs, strict=True)}
    variables |= {
        "differs": differs, "equal": equal, "unknown": unknown, "muted": muted, "on-verdict": more["on_verdict"],
        "first-row": more["first_row"],
        "verdict-differs": more.get("verdict_differs", differs), "footer-key-foreground": runs[0],
        "block-cursor-background": more["cursor"], "block-cursor-foreground": foreground,
        "block-cursor-text-style": "bold", "input-selection-background": f"{runs[0]} 35%", "border": muted,
        "border-blurred": panel, "scrollbar": muted, "scrollbar-background": background,
    }  # fmt: skip
    return Theme(
        name, primary=runs[0], secondary=runs[1], accent=runs[1], warning=unknown, error=differs, success=equal,
        foreground=foreground, background=background, surface=surface, panel=panel, dark=dark, variables=variables,
    )  # fmt: skip


THEMES = (
    _theme(
        "dark", True, RUNS_DARK, "#12161c", "#dfe3e8", "#ff7a33", surface="#1a2028", panel="#2a323d", equal="#2fbf94",
        unknown="#e6b800", muted="#7d8896", on_verdict="#0b0e12", cursor="#2c3a4d", first_row="#43291b",
    ),
    _theme(
        "light", False, RUNS_LIGHT, "#fbfbf9", "#1d232b", "#c04f00", surface="#f1f1ee", panel="#d9dad6", equal="#00785a",
        unknown="#8a6d00", muted="#6a727c", on_verdict="#ffffff", cursor="#cfe0ee", first_row="#fbdfcb",
    ),
    _theme(
        "contrast", True, RUNS_DARK, "#000000", "#ffffff", "#ff8c42", surface="#000000", panel="#4d4d4d", equal="#4ee0b4",
        unknown="#ffd500", muted="#b5b5b5", on_verdict="#000000", cursor="#003a66", first_row="#5a2500",
    ),
)  # fmt: skip
NAMES = tuple(theme.name for theme in THEMES)
