"""Find what makes training irreproducible, by reading source: nothing is imported or run."""

from reprotui.reproduce.lint.findings import RULES, Finding
from reprotui.reproduce.lint.source import lint_file, lint_project

__all__ = ["RULES", "Finding", "lint_file", "lint_project"]
