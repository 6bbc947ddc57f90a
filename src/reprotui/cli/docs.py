"""`reprotui docs`: the pages of the documentation, to read in the terminal; printed where there is none."""

import argparse
import sys
from typing import Any

from reprotui.cli import common
from reprotui.errors import SAME


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "docs",
        "read the documentation in the terminal",
        """reprotui docs                     (the list of pages)
        reprotui docs verdicts            (how it decides)
        reprotui docs own-code | less     (as Markdown)""",
        description="Read the documentation in the terminal; where stdout is none, a page is printed as Markdown.",
    )
    parser.add_argument("page", nargs="?", default="", metavar="PAGE", help="a page, by its name; the list of all without one")
    common.add_symbols(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Show a page, or print it."""
    from reprotui.pages import read_page

    text = read_page(parsed.page)
    if sys.stdin.isatty() and sys.stdout.isatty():
        common.need_terminal("reprotui docs PAGE | cat")
        from reprotui.tui.reader import ReaderApp

        ReaderApp(parsed.page, parsed.symbols).run()
    else:
        common.say(*text.rstrip("\n").split("\n"))
    return SAME
