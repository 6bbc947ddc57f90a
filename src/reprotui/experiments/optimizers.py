"""The optimizers of the built-in experiments, from optax."""

from typing import Any

import optax

from reprotui.experiments.config import ExperimentConfig


def make_optimizer(config: ExperimentConfig) -> optax.GradientTransformation:
    """Return the optax optimizer that a config names."""
    makers: dict[str, Any] = {
        "sgd": lambda: optax.sgd(config.lr),
        "momentum": lambda: optax.sgd(config.lr, momentum=config.momentum),
        "adam": lambda: optax.adam(config.lr, b1=config.momentum),
        "adamw": lambda: optax.adamw(config.lr, b1=config.momentum, weight_decay=config.weight_decay),
    }
    return makers[config.optimizer]()
