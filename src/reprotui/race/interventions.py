"""What a diagnosis can change in a command or an experiment, and in which order: the cheapest and likeliest first.

What a change does inside a script's process is done by `reprotui.observe.interventions`, by the names in `inside`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reprotui.chance import TORCH, Chance
from reprotui.compare import Verdict
from reprotui.compare.around import config_differences
from reprotui.compare.chance import Entry, entries, paired
from reprotui.compare.diagnosis import Change
from reprotui.compare.evidence import COMPUTED
from reprotui.manifest import Kind, RunManifest, assignment
from reprotui.observation import Options
from reprotui.race.scripts import Command

XLA_FLAGS = "XLA_FLAGS"


@dataclass(frozen=True)
class Intervention:
    """A change that is made in both runs of a pair.

    Attributes:
        name, text: for machines, and for people.
        variables: of the environment; flags of XLA come behind those that are there.
        inside: what is changed in the process before the script's first line.
        fields: settings of an experiment.
        of: which frameworks it concerns (`jax`, `torch`); empty for any.
        gpu: it concerns GPUs alone.
        computes: it concerns how is computed, not what enters.
        concerns: which places of the ledger of chance it fixes.
        ledger: where it is to blame, a ledger that is kept names it.
    """

    name: str
    text: str
    variables: Mapping[str, str] = field(default_factory=dict)
    inside: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    of: tuple[str, ...] = ()
    gpu: bool = False
    computes: bool = False
    concerns: Callable[[Chance], bool] = lambda item: False
    ledger: bool = False

    def variables_for(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return its variables for a process that is given others."""
        flags = given.get(XLA_FLAGS, "")
        return {name: f"{flags} {text}".strip() if name == XLA_FLAGS else text for name, text in self.variables.items()}

    def changes(self, given: Mapping[str, str]) -> bool:
        """Say whether it would change anything: what is set already is no change."""
        missing = [
            name for name, text in self.variables.items()
            if (text not in given.get(name, "").split() if name == XLA_FLAGS else given.get(name) != text)
        ]  # fmt: skip
        return bool(missing or self.inside or self.fields)


def _unseeded(*sources: str) -> Callable[[Chance], bool]:
    return lambda item: item.unseeded and item.kind == "draw" and item.source.startswith(sources)


_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"), "1")
FOR_SCRIPTS = (
    Intervention("hash-seed", "PYTHONHASHSEED=0", {"PYTHONHASHSEED": "0"}, concerns=lambda item: item.kind == "hash"),
    Intervention("python", "Python's generator seeded", inside=("python",), concerns=_unseeded("random."), ledger=True),
    Intervention("numpy", "NumPy's generator seeded", inside=("numpy",), concerns=_unseeded("numpy."), ledger=True),
    Intervention("torch", "torch's generator seeded", inside=("torch",), of=("torch",), concerns=_unseeded(TORCH), ledger=True),
    Intervention(
        "entropy", "generators without a seed seeded", inside=("entropy",),
        concerns=lambda item: item.unseeded and item.kind in ("seed", "entropy"), ledger=True,
    ),
    Intervention("clock", "the same clock", inside=("clock",)),
    Intervention("no-workers", "loader without workers", inside=("no-workers",), of=("torch",)),
    Intervention("one-thread", "one thread", _ONE_THREAD, ("one-thread",), computes=True),
    Intervention(
        "deterministic-torch", "deterministic algorithms of torch and cuBLAS", {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
        ("deterministic-torch",), of=("torch",), computes=True,
    ),
    Intervention(
        "deterministic-xla", "deterministic operations of XLA", {XLA_FLAGS: "--xla_gpu_deterministic_ops=true"}, of=("jax",),
        gpu=True, computes=True,
    ),
    Intervention(
        "no-autotuning", "no autotuning of XLA", {XLA_FLAGS: "--xla_gpu_autotune_level=0"}, of=("jax",), gpu=True, computes=True
    ),
    Intervention(
        "no-async", "each call of jax awaited", {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "false"}, of=("jax",), computes=True
    ),
    Intervention("no-donation", "no donated arguments", inside=("no-donation",), of=("jax",), computes=True),
    Intervention(
        "no-cache", "no compilation cache", {"JAX_ENABLE_COMPILATION_CACHE": "false"}, of=("jax",), computes=True
    ),
    Intervention(
        "precision", "products of matrices in full precision",
        {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "NVIDIA_TF32_OVERRIDE": "0"}, gpu=True, computes=True,
    ),
)  # fmt: skip
"""What can be changed in any script, the cheapest first."""
FOR_EXPERIMENTS = (
    Intervention("threads", "threads=1", fields={"threads": 1}, computes=True),
    Intervention("deterministic", "deterministic=true", fields={"deterministic": True}, gpu=True, computes=True),
)


@dataclass(frozen=True)
class First:
    """The first pair of a diagnosis: what a plan is made from."""

    a: RunManifest
    b: RunManifest
    verdict: Verdict
    chance: tuple[Sequence[Chance], Sequence[Chance]] = ((), ())


def interventions_for(first: First) -> list[Intervention]:
    """Return what may be behind a difference, the likeliest first: what the ledger names, then what its phase suggests."""
    a, b = first.a, first.b
    backend = str(a.devices.get("backend", ""))
    gpu = "cuda" in backend or "gpu" in backend or "rocm" in backend
    if a.kind is Kind.EXPERIMENT:
        found = [_as_in_a(item.name, item.a) for item in config_differences(a, b) if item.name in a.config]
        free = [item for item in FOR_EXPERIMENTS if gpu or not item.gpu]
        found += [item for item in free if any({**run.config, **item.fields} != run.config for run in (a, b))]
    else:
        frameworks = [name for name in ("jax", "torch") if _uses(name, first, backend)]
        given = {**os.environ, **{name: str(value) for name, value in (a.launch.variables if a.launch else {}).items()}}
        found = [
            item for item in FOR_SCRIPTS
            if (gpu or not item.gpu) and (not item.of or set(item.of) & set(frameworks)) and item.changes(given)
        ]  # fmt: skip
    late = first.verdict.phase in COMPUTED and first.verdict.phase != "init"
    noted = backend != "numpy" and a.kind is Kind.SCRIPT  # a Recorder's script keeps no ledger
    keys = [(not _places(item, first), item.computes != late, noted and item.ledger) for item in found]
    return [item for _, item in sorted(zip(keys, found, strict=True), key=lambda pair: pair[0])]


def as_change(item: Intervention, first: First) -> Change:
    """Return an intervention as a diagnosis keeps it, with what the first pair's ledgers say of it."""
    return Change(item.name, item.text, tuple(dict.fromkeys(entry.text for entry in _places(item, first))))


def by_name(change: str, a: RunManifest) -> Intervention:
    """Return the intervention that a diagnosis calls so; a setting is that of the reference."""
    known = {item.name: item for item in (FOR_EXPERIMENTS if a.kind is Kind.EXPERIMENT else FOR_SCRIPTS)}
    return known[change] if change in known else _as_in_a(change, a.config[change])


def changed_script(command: Command, options: Options, changes: Sequence[Intervention]) -> tuple[Command, Options]:
    """Return a command, and what its observers are asked, with changes."""
    variables = {name: str(value) for name, value in command.variables.items()}
    for item in changes:
        variables |= item.variables_for({**os.environ, **variables})
    inside = tuple(name for item in changes for name in item.inside)
    return Command(command.words, variables), replace(options, interventions=inside)


def _as_in_a(name: str, value: Any) -> Intervention:
    return Intervention(name, f"{assignment(name, value)} as in A", fields={name: value})


def _uses(name: str, first: First, backend: str) -> bool:
    """Say whether a run may use a framework: by what it computed with, or because a draw from its generator was noted."""
    if any(noted.source.startswith(name) for ledger in first.chance for noted in ledger):
        return True
    return not backend or (backend != "numpy" and backend.startswith("torch") == (name == "torch"))


def _places(item: Intervention, first: First) -> list[Entry]:
    """Return the places of the ledger at which chance entered before the first difference, and that a change fixes."""
    step = first.verdict.step or 0
    own = [[noted for noted in ledger if item.concerns(noted)] for ledger in first.chance]
    found = entries(own[0], own[1], step)
    if item.name == "clock":  # a seed that differs may come from anything; from the clock, most of the time
        pairs = [pair for pair in paired(*first.chance) if "time" in pair[0].text and pair[0].value != pair[1].value]
        found = entries([one for one, _ in pairs], [other for _, other in pairs], step)
    return found
