"""Entry point of a worker process."""

import sys
from pathlib import Path

from reprotui.run_directory import RunDirectory
from reprotui.worker.process import run_worker

sys.exit(run_worker(RunDirectory(Path(sys.argv[1]))))
