"""How kernels and lines of source are called."""

from collections.abc import Sequence
from typing import Any

from reprotui.explain.align import Ran
from reprotui.explain.hlo import LOOPS
from reprotui.explain.sources import Place


def last(ran: Ran) -> str:
    """Return the jax operation that gives a kernel's output, XLA's where it kept none."""
    # The derivative of a product is one, and jax calls it by the transposition in it.
    product = next((name for name in ("dot", "convolution") if any(f" {name}(" in text for text, _ in ran.kernel.body)), None)
    if product is not None and ran.kernel.opcode not in LOOPS:
        return product
    return ran.kernel.operation.rpartition("/")[2] or ran.kernel.opcode


def describe(ran: Ran) -> str:
    """Return a kernel in a few words: `fusion.37 = reduce_sum float32[64]`, with the pass that it belongs to."""
    if ran.described:
        return ran.described
    backward = " (backward)" if "transpose(" in ran.kernel.operation else ""
    shapes = ", ".join(map(str, ran.kernel.arrays[:2])) + (" …" if len(ran.kernel.arrays) > 2 else "")
    return f"{ran.kernel.name} = {last(ran)}{backward} {shapes}"


def lines_of(ran: Ran) -> list[Place]:
    """Return the lines of source in a kernel, its own first."""
    places: Sequence[Place | None] = [ran.kernel.place, *(place for _, place in ran.kernel.body)]
    return list({(place.file, place.line): place for place in reversed(places) if place is not None}.values())[::-1]


def place_json(place: Place | None) -> dict[str, Any] | None:
    """Return a line of source as a JSON object."""
    if place is None:
        return None
    return {"file": place.file, "line": place.line, "function": place.function, "through": place.through or None}
