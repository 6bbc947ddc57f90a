"""The pages of the documentation that come with reprotui: where they are, in which order, and what of them a terminal shows."""

import re
from pathlib import Path

from reprotui.errors import BadInputError

ORDER = (
    "own-code", "steps", "recorder", "verdicts", "dashboard", "keys", "checkpoints", "signatures", "resume", "watching",
    "clusters", "reproduce", "ci", "lessons", "commands", "performance", "limits",
)  # fmt: skip
"""From what people ask first to what is looked up."""
_IMAGE = re.compile(r"^!\[([^\]]*)\]\([^)]*\)\n\n?", re.MULTILINE)


def pages_directory() -> Path | None:
    """Return the directory of the pages: inside the installed package, else of the checkout; None where neither is."""
    package = Path(__file__).resolve().parent
    return next((path for path in (package / "docs", package.parents[1] / "docs") if (path / "verdicts.md").is_file()), None)


def read_page(name: str) -> str:
    """Return a page as Markdown, without the pictures, which a terminal cannot show.

    Args:
        name: of a page, with or without `.md`; empty for the list of all.

    Raises:
        BadInputError: there is no such page, or this installation has none.
    """
    directory = pages_directory()
    if directory is None:
        raise BadInputError("this installation has no pages: they lie in docs/ of the repository")
    if not name:
        lines = [f"- [{_title(directory / f'{page}.md')}]({page}.md) · `reprotui docs {page}`" for page in ORDER]
        return "\n".join(["# reprotui", "", *lines, ""])
    page = name.removesuffix(".md")
    if page not in ORDER:
        raise BadInputError(f"there is no page {name!r}; there are {', '.join(ORDER)}")
    return _IMAGE.sub("", (directory / f"{page}.md").read_text(encoding="utf-8"))


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("# ").strip()
