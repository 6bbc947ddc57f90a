"""Name the cause of a first difference, from the causal order of the phases and what differs around the runs.

The phase that differs first had equal inputs, so what enters that phase is what differs: each config field says which
phases it enters, each environment entry belongs to the computation, and the ledgers of chance say where chance came in.
"""

from collections.abc import Sequence

from reprotui.compare.arguments import only_names
from reprotui.compare.around import ConfigDifference, config_differences, environment_differences, hash_seed, numeric
from reprotui.compare.asked import OtherQuestion
from reprotui.compare.chance import Entry
from reprotui.compare.differences import FirstDifference
from reprotui.compare.evidence import COMPUTED, began_unseen, listed, place_of, programs, some, source_differences, streams
from reprotui.compare.judgement import Judgement, Situation, judge
from reprotui.compare.verdict import Cause
from reprotui.environment import Difference
from reprotui.manifest import Kind, RunManifest
from reprotui.trace.phases import PHASES, REPLACED

_ECHOES = {
    "threads": ("variables.NPROC", "devices.cpu_threads"),
    "xla_flags": ("variables.XLA_FLAGS",),
    "deterministic": ("variables.XLA_FLAGS",),
}
"""Environment entries that a config field sets: said once, by the field's name."""


def find_cause(
    a: RunManifest, b: RunManifest, first: FirstDifference, batch_found_at: int | None = None, chance: Sequence[Entry] = (),
    asked: OtherQuestion | None = None,
) -> Cause:  # fmt: skip
    """Return the cause of a first difference.

    Args:
        a, b: the manifests of the runs.
        first: where they first differ.
        batch_found_at: a step of A whose batch equals B's at the first differing step, where there is one.
        chance: the places by which the runs can have come to differ.
        asked: what a network was asked before, where that differs: what a policy acts on becomes its batch.
    """
    configs = config_differences(a, b)
    echoes = {name for item in configs for name in _ECHOES.get(item.name, ())}
    environments = [item for item in environment_differences(a, b) if item.name not in echoes]
    explaining = [item for item in configs if _explains(item, first) and not only_names(item)]
    around = [
        *(_numeric(a, b, environments) if first.phase in COMPUTED else hash_seed(environments)),
        *source_differences(a, b),
    ]
    explained_by = tuple(map(str, [*explaining, *around]))
    unrelated = tuple(item for item in map(str, [*configs, *environments]) if item not in explained_by)
    evidence = [*place_of(first), *programs(a, b, first.phase)]
    found = judge(Situation(a, b, first, explaining, around, batch_found_at))
    let_in = [] if any(leaf.path.startswith(REPLACED) for leaf in first.leaves) else list(chance)
    explained_by_settings = bool(explained_by)
    if explained_by:
        given = [entry for entry in let_in if entry.certain and _gave(entry, explaining)]
        evidence += [entry.text for entry in given]
        others = [entry for entry in let_in if entry not in given]
        # Nobody knows what a script's arguments enter: they are a reason beside what is known to have let chance in.
        if others and not given and Kind.SCRIPT in (a.kind, b.kind) and _of_any_phase(explaining, around):
            found = found._replace(sentence=f"{found.sentence}, or because {others[0].text}")
    elif let_in:
        found = _let_in(first, found, let_in)
        explained_by = tuple(entry.text for entry in let_in)
    elif names := [str(item) for item in configs if only_names(item)]:
        found = found._replace(sentence=f"{found.sentence}; of the settings nothing differs but {some(names)}")
    if asked is not None:
        evidence.append(str(asked))
        if first.phase == "batch" and not explained_by_settings:
            found = found._replace(sentence=found.sentence.replace("the batch differs", str(asked), 1))
    if batch_found_at is not None:
        evidence.append(f"B's batch of step {first.step} is A's batch of step {batch_found_at}")
    if not first.exact:
        evidence.append(_unrecorded(first))
    return Cause(found.kind, found.sentence, explained_by, tuple(evidence), unrelated, found.advice)


def unseen_cause(a: RunManifest, b: RunManifest, last: int, unseen: Sequence[str]) -> Cause:
    """Return the cause of a difference that shows in the final states alone, behind the last record that both runs have."""
    configs = config_differences(a, b)
    explaining = [item for item in configs if any(phase != "init" for phase in item.phases) and not only_names(item)]
    around = [*_numeric(a, b, environment_differences(a, b)), *source_differences(a, b)]
    explained_by = tuple(map(str, [*explaining, *around]))
    because = f", likely because of {', '.join(explained_by)}" if explained_by else ""
    return Cause(
        "unknown",
        f"all records agree, the final states do not: it began after step {last}, in calls that lie in no record{because}",
        explained_by,
        ("; ".join(unseen) if unseen else "the last steps were not recorded",),
        tuple(str(item) for item in configs if str(item) not in explained_by),
        advice="record every step (--every 1), and name the function that takes the steps with --step-function",
    )


def _let_in(first: FirstDifference, found: Judgement, chance: Sequence[Entry]) -> Judgement:
    """Return the judgement of a difference that nothing around the runs explains, and places where chance came in do.

    What is known to differ there is the reason; what was only left to chance is so where it alone can be behind it, and likely
    otherwise.
    """
    certain = [entry for entry in chance if entry.certain]
    places = certain or list(chance)
    what, kind = {
        "init": ("the initial state differs", "initialisation"),
        "batch": ("the batch differs", found.kind if found.kind.startswith("data") else "data"),
        "rng": (
            f"the state of {listed(generators, 'and')} differs" if (generators := streams(first)) else "the step's key differs",
            "keys",
        ),
    }.get(first.phase, (f"{first.phase} differs with equal recorded inputs", found.kind))
    if began_unseen(first):
        what = f"the runs came to differ before step {first.step} was over"
    direct = first.phase in ("init", "batch", "rng") and (certain or (len(places) == 1 and places[0].drawn))
    more = f"; or because {places[1].text}" if len(places) > 1 else ""
    more += f", and {len(places) - 2} more such places" if len(places) > 2 else ""
    sentence = f"{what}, {'' if direct else 'likely '}because {places[0].text}{more}"
    return Judgement(kind, sentence, places[0].advice)


def _gave(entry: Entry, explaining: Sequence[ConfigDifference]) -> bool:
    """Say whether a setting is what made a place differ: the seeds are its values."""
    return any(entry.values == (str(item.a), str(item.b)) for item in explaining)


def _of_any_phase(explaining: Sequence[ConfigDifference], around: Sequence[object]) -> bool:
    return not around and all(item.phases == PHASES for item in explaining)


def _numeric(a: RunManifest, b: RunManifest, environments: Sequence[Difference]) -> list[Difference]:
    return numeric(environments, all("cpu_threads" in run.devices for run in (a, b)))


def _unrecorded(first: FirstDifference) -> str:
    if first.previous is None:
        return f"nothing before step {first.step} was recorded, not even the state after init: it began before it or here"
    return f"steps between {first.previous} and {first.step} were not recorded: it began in one of them or here"


def _explains(item: ConfigDifference, first: FirstDifference) -> bool:
    """Say whether a field can be behind a first difference: it enters that phase, or any phase of a step not recorded."""
    if not _active(item, first.step):
        return False
    return first.phase in item.phases or (began_unseen(first) and any(phase != "init" for phase in item.phases))


def _active(item: ConfigDifference, step: int) -> bool:
    """Say whether a field that takes effect at a step of its own had taken effect by then."""
    if item.name == "shuffle_from":
        return min(value for value in (item.a, item.b) if value is not None) <= step
    if item.name == "perturb":
        return any(value is not None and int(value.split(":", 1)[0]) <= step for value in (item.a, item.b))
    return True
