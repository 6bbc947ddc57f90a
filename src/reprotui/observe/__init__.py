"""Observing an unmodified script: its jitted steps and its optimizers are watched from outside, nothing in it is changed."""
