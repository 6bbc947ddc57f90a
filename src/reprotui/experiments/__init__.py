"""What is trained: the Experiment protocol, configs, discovery from a name or a file, and the built-in experiments.

`config`, `registry` and `discovery` are free of jax; the experiments themselves import it.
"""

from reprotui.experiments.config import ExperimentConfig, phase_field
from reprotui.experiments.protocol import Experiment, State, StepOutput

__all__ = ["Experiment", "ExperimentConfig", "State", "StepOutput", "phase_field"]
