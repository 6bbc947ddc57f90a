"""What the scripts of `python -m benchmarks racing` share: how many steps, and what a step took."""

import json
import resource
import sys
import time

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 300
_times: list[tuple[float, float]] = []


def done() -> None:
    """Note that a step is over; after the last one, print what they took. The first fifth warms up."""
    _times.append((time.perf_counter(), time.process_time()))
    if len(_times) < STEPS:
        return
    kept = _times[STEPS // 5 :]
    steps = max(1, len(kept) - 1)
    result = {
        "at_ns": time.time_ns(),
        "ms": 1e3 * (kept[-1][0] - kept[0][0]) / steps,
        "cpu_ms": 1e3 * (kept[-1][1] - kept[0][1]) / steps,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    }
    print(json.dumps(result), flush=True)
