"""The protocol of an experiment: four methods on a class that is made from a config.

A class with these methods is an experiment; no base class is needed. In a user's file it is named `Experiment`.
"""

from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from reprotui.experiments.config import ExperimentConfig

METHODS = {
    "init": "init(self, key) -> State",
    "batch": "batch(self, step) -> pytree of arrays",
    "train_step": "train_step(self, state, batch, key) -> (State, StepOutput)",
}
"""What an experiment must have, as it is shown to somebody whose file lacks it."""


class State(NamedTuple):
    """Training state: everything that one step hands to the next.

    `params` and `opt_state` are pytrees of arrays; `extra` is other state that the forward pass changes (batch
    statistics), an empty tuple where there is none.
    """

    params: Any
    opt_state: Any
    extra: Any = ()


class StepOutput(NamedTuple):
    """What a step shows of itself: scalar loss, gradients (structure of params), scalar metrics by name.

    The gradients are an output of the step whether anybody records or not: asking for them only when recording would
    change how XLA fuses the step, and with it the trained bits.
    """

    loss: Any
    grads: Any
    metrics: dict[str, Any] = {}  # noqa: RUF012  (a NamedTuple default, never mutated)


@runtime_checkable
class Experiment(Protocol):
    """What a worker trains.

    `init` and `train_step` are compiled by the worker and must be pure. `batch` is a pure function of the step (from 1
    on): the same step gives the same arrays in every process, in any order. Two parts are optional:
    `evaluate(self, state) -> dict[str, float]` runs once at the end, and `data_digest`, a text, identifies the data.
    """

    Config: ClassVar[type[ExperimentConfig]]

    def __init__(self, config: Any) -> None: ...

    def init(self, key: Any) -> State:
        """Return the state before the first step, from a typed key."""
        ...

    def batch(self, step: int) -> Any:
        """Return the batch of a step."""
        ...

    def train_step(self, state: State, batch: Any, key: Any) -> tuple[State, StepOutput]:
        """Return the next state and what the step shows; `key` is the step's own."""
        ...
