"""The phases of a step, in causal order: a later one can receive a difference from an earlier one, never the reverse."""

PHASES = ("init", "batch", "rng", "forward", "grads", "update")
"""`init` stands in record 0 alone; `forward` is loss, metrics and other state that the forward pass changes (batch
statistics); `update` is the optimizer's state, then the parameters."""

PHASE_INDEX = {name: index for index, name in enumerate(PHASES)}
ROOT_BYTES = 8
ROOTS_BYTES = ROOT_BYTES * len(PHASES)

REPLACED = "replaced/"
"""Before the path of state that a step did not start from as the step before left it: it came from outside, with the batch;
an optimizer's stands in `update`, where it is used."""
