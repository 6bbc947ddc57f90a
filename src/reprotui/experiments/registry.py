"""The built-in experiments by name. Free of jax: the class that trains is named, not imported."""

from typing import NamedTuple

from reprotui.experiments.config import CnnConfig, ExperimentConfig, MlpConfig, TransformerConfig

DEFAULT = "digits-mlp"


class BuiltIn(NamedTuple):
    """A built-in experiment: its config class, where its training class is, and one line about it."""

    config: type[ExperimentConfig]
    module: str
    name: str
    summary: str


BUILT_IN = {
    "digits-mlp": BuiltIn(
        MlpConfig, "reprotui.experiments.digits", "DigitsMlp", "multilayer perceptron on handwritten digits (default)"
    ),
    "digits-cnn": BuiltIn(
        CnnConfig, "reprotui.experiments.digits", "DigitsCnn", "convolutions with dropout and batch normalisation"
    ),
    "transformer": BuiltIn(
        TransformerConfig,
        "reprotui.experiments.transformer",
        "Transformer",
        "small decoder: modular addition, or text=FILE",
    ),
}
