"""Check that a project follows the rules: its files, its config, its seeds, and what the linter finds in its source."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError
from reprotui.reproduce.checklist import CHECKS
from reprotui.reproduce.lint import lint_project
from reprotui.reproduce.sources import Project


def validate_template_structure(directory: Path | str) -> dict[str, Any]:
    """Check a project against the rules of reproducible training, by reading its files; nothing in it is run.

    Args:
        directory: the project.

    Returns:
        `valid` (no errors); `score`, 0 to 100: the share of the checklist that is fulfilled; `errors` and `warnings`, a line
        each with file, line and remedy; `findings` of the linter; `checklist` with name, status and detail of each item.

    Raises:
        BadInputError: the directory does not exist.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise BadInputError(f"{directory} is no directory: name a project's")
    findings, modules = lint_project(directory)
    project = Project(directory, modules, findings)
    checklist = [check(project) for check in CHECKS]
    relevant = [item for item in checklist if item.status != "does not apply"]
    errors = [f"{item.name}: {item.detail}" for item in checklist if item.failed and item.required]
    warnings = [f"{item.name}: {item.detail}" for item in checklist if item.failed and not item.required]
    errors += [str(finding) for finding in findings if finding.severity == "error"]
    warnings += [str(finding) for finding in findings if finding.severity == "warning"]
    score = 100 * sum(not item.failed for item in relevant) // len(relevant)
    return {
        "valid": not errors,
        "score": score,
        "errors": errors,
        "warnings": warnings,
        "findings": [finding.to_json() for finding in findings],
        "checklist": [asdict(item) for item in checklist],
    }
