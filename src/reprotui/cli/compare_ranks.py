"""`reprotui compare` of one run of several processes: what all ranks must hold alike, without another run."""

from pathlib import Path

from reprotui.cli import common
from reprotui.errors import CANNOT_TELL, DIFFERS, SAME, BadInputError


def compare_ranks(path: Path, as_json: bool) -> int:
    """Compare the ranks of a run with one another; print what is torn, and how they stand.

    Raises:
        BadInputError: it is a run of one process.
    """
    from reprotui.compare import open_run
    from reprotui.compare.rank_status import HEADINGS, ranks_to_json, statuses, with_torn
    from reprotui.compare.ranks import hosts_of
    from reprotui.compare.torn import TornSearch
    from reprotui.numbers import whole
    from reprotui.ranks import ranks_of, world_of

    view = open_run(path, path.name)
    if world_of(view.manifest) == 1:
        raise BadInputError(f"{path} alone cannot be compared: name two or more runs, a race, or a run of several processes")
    ranks = ranks_of(path, view.manifest)
    search = TornSearch({number: run.trace_path for number, run in ranks.items()})
    torn = search.look()
    found = with_torn(statuses(view.run, view.manifest), torn)
    missing = [status.number for status in found if status.problem]
    if torn is not None:
        said, code = torn.said(hosts_of(path, view.manifest)), DIFFERS
    elif not search.steps:
        said, code = "CANNOT TELL · nothing that was recorded is known to be the same on all ranks", CANNOT_TELL
    else:
        equal = f"{whole(search.copies)} copies on {len(ranks)} ranks are equal at {whole(search.steps)} recorded steps"
        said, code = (f"CANNOT TELL · {equal}; not all ranks ended well", CANNOT_TELL) if missing else (f"EQUAL · {equal}", SAME)
    if as_json:
        common.print_json({"exit_code": code, "headline": said, "torn": torn and torn._asdict(), "ranks": ranks_to_json(found)})
        return code
    common.say(said)
    rows = [HEADINGS, *(status.cells for status in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    common.say(*("  " + "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows))
    return code
