"""`python -m reprotui.observe train.py …`: run a script, or `-m module`, as Python would, observed."""

import sys

from reprotui.observe.bootstrap import main

sys.exit(main(sys.argv[1:]))
