"""A race of scripts from its commands to its end: where each run's sources come from, and what is removed after it."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprotui.errors import BadInputError
from reprotui.observation import Options
from reprotui.race import versions
from reprotui.race.prepare import Request
from reprotui.race.scripts import Command, ScriptMember, prepare_scripts
from reprotui.run_directory import RunDirectory


@dataclass(frozen=True)
class Source:
    """Where a run's script comes from: a folder, or a git revision of this repository; neither is the folder we stand in."""

    directory: Path | None = None
    revision: str | None = None


class ScriptRace:
    """A race of scripts: made by `prepare`, and cleaned up after by `finish`.

    Args:
        commands: what each run is, by its label; the first is the reference.
        options: what the observers are asked to do.
        sources: where runs come from, by the first letter of their label: repeated runs share one.
    """

    def __init__(
        self, commands: Sequence[tuple[str, Command]], options: Options, sources: Mapping[str, Source] | None = None
    ) -> None:
        self._commands, self._options, self._sources = commands, options, dict(sources or {})
        self._versions: dict[str, versions.Version] = {}
        self._runs: Sequence[RunDirectory] = ()

    def prepare(self, request: Request) -> tuple[Path, list[RunDirectory]]:
        """Create the race's directory; revisions are checked out for it.

        Raises:
            BadInputError: a folder, a revision, a script or the place cannot be used; nothing is left behind.
        """
        try:
            self._find_versions()
            members = [ScriptMember(label, command, self._versions.get(label[0])) for label, command in self._commands]
            path, directories = prepare_scripts(request, members, self._options)
            self._describe(path, directories)
        except BaseException:
            self.finish()
            raise
        self._runs = directories
        return path, directories

    def finish(self) -> list[Path]:
        """Remove the worktrees that were made; return them, instead, where a run that goes on still needs them."""
        made = [version for version in self._versions.values() if version.worktree]
        if made and any(run.state().alive for run in self._runs):
            return [version.worktree for version in made if version.worktree]
        for version in made:
            versions.remove(version)
        self._versions = {}
        return []

    def _find_versions(self) -> None:
        for label, source in self._sources.items():
            if source.directory and source.revision:
                raise BadInputError(f"--{label}-dir and --{label}-rev both say where {label.upper()} comes from: give one")
            if source.directory:
                self._versions[label] = versions.of_directory(source.directory)
            elif source.revision:
                place = Path(tempfile.mkdtemp(prefix="reprotui-")) / label
                self._versions[label] = versions.of_revision(source.revision, place)

    def _describe(self, path: Path, directories: Sequence[RunDirectory]) -> None:
        """Keep how the sources of each run differ from those of the reference, where the runs come from different ones."""
        if not self._versions:
            return
        here = versions.Version(Path.cwd())
        reference, *others = dict.fromkeys(label[0] for label, _ in self._commands)
        found = {}
        for label in others or [reference]:
            a, b = (self._versions.get(letter, here).directory for letter in (reference, label))
            file = path / ("sources.diff" if not found else f"sources-{label}.diff")
            found[label] = versions.describe_difference(a, b, file)
        for directory in directories:
            letter = directory.path.name[0]
            directory.update_manifest(source_difference=found.get(letter) or next(iter(found.values())))
