"""Scripts with planted causes: does `reprotui diagnose` prove what was planted, and nothing where nothing can be proved?"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import Progress, at_most

SCRIPTS = Path(__file__).resolve().parent.parent / "tests" / "scripts" / "diagnose"
PLANTED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("numpy_loop.py", "hash", ("hash-seed",)),
    ("numpy_loop.py", "set", ("hash-seed",)),
    ("numpy_loop.py", "python", ("python",)),
    ("numpy_loop.py", "numpy", ("numpy",)),
    ("numpy_loop.py", "entropy", ("entropy",)),
    ("numpy_loop.py", "urandom", ("entropy",)),
    ("numpy_loop.py", "clock", ("clock",)),
    ("numpy_loop.py", "threads", ("one-thread",)),
    ("numpy_loop.py", "python numpy", ("python", "numpy")),
    ("numpy_loop.py", "hash clock", ("hash-seed", "clock")),
    ("numpy_loop.py", "numpy threads", ("numpy", "one-thread")),
    ("numpy_loop.py", "rare", ()),
    ("numpy_loop.py", "late", ()),
    ("jax_loop.py", "donation", ("no-donation",)),
    ("torch_loop.py", "torch", ("torch",)),
    ("torch_loop.py", "workers", ("no-workers",)),
    ("torch_loop.py", "algorithms", ("deterministic-torch",)),
    ("torch_loop.py", "torch python", ("torch", "python")),
)
"""Script, what is planted in it, and the changes that remove it; none for what is there by chance and stays."""


def run(count: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Diagnose the scripts, one after the other.

    Args:
        count: how many of them; all where it is None.
        seed: of nothing: what is planted differs by itself.

    Returns:
        A row a script: what was planted, what was found, pairs and seconds; in the notes how many proofs are right, and wrong.
    """
    planted = PLANTED[:count]
    progress = Progress("diagnose", len(planted))
    rows, wrong, found = [], 0, 0
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as place:
        for script, causes, removing in planted:
            began = time.monotonic()
            told = _diagnose(Path(place), script, causes.split())
            proved = set(told["cause"])
            right = proved == set(removing) if removing else told["verdict"] != "proved" and told["flaky"]
            found += right
            wrong += told["verdict"] == "proved" and not right
            answer = " + ".join(told["cause"]) or f"{told['verdict']}{', flaky' if told['flaky'] else ''}"
            rows.append({
                "script": f"{script} {causes}", "found": answer, "right": "yes" if right else "NO", "pairs": len(told["pairs"]),
                "seconds": round(time.monotonic() - began),
            })  # fmt: skip
            progress.advance()
    notes = [f"{found} of {len(planted)} as planted", at_most("wrong proofs", wrong, 0)]
    return {"rows": rows, "notes": notes}


def _diagnose(place: Path, script: str, causes: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "reprotui", "diagnose", "--json", "--", "python", str(SCRIPTS / script), *causes]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return json.loads(done.stdout)
