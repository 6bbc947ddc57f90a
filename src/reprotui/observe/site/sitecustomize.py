"""Found by any Python process below a command that `race` or `certify` started: begins to observe, then hands on to the next."""

import importlib.machinery
import importlib.util
import os
import sys


def _hand_on() -> None:
    """Run the sitecustomize that stands behind this one in the search path, as Python would have."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs every process its import
    others = [path for path in sys.path if os.path.abspath(path or ".") != here]  # noqa: PTH100
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if os.environ.get("REPROTUI_RUN") or os.environ.get("REPROTUI_OBSERVE"):
    from reprotui.observe.bootstrap import start_in_place

    start_in_place()
_hand_on()
