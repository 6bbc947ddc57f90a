"""The phases of a step, in causal order: a later one can receive a difference from an earlier one, never the reverse."""

PHASES = ("init", "batch", "rng", "forward", "grads", "optimizer", "params")
"""`init` stands in record 0 alone; `forward` is loss, metrics and other state that the forward pass changes (batch
statistics); `optimizer` is the optimizer's new state, and what it was computed from on the way; `params` are the parameters
that it moves. Of a step with several updates, all that follows the first parameters stands in `params`: it can differ because
of them."""
UPDATE = "update"
"""What `optimizer` and `params` were together in traces of version 1; see `trace.former`."""
MARKS = dict(zip(PHASES, "ibrfgop", strict=True))
"""One letter a phase, where there is no room for its name."""
STATE = ("init", "optimizer", "params")
"""The phases that hold what a step ends with: its record, or record 0, is what the next step starts from."""

INIT = (("init", "params"), ("init", "opt_state"), ("init", "extra"))
"""(phase, tree) of record 0."""
STEP = (
    ("batch", "batch"), ("rng", "rng"), ("forward", "loss"), ("forward", "metrics"), ("forward", "extra"), ("grads", "grads"),
    ("optimizer", "opt_state"), ("params", "params"),
)  # fmt: skip
"""(phase, tree) of a step's record, in the order in which an update makes them. A tree's name begins the paths of its leaves."""

PHASE_INDEX = {name: index for index, name in enumerate(PHASES)}
ROOT_BYTES = 8
ROOTS_BYTES = ROOT_BYTES * len(PHASES)


def differing_phases(roots_a: bytes, roots_b: bytes) -> tuple[str, ...]:
    """Return the phases whose roots differ between two records, in causal order."""
    parts = (slice(start, start + ROOT_BYTES) for start in range(0, ROOTS_BYTES, ROOT_BYTES))
    return tuple(phase for phase, part in zip(PHASES, parts, strict=True) if roots_a[part] != roots_b[part])


REPLACED = "replaced/"
"""Before the path of state that a step did not start from as the step before left it: it came from outside, with the batch;
an optimizer's stands in `optimizer`, where it is used."""

GENERATORS = {"rng/python": "Python's generator", "rng/numpy": "NumPy's generator", "rng/torch": "torch's generator"}
"""The states of global generators, by the path of their leaf. A run has one from the moment on that something seeds it, so one
run may have it and the other not without being a different computation."""

CAPTURED = "captured/"
"""Before the name of an array that a function captured, and that is a constant of its program: it enters all that the function
computes, and stands in `batch`, before what is handed over. Recorded with the step in which the function was traced, once."""
