"""Races that are ready to start: each shows one way in which two runs can differ, or that they need not."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprotui.experiments.discovery import find_experiment
from reprotui.race.command import race_command
from reprotui.race.prepare import Member, Request
from reprotui.race.start import Started, start_race


@dataclass(frozen=True)
class Preset:
    """A ready-made race: `shared` is the config of all its runs, `own` what each has besides."""

    name: str
    sentence: str
    experiment: str = "digits-mlp"
    shared: dict[str, Any] = field(default_factory=dict)
    own: tuple[dict[str, Any], ...] = ({}, {})

    @property
    def overrides(self) -> tuple[dict[str, Any], ...]:
        """Return the overrides of each run."""
        return tuple({**self.shared, **own} for own in self.own)

    def command(self, runs: Path | None = None) -> list[str]:
        """Return the command line that starts the same race."""
        return race_command(self.experiment, self.overrides, runs=runs)

    def start(self, runs: Path) -> Started:
        """Start it in a runs directory; raises what `start_race` raises."""
        members = [Member(label, overrides) for label, overrides in zip("abcdefgh", self.overrides, strict=False)]
        return start_race(Request(runs, None, self.command(runs)), find_experiment(self.experiment), members)


PRESETS = (
    Preset(
        "same seed twice",
        "The same config in two processes: equal to the last bit, or the computation is not deterministic.",
    ),
    Preset(
        "two seeds",
        "Another seed draws other initial weights: they differ before the first step.",
        own=({"seed": 0}, {"seed": 1}),
    ),
    Preset(
        "another learning rate",
        "Equal gradients, another update: they part in the optimizer of step 1.",
        own=({}, {"lr": 0.1}),
    ),
    Preset(
        "batch order changes at step 37",
        "36 equal steps, then B reads its data in another order.",
        own=({}, {"shuffle_from": 37}),
    ),
    Preset(
        "a bit flips at step 50",
        "One bit of one weight of B is flipped after step 50, as a faulty chip would.",
        own=({}, {"perturb": "50:params/dense_1/kernel:1000:20"}),
    ),
    Preset(
        "one thread against two",
        "Two threads add in another order than one: the last bits of the gradients differ.",
        shared={"width": 1024, "depth": 2},
        own=({"threads": 1}, {"threads": 2}),
    ),
)
