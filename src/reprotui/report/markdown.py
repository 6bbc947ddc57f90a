"""The report as Markdown, for a pull request or a lab book: tables, and the losses as rows of blocks."""

from reprotui.foreign import plain
from reprotui.report.chart import sparklines
from reprotui.report.document import Block, Card, Cell, Chart, Section, Table
from reprotui.report.model import Report
from reprotui.report.sections import cards, sections
from reprotui.report.text import markdown_block, markdown_code, markdown_text


def render_markdown(report: Report) -> str:
    """Return the report as Markdown (GitHub's dialect); whatever stands in names and values stays text."""
    parts = [f"# Verification report: {_text(report.name)}"]
    for card in cards(report):
        parts += _card(card, several=len(report.comparisons) > 1)
    for section in sections(report):
        parts += [f"## {_text(section.title)}", *_content(section, report)]
    parts.append(f"Made by reprotui {_text(report.reprotui)} at {_text(report.created)}; equality is by bits.")
    return "\n\n".join(parts) + "\n"


def _card(card: Card, several: bool) -> list[str]:
    parts = [f"## {card.symbol} {f'{_text(card.title)}: ' if several else ''}{_text(card.headline)}"]
    if card.sentence:
        parts.append(f"**Cause:** {_text(card.sentence)}")
    bullets: list[str] = []
    for name, value in card.rows:
        if name:
            parts += ["\n".join(bullets)] if bullets else []
            parts.append(f"**{_text(name.capitalize())}:**")
            bullets = []
        bullets.append(f"- {_text(value)}")
    parts += ["\n".join(bullets)] if bullets else []
    return parts


def _content(section: Section, report: Report) -> list[str]:
    parts = []
    for item in section.content:
        match item:
            case Table():
                parts.append(_table(item))
            case Block():
                parts.append(markdown_block(item.lines))
            case Chart():
                parts.append(markdown_block(sparklines(report)))
            case str():
                parts.append(_text(item))
    return parts


def _table(table: Table) -> str:
    rows = [[_text(title) for title in table.head], ["---"] * len(table.head)]
    for index, row in enumerate(table.rows):
        strong = "**" if index == table.strong else ""
        rows.append([f"{strong}{_cell(row[0])}{strong}", *map(_cell, row[1:])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(cell: Cell) -> str:
    text = markdown_code(plain(cell.text)) if cell.code else _text(cell.text)
    return f"{cell.mark} {text}".strip() if cell.mark else text


def _text(value: str) -> str:
    return markdown_text(plain(value))
