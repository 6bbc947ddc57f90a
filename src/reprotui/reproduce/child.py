"""`python -m reprotui.reproduce.child DIRECTORY`: the process that `fresh` starts."""

import sys
from pathlib import Path

from reprotui.errors import BadInputError
from reprotui.reproduce.fresh import BAD_JOB, do_job

if __name__ == "__main__":
    try:
        do_job(Path(sys.argv[1]))
    except BadInputError as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_JOB)
