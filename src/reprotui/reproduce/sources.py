"""A project as the checks see it: its modules, what the linter found, its files."""

from dataclasses import dataclass
from pathlib import Path

from reprotui.reproduce.lint import Finding
from reprotui.reproduce.lint.modules import Module
from reprotui.reproduce.lint.source import IGNORED_DIRECTORIES


@dataclass(frozen=True)
class Project:
    """The parsed modules of a directory, and the linter's findings in them."""

    directory: Path
    modules: list[Module]
    findings: list[Finding]

    @property
    def code(self) -> list[Module]:
        """The modules that are no tests."""
        return [module for module in self.modules if not module.is_test]

    @property
    def tests(self) -> list[Module]:
        """The modules that are tests."""
        return [module for module in self.modules if module.is_test]

    def uses(self, library: str) -> bool:
        """Say whether the code imports a library."""
        return any(name.split(".")[0] == library for module in self.code for name in module.names.imported)

    def files(self, pattern: str) -> list[Path]:
        """Return the project's own files that match, sorted."""
        found = []
        for path in sorted(self.directory.glob(pattern)):
            folders = path.relative_to(self.directory).parts[:-1]
            if path.is_file() and not any(part in IGNORED_DIRECTORIES or part.startswith(".") for part in folders):
                found.append(path)
        return found

    def rules(self, *rules: str) -> list[Finding]:
        """Return the errors of these rules."""
        return [finding for finding in self.findings if finding.rule in rules and finding.severity == "error"]
