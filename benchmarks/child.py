"""Entry point of the process in which a benchmark measures: `python -m benchmarks.child NAME OPTIONS`, both as JSON."""

import json
import sys

from benchmarks import run_here
from reprotui.errors import INTERRUPTED

try:
    print(json.dumps(run_here(sys.argv[1], json.loads(sys.argv[2]))))
except KeyboardInterrupt:
    sys.exit(INTERRUPTED)
