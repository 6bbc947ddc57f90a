"""`python -m reprotui` is the command `reprotui`."""

import sys

from reprotui.cli import main

sys.exit(main())
