"""Why an action of the Race screen cannot be taken with what the runs have come to."""

from reprotui.race.status import RaceStatus


def why_not_of(status: RaceStatus, action: str) -> str | None:
    """Return why there is nothing that an action could show; None where there is."""
    if action in ("first_difference", "next_difference", "previous_difference"):
        if not status.timeline.pairs:
            return "one run alone has nothing to differ from"
        if all(pair.first is None for pair in status.timeline.pairs):
            return f"no difference: {status.headline}"
    if action == "versus" and len(status.runs) < 3:
        return "there are two runs at most: nothing else to hold against A"
    if action == "ranks" and not any(run.ranks for run in status.runs):
        return "each run is one process: there are no ranks"
    if action == "export" and len(status.runs) < 2:
        return "a report compares runs: open two, or a race"
    return None
