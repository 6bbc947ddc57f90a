"""What it comes to when the traces of runs are verified against themselves and their seals, in words. No textual here."""

from collections.abc import Sequence
from typing import NamedTuple

from reprotui.errors import ReprotuiError
from reprotui.numbers import whole
from reprotui.run_directory import RunDirectory
from reprotui.trace import verify_trace


class Verified(NamedTuple):
    """Which traces verify (`A 81 records`), and what is wrong with the others."""

    whole: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def headline(self) -> str:
        """Return it in few words."""
        if self.problems:
            return f"{len(self.problems)} of {len(self.problems) + len(self.whole)} traces do not verify"
        return f"verified: {', '.join(self.whole)}"


def verify_runs(runs: Sequence[tuple[str, RunDirectory]]) -> Verified:
    """Verify the traces of runs by (label, directory); takes seconds for a million records."""
    good, problems = [], []
    for label, run in runs:
        try:
            seal = run.manifest().seal
            found = verify_trace(run.trace_path, seal)
        except ReprotuiError as error:
            problems.append(f"{label}: {error}")
            continue
        if found.problem:
            problems.append(f"{label}: {found.problem}")
        else:
            good.append(f"{label} {whole(found.records)} records{'' if seal else ' so far, no seal'}")
    return Verified(tuple(good), tuple(problems))
