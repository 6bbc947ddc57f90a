"""The equations of a traced function as lines that do not depend on names, each with its place in the source."""

import re
from collections.abc import Iterator
from typing import Any

from reprotui.explain.sources import Place, chosen

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_LONGEST = 200
"""Characters of a parameter that are compared and shown."""


def equations(jaxpr: Any, around: Place | None = None) -> Iterator[tuple[str, Place | None]]:
    """Yield every equation of a jaxpr in order, those of inner ones before the one that holds them.

    What changes in the body of a loop also changes what the loop gives: the body is where it was written. Inside of jax's own
    functions no line was written: there the place is the one `around`.
    """
    for equation in jaxpr.eqns:
        inner, said = [], []
        for name, value in sorted(equation.params.items()):
            found = list(_jaxprs(value))
            inner += found
            if not found and not callable(value):
                said.append(f"{name}={_ADDRESS.sub('0x', str(value))[:_LONGEST]}")
        literals = [str(getattr(variable, "val", variable.aval)) for variable in equation.invars]
        outputs = ", ".join(variable.aval.str_short() for variable in equation.outvars)
        place = _place(equation) or around
        for part in inner:
            yield from equations(part, place)
        yield f"{equation.primitive.name}({', '.join(literals)}) → {outputs} {' '.join(said)}".rstrip(), place


def _jaxprs(value: Any) -> Iterator[Any]:
    for part in value if isinstance(value, tuple | list) else (value,):
        part = getattr(part, "jaxpr", part)
        if hasattr(part, "eqns"):
            yield part


def _place(equation: Any) -> Place | None:
    traceback = getattr(equation.source_info, "traceback", None)
    stack = [(frame.file_name, frame.line_num, frame.function_name) for frame in getattr(traceback, "frames", ())]
    # jax's own frames say how it traced, not what was written.
    stack = [frame for frame in stack if "/site-packages/jax/" not in frame[0]]
    return chosen(stack) if stack else None
