"""Entry point of a worker process."""

import contextlib
import os
import sys
from pathlib import Path

from reprotui.errors import SAME
from reprotui.run_directory import RunDirectory
from reprotui.worker.process import run_worker

code = run_worker(RunDirectory(Path(sys.argv[1])))
if code != SAME:
    # A save that failed leaves writes of other arrays under way in threads of C++ that nobody can wait for. They call into the
    # interpreter when they end, and one that is being taken down ends such a thread, and with it the process, by `terminate`.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)
sys.exit(code)
