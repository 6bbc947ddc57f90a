"""What differs around two runs: their settings, environments and devices."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple, Self

from reprotui.commands import arguments_as_config, script_of, unobserved
from reprotui.environment import Difference, compare_environments
from reprotui.manifest import Kind, RunManifest, assignment
from reprotui.trace.former import SPLIT
from reprotui.trace.phases import PHASES, UPDATE

_NUMERIC_VARIABLES = ("XLA_FLAGS", "NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_NEUTRAL = (
    "executable",
    "host",
    "platform",
    "cpu.count",
    "cpu.affinity",
    "packages.reprotui",
    "packages.orbax-checkpoint",
    "packages.torch",
    "os",
    "builds.torch.cuda",
    "builds.torch.hip",
    "builds.torch.git_version",
)


@dataclass(frozen=True)
class ConfigDifference:
    """A config field with different values, and the phases that it can change."""

    name: str
    a: Any
    b: Any
    phases: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {_text(self.a)} → {_text(self.b)}"


def config_differences(a: RunManifest, b: RunManifest) -> list[ConfigDifference]:
    """Return the differing config fields of two manifests; one that a manifest says nothing about may change any phase.

    Of runs that were started by hand, what differs in their commands too.
    """
    phases, config_a, config_b = {**b.config_phases, **a.config_phases}, dict(a.config), dict(b.config)
    if _by_hand(a) and _by_hand(b):
        commands = _Command.of(a), _Command.of(b)
        for name in dict.fromkeys([*commands[0].settings, *commands[1].settings]):
            if not {name, name.replace("-", "_")}.intersection({*config_a, *config_b}):
                config_a[name], config_b[name] = (command.settings.get(name) for command in commands)
        if commands[0].start != commands[1].start:
            config_a["command"], config_b["command"] = (command.start for command in commands)
    return [
        ConfigDifference(name, config_a.get(name), config_b.get(name), _now(phases.get(name, PHASES)))
        for name in dict.fromkeys([*config_a, *config_b])
        if config_a.get(name) != config_b.get(name)
    ]


def _now(phases: Sequence[str]) -> tuple[str, ...]:
    """Return phases as they are called now; manifests of before say `update` for two of them."""
    return tuple(name for phase in phases for name in (SPLIT if phase == UPDATE else (phase,)))


class _Command(NamedTuple):
    """How a script was started by hand: `start` is the command up to its arguments, which are the settings."""

    start: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, manifest: RunManifest) -> Self:
        words = unobserved(manifest.command)
        script, arguments = script_of(words)
        before = words[: len(words) - len(arguments) - 1]
        # Where the script lies is no difference, and a notebook's kernel has a file of its own each time.
        given = {} if "kernel_launcher" in script else arguments_as_config(arguments)
        return cls(shlex.join([*before, PurePath(script).name]), given)


def _by_hand(manifest: RunManifest) -> bool:
    """Say whether a script was started by hand: how it was is known by its command alone."""
    return manifest.kind is Kind.SCRIPT and manifest.launch is None and bool(manifest.command)


def deviations(a: RunManifest, b: RunManifest) -> tuple[str, ...]:
    """Return the settings of B that are not those of A, as the command line takes them."""
    return tuple(assignment(item.name, item.b) for item in config_differences(a, b))


def environment_differences(a: RunManifest, b: RunManifest) -> list[Difference]:
    """Return the differing environment and device entries of two manifests, where both recorded them."""
    pairs = ((a.environment, b.environment), ({"devices": a.devices}, {"devices": b.devices}))
    recorded = ((a.environment, b.environment), (a.devices, b.devices))
    return [
        difference
        for pair, of_both in zip(pairs, recorded, strict=True)
        if all(of_both)
        for difference in compare_environments(*pair)
    ]


def numeric(differences: Sequence[Difference], threads_known: bool) -> list[Difference]:
    """Keep the environment entries that can change what a program computes.

    Args:
        differences: all that there are.
        threads_known: the devices say how many threads compute; where they do not, the cores that a process may use do.
    """
    return [
        item
        for item in differences
        if (item.name not in _NEUTRAL or (item.name == "cpu.affinity" and not threads_known))
        and (not item.name.startswith("variables.") or item.name.removeprefix("variables.") in _NUMERIC_VARIABLES)
        and not item.name.startswith("git.")
    ]


def hash_seed(differences: list[Difference]) -> list[Difference]:
    """Keep the entry that can change the order of sets and what strings hash to."""
    return [item for item in differences if item.name == "variables.PYTHONHASHSEED"]


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
