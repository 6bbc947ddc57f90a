"""What is said where no step was found: what was seen, and the nearest help, ready to be pasted into the script."""

import re
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Seen(NamedTuple):
    """A jitted function of the script that takes no step as far as was seen: how often it was called, and why it does not.

    `parameters` are the names of what it takes.
    """

    name: str
    calls: int
    why: str
    parameters: tuple[str, ...]


def what_was_seen(functions: Sequence[Seen]) -> str:
    """Return why no step was found, in one sentence."""
    if functions:
        listed = [f"{item.name} ({item.calls:,} {'call' if item.calls == 1 else 'calls'}): {item.why}" for item in functions]
        return f"no step was found among the jitted functions: {'; '.join(listed)}"
    frameworks = [name for name in ("jax", "torch") if name in sys.modules]
    missing = {
        "jax": "no function that jax.jit made was called",
        "torch": "no torch optimizer took a step, and no parameters changed after a backward pass",
    }
    return f"no step was found: {', and '.join(missing[name] for name in frameworks) or 'neither jax nor torch was imported'}"


def help_for(functions: Sequence[Seen]) -> str:
    """Return what to do: name the function, or put three lines into the loop, with the names that the script has."""
    called = [item.name for item in functions if item.calls]
    named = f"if {called[0]} takes the steps, say so: --step-function {called[0]}\n" if called else ""
    if "torch" in sys.modules and not functions:
        given = "model=model, optimizer=optimizer, loss=loss, batch=batch"
    else:
        given = _arguments(max(functions, key=lambda item: item.calls).parameters if functions else ())
    return (
        f"{named}or record the loop itself, with three lines:\n"
        "    from reprotui import Recorder\n"
        "    with Recorder() as rec:  # around the loop, whose steps count from 1\n"
        f"        rec.step(step, {given})  # after each update"
    )


def _arguments(parameters: Sequence[str]) -> str:
    """Return what `Recorder.step` is given, by the names of what a function takes: parameters first, then the batch."""
    keys = [name for name in parameters if re.search("key|rng|seed", name)]
    optimizers = [name for name in parameters if re.search("opt|momentum|adam", name)]
    first, *batch = [name for name in parameters if name not in (*keys, *optimizers)] or ["params", "batch"]
    trees = {"params": [first], "opt_state": optimizers, "batch": batch, "rng": keys}
    values = {tree: names[0] if len(names) == 1 else f"({', '.join(names)})" for tree, names in trees.items() if names}
    return ", ".join(["loss=loss", *(f"{tree}={value}" for tree, value in values.items())])
