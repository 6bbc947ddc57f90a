"""How busy the cores are that this process may use."""

import os
from contextlib import suppress
from pathlib import Path

STAT = Path("/proc/stat")
IDLE, IOWAIT = 3, 4
"""Columns of /proc/stat (proc(5)) in which a core had nothing to do."""


class Cores:
    """Shares of time since the question before; Linux tells, elsewhere the load of the last minute stands in for it."""

    def __init__(self) -> None:
        self._before = _times()

    def busy(self) -> float:
        """Return which part of the cores' time was used since the last call, 0 to 1."""
        before, self._before = self._before, _times()
        if before is None or self._before is None:
            load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
            return min(1.0, load / (os.cpu_count() or 1))
        idle, total = (now - then for now, then in zip(self._before, before, strict=True))
        return 1 - idle / total if total > 0 else 0.0


def _times() -> tuple[int, int] | None:
    """Return (idle, all) clock ticks of this process's cores since the start of the machine; None where nobody counts them."""
    with suppress(OSError, ValueError, IndexError):
        mine = {f"cpu{core}" for core in os.sched_getaffinity(0)} if hasattr(os, "sched_getaffinity") else set()
        rows = [line.split() for line in STAT.read_text(encoding="ascii").splitlines() if line.startswith("cpu")]
        ticks = [[int(value) for value in row[1:9]] for row in rows if row[0] in mine]
        if ticks:
            return sum(row[IDLE] + row[IOWAIT] for row in ticks), sum(map(sum, ticks))
    return None
