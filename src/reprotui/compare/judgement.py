"""What a first difference is put down to: kind of cause, sentence and advice, from its phase and what differs around the runs.

A sentence says only what was recorded. Equal inputs that are all there make a computation that is not deterministic, or silent
data corruption; where something that enters was not recorded, that comes first, and corruption last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from reprotui.compare.around import ConfigDifference
from reprotui.compare.differences import FirstDifference
from reprotui.compare.evidence import (
    began_unseen,
    both_programs,
    equal_so_far,
    follows_an_update,
    listed,
    not_explaining,
    program_of,
    some,
    streams,
    unrecorded,
)
from reprotui.compare.undetermined import undetermined
from reprotui.manifest import Kind, RunManifest
from reprotui.trace.phases import REPLACED

_OPTIMIZER = {"optimizer", "lr", "momentum", "weight_decay"}
_AGAIN = "race again with --every 1"


class Judgement(NamedTuple):
    """A cause in words: its kind, as in `Cause`, the sentence, and what to try."""

    kind: str
    sentence: str
    advice: str = ""


@dataclass(frozen=True)
class Situation:
    """Two runs at their first difference.

    Attributes:
        explaining, around: the settings, and what of environment and sources, that differ and can be behind it.
        batch_found_at: a step of A whose batch equals B's, where there is one.
    """

    a: RunManifest
    b: RunManifest
    first: FirstDifference
    explaining: Sequence[ConfigDifference] = ()
    around: Sequence[Any] = ()
    batch_found_at: int | None = None

    @property
    def because(self) -> str:
        """Return what explains it, in a row."""
        return ", ".join(map(str, [*self.explaining, *self.around]))

    @property
    def settings(self) -> set[str]:
        """Return the names of the settings that explain it."""
        return {item.name for item in self.explaining}

    @property
    def missing(self) -> list[str]:
        """Return what enters the phase and was not recorded."""
        return unrecorded(self.a, self.b, self.first)


def judge(found: Situation) -> Judgement:
    """Say what is behind a first difference, as far as phase, settings, environment and programs tell."""
    first, because = found.first, found.because
    if "perturb" in found.settings:
        return Judgement("corruption", "a bit was flipped on purpose (perturb): a simulated silent data corruption")
    if any(leaf.path.startswith(REPLACED) for leaf in first.leaves):
        return _replaced(found)
    structural = {leaf.kind for leaf in first.leaves} - {"bits"}
    if structural and first.phase != "batch":
        why = f"because of {because}" if because else "and no recorded difference of config or code explains it"
        return Judgement("config", f"the trees differ ({', '.join(sorted(structural))}), {why}")
    if began_unseen(first) and because:
        kind = "optimizer" if _OPTIMIZER & found.settings else "computation"
        when = f"before step {first.step}" if first.previous is None else f"after step {first.previous}"
        advice = "to see where it began, race again with --every 1"
        return Judgement(kind, f"the runs came to differ {when}, because of {because}", advice)
    match first.phase:
        case "init":
            return _computed("initialisation", "the initial state differs", found)
        case "batch":
            return _batch(found)
        case "rng":
            return _rng(found)
        case "optimizer" | "params":
            return _update(found)
        case _:
            if not because and _only_state(first):
                return _corruption(found)
            return _computed("computation", f"equal {'recorded ' if found.missing else ''}inputs give different results", found)


def _replaced(found: Situation) -> Judgement:
    leaves = [leaf for leaf in found.first.leaves if leaf.path.startswith(REPLACED)]
    names = some([leaf.path.removeprefix(REPLACED) for leaf in leaves])
    if all(leaf.kind == "bits" for leaf in leaves):
        what = f"both scripts put something else in the place of {names}, and not the same"
    else:
        what = f"one script put something else in the place of {names}, the other did not"
    return Judgement("state", f"{what}, because of {found.because}" if found.because else what)


def _batch(found: Situation) -> Judgement:
    digests = found.a.data_digest, found.b.data_digest
    data = None not in digests and digests[0] != digests[1]
    if found.because:
        return Judgement("data" if data else "data-order", f"the batch differs, because of {found.because}")
    if data:
        return Judgement("data", "the batch differs: the data themselves differ")
    advice = (
        "seed what makes the batch, or look for iteration over sets, racing threads and unseeded NumPy, in worker processes too"
    )
    if found.batch_found_at is not None:
        return Judgement("data-order", "the batch differs: its order or selection does, and nothing recorded explains it", advice)
    return Judgement(
        "data", "the batch differs, and nothing recorded explains it: what made it is not the same each time", advice
    )


def _rng(found: Situation) -> Judgement:
    first = found.first
    if generators := streams(first):
        what = f"the state of {listed(generators, 'and')} differs"
        if not found.because:
            why = "one run drew from it what the other did not, or was given another seed"
            advice = "give what may draw at another time a generator of its own: random.Random(0), numpy.random.default_rng(0)"
            return Judgement("keys", f"{what}: {why}", advice)
    else:
        what = "the step's key differs"
        if not found.because:
            why = f"{not_explaining(found.a, found.b, 'rng')}: it was made from another seed, or otherwise"
            return Judgement(
                "keys", f"{what}, and {why}", "look where the key is made: a seed from the clock, or None, does this"
            )
    return Judgement("keys", f"{what}, because of {found.because}")


def _update(found: Situation) -> Judgement:
    first, because = found.first, found.because
    if follows_an_update(first):
        return _computed("computation", f"{equal_so_far(first)}, what follows it is not", found)
    if _OPTIMIZER & found.settings:
        return Judgement("optimizer", f"the optimizer differs: {because}")
    if because:
        return Judgement("optimizer" if found.explaining else "computation", f"{_updated(first)}, because of {because}")
    return _corruption(found)


def _updated(first: FirstDifference) -> str:
    """Return what an update made that differs, and what was seen to be equal before it."""
    if "grads" not in first.recorded:
        return "the updated state differs"
    if first.phase == "optimizer":
        return "the optimizer's new state differs with equal gradients"
    both = " and equal optimizer state" if "optimizer" in first.recorded else ""
    return f"the update differs with equal gradients{both}"


def _computed(kind: str, what: str, found: Situation) -> Judgement:
    """Say why a computation differs whose recorded inputs are equal."""
    a, b, first = found.a, found.b, found.first
    if found.because:
        return Judgement(kind, f"{what}, because of {found.because}")
    if not first.exact:
        return Judgement("unknown", f"{what}, but the steps before it were not recorded", _AGAIN)
    if both_programs(a, b, first.phase) and program_of(a, first.phase) != program_of(b, first.phase):
        return Judgement(kind, f"{what}: the programs differ, {_although(found)}", "compare the sources of the two runs")
    around = not_explaining(a, b, first.phase)
    if (free := undetermined(a) or undetermined(b)) is not None:
        likely = "likely " if found.missing else ""
        return Judgement(
            "nondeterminism", f"{what}, and {around}: {likely}the computation is not deterministic: {free.why}", free.advice
        )
    if first.phase == "init":
        why = "an initialiser without a seed, more likely than a computation that is not deterministic"
        return Judgement("nondeterminism", f"{what}, and {around}: {why}", "give the initialiser a seed; " + _look_further(a))
    if not found.missing:
        return Judgement("nondeterminism", f"{what}, and {around}: the computation is not deterministic", _look_further(a))
    return Judgement(
        "nondeterminism", f"{what}, and {around}: {_unseen(found)}, or the computation is not deterministic", _look_further(a)
    )


def _although(found: Situation) -> str:
    return f"and {not_explaining(found.a, found.b, 'batch')}"  # without the program


def _unseen(found: Situation) -> str:
    return f"something that is not recorded differs ({listed(found.missing, 'or')})"


def _corruption(found: Situation) -> Judgement:
    """Say why state differs after a step whose recorded inputs are equal."""
    a, b, first = found.a, found.b, found.first
    if not first.exact:
        return Judgement("unknown", "the state differs, but the steps before it were not recorded", _AGAIN)
    where = first.leaves[0].path if len(first.leaves) == 1 else f"{len(first.leaves)} leaves" if first.leaves else first.phase
    missing = found.missing
    seen = "all that was recorded of the step is equal" if missing else "all inputs of the step are equal"
    if both_programs(a, b, first.phase) and program_of(a, first.phase) != program_of(b, first.phase):
        told = f"the state changed in {where} while {seen}: the programs differ, {_although(found)}"
        return Judgement("computation", told, "compare the sources of the two runs")
    free = undetermined(a) or undetermined(b)
    # A bit that flips, flips in one leaf.
    if free is not None and (len(first.leaves) != 1 or len(first.phases) != 1):
        likely = "likely " if missing else ""
        told = f"the state changed in {where} while {seen}: {likely}the computation is not deterministic: {free.why}"
        return Judgement("nondeterminism", told, free.advice)
    advice = "race it against itself (--repeat 3): a chip that fails does so rarely, a program that is not deterministic often"
    if missing:
        last = f"{_unseen(found)}, the update is not deterministic, or, last, silent data corruption"
        return Judgement("nondeterminism", f"the state changed in {where} while {seen}: {last}", advice)
    told = f"the state changed in {where} while {seen}: silent data corruption, or an update that is not deterministic"
    return Judgement("corruption", told, advice)


def _look_further(manifest: RunManifest) -> str:
    if manifest.kind is Kind.EXPERIMENT:
        return "race it against itself (--repeat 3), and with threads=1"
    # A script of one's own: jax reads NumPy arrays where they lie, on the CPU while the script goes on.
    return "race it against itself (--repeat 3); a batch overwritten while it is still read does this: hand over copies"


def _only_state(first: FirstDifference) -> bool:
    """Say whether `extra` leaves alone differ in the forward pass, with loss and gradients equal: they did not come from it."""
    seen = first.phases == ("forward",) and "grads" in first.recorded
    return seen and bool(first.leaves) and all(leaf.path.startswith("extra/") for leaf in first.leaves)
