"""The pages: those made from the program are as it is, links lead somewhere, and the terminal shows them."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Markdown

from conftest import Cli
from pilots import drive
from reprotui.cli import build_parser, reference
from reprotui.errors import USAGE, BadInputError
from reprotui.pages import ORDER, pages_directory, read_page
from reprotui.tui.reader import ReaderApp

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_page_that_is_made_from_the_program_is_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # nothing of the terminal is in it
    text, kept = reference.PAGES[name](), (ROOT / "docs" / f"{name}.md").read_text()
    if sys.version_info[:2] != (3, 11):  # argparse lays its help out otherwise in each version
        text, kept = (" ".join(re.findall(r"(?m)^(?:##|\|) .*$", page)) for page in (text, kept))
    assert text == kept, "python -m reprotui.cli.reference docs"


def test_every_command_and_every_action_stands_there() -> None:
    names = [name for name, _, _ in reference._parsers(build_parser(), "reprotui")]
    assert len(names) > 30
    assert all(f"\n## {name}\n" in (ROOT / "docs" / "commands.md").read_text() for name in names)


def test_links_lead_to_files_and_every_page_is_reached() -> None:
    pages = {path.stem: path.read_text() for path in (ROOT / "docs").glob("*.md")}
    assert set(pages) == set(ORDER)
    linked = set()
    for place, text in [(ROOT, (ROOT / "README.md").read_text()), *((ROOT / "docs", text) for text in pages.values())]:
        for target in LINK.findall(text):
            if "://" not in target:
                assert (place / target).exists(), target
                linked.add(Path(target).stem)
    assert set(ORDER) <= linked


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_a_page_is_printed_where_there_is_no_terminal(reprotui: Cli) -> None:
    listed = reprotui("docs").stdout
    assert all(f"reprotui docs {page}" in listed for page in ORDER)
    page = reprotui("docs", "dashboard").stdout
    assert page.startswith("# The dashboard\n")
    assert "](../screenshots" not in page
    assert "there is no page 'dashbord'; there are own-code" in reprotui("docs", "dashbord", exit_code=USAGE).stderr


def test_an_installation_without_pages_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert pages_directory() is not None
    monkeypatch.setattr("reprotui.pages.__file__", str(tmp_path / "a" / "b" / "pages.py"))
    with pytest.raises(BadInputError, match="docs/ of the repository"):
        read_page("")


@pytest.mark.parametrize("size", [(80, 24), (40, 12)])
def test_the_reader_follows_links_and_comes_back(own_settings: Path, size: tuple[int, int]) -> None:
    async def story() -> None:
        app = ReaderApp("", "ascii")
        async with app.run_test(size=size) as pilot:

            async def shown(text: str) -> None:
                for _ in range(200):
                    await pilot.pause(0.02)
                    lines = ["".join(part.text for part in strip) for strip in app.screen._compositor.render_strips()]
                    if text in "\n".join(lines):
                        return
                raise AssertionError(text)

            await shown("Your own training code")
            await follow(app, "verdicts.md")
            await shown("How it decides")
            await pilot.press("G")
            await pilot.press("n")
            await shown("The dashboard")
            await follow(app, "keys.md")
            await shown("Keys")
            await pilot.press("escape", "escape", "escape")
            await shown("Your own training code")
            await follow(app, "../ARCHITECTURE.md")
            assert app.page == ""
            await pilot.press("q")

    drive(story())


async def follow(app: ReaderApp, href: str) -> None:
    markdown: Any = app.query_one(Markdown)
    markdown.post_message(Markdown.LinkClicked(markdown, href))
