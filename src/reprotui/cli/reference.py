"""The pages that are made from the program, `commands.md` and `keys.md`: `python -m reprotui.cli.reference docs` writes them."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from reprotui.cli import build_parser
from reprotui.tui.actions import ACTIONS, EVERYWHERE, key_name, keys_of

WIDTH = "100"
"""Columns of the help texts; argparse takes the terminal's otherwise."""
SCREENS = {
    EVERYWHERE: "Everywhere", "home": "Home", "new": "New race", "race": "Race", "step": "Step", "checkpoints": "Checkpoints",
    "lesson": "Lesson", "diagnosis": "Diagnosis",
}  # fmt: skip
COMMANDS = """# Commands

Results go to stdout, narration to stderr; `--json` gives one object. Runs are kept in `--runs-dir`, `$REPROTUI_RUNS` or `./runs`.
Ctrl-C stops the workers after their step; their traces are sealed and readable.

| exit code | |
|---|---|
| 0 | same, valid, nothing found |
| 1 | differs, invalid, something found |
| 2 | bad input, said in one line |
| 3 | cannot tell |
| 4 | a worker, or reprotui itself, failed |
| 130 | interrupted |
"""
KEYS = """# Keys

Each action can have another key: `reprotui config show --example` lists their ids. A letter means the same on every screen where
it means anything; what ends a training or deletes something needs a capital. `h`, `j`, `k`, `l` and the arrows move. A click on a
key in the footer does what the key does.
"""


def commands() -> str:
    """Return the page of all commands, with their own help."""
    os.environ["COLUMNS"] = WIDTH
    found = list(_parsers(build_parser(), "reprotui"))
    lines = [COMMANDS, "| command | what it does |", "|---|---|"]
    lines += [f"| [`{name}`](#{name.replace(' ', '-')}) | {_cell(summary)} |" for name, summary, _ in found]
    for name, _, parser in found:
        lines += ["", f"## {name}", "", "```", parser.format_help().rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _parsers(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for word, sub in action.choices.items():
                below = list(_parsers(sub, f"{name} {word}"))
                if not below:
                    yield f"{name} {word}", summaries.get(word, ""), sub
                yield from below


def keys() -> str:
    """Return the page of all keys, screen by screen."""
    lines = [KEYS]
    for screen, title in SCREENS.items():
        lines += [f"## {title}", "", "| key | action | |", "|---|---|---|"]
        for action in ACTIONS:
            if action.screen == screen:
                names = " ".join(f"`{_cell(key_name(key, ascii_only=False))}`" for key in keys_of(action, {}))
                lines.append(f"| {names} | {_cell(action.text)} | {_cell(action.help)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return text.replace("%%", "%").replace("|", "\\|")


PAGES = {"commands": commands, "keys": keys}

if __name__ == "__main__":
    for name, text in PAGES.items():
        (Path(sys.argv[1]) / f"{name}.md").write_text(text(), encoding="utf-8")
