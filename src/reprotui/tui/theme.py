"""Themes: Okabe-Ito colours in each, told apart by people who do not see red and green; signs carry the meaning anyway."""

from textual.theme import Theme

RUNS_DARK = ("#56b4e9", "#e69f00", "#2fbf94", "#d48db3", "#f0e442", "#7ea9e6", "#e09a6c", "#b9b9b9")
RUNS_LIGHT = ("#00619a", "#805300", "#00684e", "#8f3f6d", "#665c00", "#33508d", "#8a4526", "#555555")
RUNS_CONTRAST = ("#7cc8f5", "#f5ac1c", "#4ee0b4", "#e3a6c8", "#f0e442", "#a3c2f2", "#f0b48c", "#cfcfcf")
"""Colours of runs A to H. They, and all that is written, have a contrast of 4.5 against every background of their theme:
screen, surface, panel, the cursor's row and the first difference's (a test computes it from what is drawn)."""


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
        "dark", True, RUNS_DARK, "#12161c", "#dfe3e8", "#ff8442", surface="#1a2028", panel="#2a323d", equal="#2fbf94",
        unknown="#e6b800", muted="#9aa5b3", on_verdict="#0b0e12", cursor="#2a3749", first_row="#3d2619",
    ),
    _theme(
        "light", False, RUNS_LIGHT, "#fbfbf9", "#1d232b", "#a34300", surface="#f1f1ee", panel="#dfe0dc", equal="#006a4f",
        unknown="#6f5800", muted="#58606a", on_verdict="#ffffff", cursor="#d3e3f0", first_row="#fbe3d2",
    ),
    _theme(
        "contrast", True, RUNS_CONTRAST, "#000000", "#ffffff", "#ffa05c", surface="#000000", panel="#404040", equal="#4ee0b4",
        unknown="#ffd500", muted="#c8c8c8", on_verdict="#000000", cursor="#003a66", first_row="#5a2500",
    ),
)  # fmt: skip
NAMES = tuple(theme.name for theme in THEMES)
