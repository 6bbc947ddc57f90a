"""The compiled functions of an experiment, the hashes that identify them, and the order in which they produce leaves."""

import hashlib
import re
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import monitoring
from jax.extend.core import Literal

from reprotui.checksum import jax_form
from reprotui.experiments.config import ExperimentConfig
from reprotui.experiments.protocol import State, StepOutput
from reprotui.experiments.random import purpose_key, root_key, step_key
from reprotui.record.trees import Order
from reprotui.trace.phases import STEP

Paths = list[tuple[str, str]]
"""(phase, path) of a function's outputs in flattening order."""


class Compiled(NamedTuple):
    """A jitted function, its hashes, and the production order of its outputs."""

    call: Any
    hashes: dict[str, str]
    order: dict[str, dict[str, int]]


class Program:
    """An experiment made ready to train: `init`, `batch`, `key` and `step`, compiled before the first step."""

    def __init__(self, experiment: Any, config: ExperimentConfig) -> None:
        self.experiment = experiment
        root = root_key(config.seed, config.prng)
        init_key = purpose_key(root, "init")
        key_of_step = jax.jit(step_key)
        self.batch = experiment.batch
        self.root = root
        self.key = lambda step, root=root: key_of_step(root, np.uint32(step))
        with _CacheWatch() as watch:
            init = _compile(jax.jit(experiment.init), (init_key,), _init_paths)
            self.initial = init.call(init_key)
            # The state's buffers are handed on: donation halves the memory, and changes no bit.
            step = _compile(
                jax.jit(experiment.train_step, donate_argnums=0),
                (self.initial, self.batch(1), self.key(1)),
                step_paths,
            )
        self.step = step.call
        self.order: Order = {**init.order, **step.order}
        self.compilation = "loaded from cache" if watch.hits and not watch.misses else "compiled"
        self.description = {
            "init": init.hashes,
            "step": step.hashes,
            "compilation": self.compilation,
        }


def _compile(function: Any, arguments: tuple[Any, ...], paths: Any) -> Compiled:
    traced = function.trace(*arguments)
    lowered = traced.lower()
    # The jitted function's first call takes this executable; nothing is compiled twice.
    optimized = lowered.compile().as_text() or ""
    names: Paths = paths(traced.out_info)
    ranks = _production_ranks(traced.jaxpr.jaxpr)
    order: dict[str, dict[str, int]] = {}
    for position, index in enumerate(sorted(range(len(names)), key=lambda i: (ranks[i], i))):
        phase, path = names[index]
        order.setdefault(phase, {})[path] = position
    hashes = {
        # Addresses of functions would make the text differ between processes.
        "jaxpr": _hash(re.sub(r"0x[0-9a-f]+", "0x", str(traced.jaxpr))),
        "stablehlo": _hash(lowered.as_text()),
        "optimized_hlo": _hash(_without_source(optimized)),
    }
    return Compiled(function, hashes, order)


def _without_source(hlo: str) -> str:
    """Return a program without the places in source files that it came from.

    They differ with the folder of the installation, and between a program compiled here and the same from the cache.
    """
    tables = r"^(FileNames|FunctionNames|FileLocations|StackFrames)\n(?:.+\n)*\n*"
    return re.sub(r", metadata=\{[^}]*\}", "", re.sub(tables, "", hlo, flags=re.MULTILINE))


def _production_ranks(jaxpr: Any) -> list[tuple[int, ...]]:
    """Return for every output the place of the equation that produces it; an output that is an input comes first."""
    produced: dict[Any, tuple[int, ...]] = {}
    for number, equation in enumerate(jaxpr.eqns):
        inner = next((value for name, value in equation.params.items() if name in ("jaxpr", "call_jaxpr")), None)
        inner = getattr(inner, "jaxpr", inner)
        inner_ranks = _production_ranks(inner) if inner is not None and len(inner.outvars) == len(equation.outvars) else None
        for position, variable in enumerate(equation.outvars):
            produced[variable] = (number, *(inner_ranks[position] if inner_ranks else ()))
    return [(-1,) if isinstance(variable, Literal) else produced.get(variable, (-1,)) for variable in jaxpr.outvars]


def _init_paths(state: State) -> Paths:
    return [("init", path) for name in State._fields for path, _ in jax_form.named_leaves(getattr(state, name), name)]


def step_paths(output: tuple[State, StepOutput]) -> Paths:
    """Return the outputs of a training step in flattening order."""
    phases = {name: phase for phase, name in STEP}
    state, shown = output
    trees = {**state._asdict(), **shown._asdict()}
    return [(phases[name], path) for name, tree in trees.items() for path, _ in jax_form.named_leaves(tree, name)]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class _CacheWatch:
    """Count hits and misses of jax's compilation cache while it is open."""

    def __enter__(self) -> "_CacheWatch":
        self.hits = self.misses = 0
        monitoring.register_event_listener(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        monitoring.unregister_event_listener(self._listen)

    def _listen(self, event: str, **_: Any) -> None:
        self.hits += event == "/jax/compilation_cache/cache_hits"
        self.misses += event == "/jax/compilation_cache/cache_misses"
