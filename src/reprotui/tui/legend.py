"""What the signs and words of the dashboard mean: one text for all screens. No textual here."""

from reprotui.trace import PHASES
from reprotui.trace.phases import MARKS
from reprotui.tui.symbols import Symbols

Lines = list[tuple[str, str]]
_PHASES = {
    "init": "the state before the first step",
    "batch": "the data that the step is given",
    "rng": "the states of the generators",
    "forward": "loss, metrics, and what the forward pass changes, as batch statistics",
    "grads": "the gradients",
    "optimizer": "the optimizer's state",
    "params": "the parameters that it moves",
}


def signs(symbols: Symbols) -> Lines:
    """Return signs and marks with their meaning."""
    return [
        (symbols.equal, "equal to the bit"),
        (symbols.differs, "different bits"),
        (symbols.near, "different bits, within the tolerance that was asked for"),
        (symbols.unknown, "cannot be told: not recorded in both runs, or not read yet"),
        ("!", "NaN or infinity: equal bits of NaN are equal, and healthy they are not"),
        (symbols.nothing, "nothing is there; of a fleet: a run that ended without a partner"),
        (f"T F {symbols.dot}", "of a fleet: values that are not right (torn, corrupt); failed or killed; going on"),
        (symbols.delta, "B minus A"),
        (symbols.cross, "on a chart: the first step that differs"),
        (symbols.marked, "marked for comparison, or running"),
        (f"{symbols.closed} {symbols.open}", "a branch that is closed, or open"),
        ("A B", "the runs, each in its own colour; all others are held against A"),
    ]


def words() -> Lines:
    """Return the words of the screens with their meaning, from the smallest thing to the whole run."""
    return [
        ("leaf", "one array of what a step works with, by its path: params/dense_1/kernel"),
        ("checksum", "64 bits over all bits of a leaf: -0.0 is not 0.0"),
        ("phase", "a part of a step. In causal order, so that the first that differs is where it began:"),
        *((f"{MARKS[phase]} {phase}", _PHASES[phase]) for phase in PHASES),
        ("root", "64 bits over the checksums of a phase: where roots are equal, its leaves are"),
        ("step", "one update; record 0 is the state after init, record 37 is taken at update 37"),
        ("trace", "the records of a run, in its trace.db"),
        ("chain", "each record hashes the one before: an edited or lost row breaks it"),
        ("seal", "last step and chain, written when a run ends: a trace that was cut or edited does not fit it"),
        ("verdict", "IDENTICAL, DIVERGED at a step, incomplete (one run has fewer steps), or incomparable"),
        ("exact", "both runs replayed to a step, and every element compared"),
        ("ulp", "units in the last place: how many representable numbers lie between two"),
        ("max rel", "largest difference by the larger of the two numbers"),
        ("norm", "the square root of the sum of squares of a leaf; recorded every few steps, and shown only there"),
        ("VALID", "of a checkpoint: every byte and every leaf was read, and is what was saved"),
        ("CORRUPT", "something was read that is not what was saved"),
        ("MISSING", "a recorded file or leaf is gone; EXTRA: one is there that was never recorded"),
        ("STALE", "whole, but older than what the registry holds; TAMPERED: its signature is missing or wrong"),
        ("INCOMPLETE", "left over by a save that did not end; UNREADABLE: reading failed"),
        ("UNCHECKED", "nothing to hold it against; UNREGISTERED: no manifest or registry knows it"),
        ("torn", "copies of one value on several devices differ"),
        ("recomputed", "a step computed once more from copies of its inputs; CORRUPT at step 9: it came out otherwise"),
    ]
