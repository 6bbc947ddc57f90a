"""What a new race can be asked for besides the config of its runs: the options of `reprotui race`, as lines of the form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NO, YES = "no", "yes"
GO_ON = "go on"


@dataclass(frozen=True)
class Option:
    """One option, the same for all runs.

    Attributes:
        name: of the option of the command line, without its dashes.
        group: the heading under which it stands.
        default: what stands there before anything is typed.
        means: what it is, for people.
        choices: what can be chosen; none where it is typed.
        count: a whole number from 1 on is meant.
        empty: what is shown where nothing stands there.
        of_scripts: for races of scripts alone (True), of experiments alone (False), or for both.
    """

    name: str
    group: str
    default: str
    means: str
    choices: tuple[str, ...] = ()
    count: bool = False
    empty: str = ""
    of_scripts: bool | None = None


AT_DIVERGENCE, REPEAT, TOLERANCE = "at-divergence", "repeat", "tolerance"
OPTIONS = (
    Option(REPEAT, "race", "1", "start each column that many times", count=True),
    Option(AT_DIVERGENCE, "race", GO_ON, "what all runs do at the first difference, while this dashboard watches",
           (GO_ON, "stop", "pause")),
    Option(TOLERANCE, "race", "", "how far they may differ: ulp=4, abs=1e-6,rel=1e-5, params:rel=1e-3; several with blanks",
           empty="(equal to the bit)"),
    Option("every", "recording", "1", "record every K-th step (≥ 1)", count=True),
    Option("leaves-every", "recording", "1", "store the leaves of every K-th record (≥ 1)", count=True),
    Option("stats-every", "recording", "20", "norms and maxima every K records (≥ 1; 1 with a tolerance)", count=True),
    Option("replicas", "recording", "all", "copies on several devices: read all, or the first", ("all", "first")),
    Option("stop-at-nan", "recording", NO, "stop a run once its loss, gradients or state hold NaN or infinity", (NO, YES)),
    Option("inside", "recording", NO, "record each iteration of a jax loop inside one call (scan, fori_loop …)", (NO, YES),
           of_scripts=True),
    Option("step-function", "recording", "", "the train step, where another function would be taken for it",
           empty="(found by itself)", of_scripts=True),
    Option("loss", "recording", "", "the scalar output that is the loss, where another would be taken for it",
           empty="(found by itself)", of_scripts=True),
    Option("check", "recording", "", "recompute this share of the steps, which must come out to the bit, such as 1%",
           empty="(none)", of_scripts=True),
    Option("save-every", "checkpoints", "", "save a checkpoint every N steps and at the end", count=True, empty="(never)",
           of_scripts=False),
    Option("save-at", "checkpoints", "", "save one at these steps, with blanks between them", empty="(at no step)",
           of_scripts=False),
)  # fmt: skip
BY_NAME = {option.name: option for option in OPTIONS}


def options_of(scripts: bool) -> tuple[Option, ...]:
    """Return the options of a race of scripts, or of an experiment."""
    return tuple(option for option in OPTIONS if option.of_scripts in (None, scripts))


def default_of(name: str, chosen: Mapping[str, str]) -> str:
    """Return the default of an option, which may rest on what was chosen elsewhere."""
    if name == "stats-every" and chosen.get(TOLERANCE):
        return "1"
    return BY_NAME[name].default


def words(chosen: Mapping[str, str], scripts: bool) -> list[str]:
    """Return what was chosen as words of the command line; how often is said elsewhere."""
    found: list[str] = []
    for option in options_of(scripts):
        text = chosen.get(option.name, "")
        if not text or option.name == REPEAT or text == option.default:
            continue
        if option.name == AT_DIVERGENCE:
            found.append(f"--{text}-at-divergence")
        elif option.choices == (NO, YES):
            found.append(f"--{option.name}")
        elif option.name in (TOLERANCE, "save-at"):
            found += [word for part in text.split() for word in (f"--{option.name}", part)]
        else:
            found += [f"--{option.name}", text]
    return found


def problem_of(name: str, text: str) -> str:
    """Return what is wrong with a text in the line of an option, as far as the text alone tells; empty where nothing is."""
    from reprotui.compare.tolerance import parse_tolerance
    from reprotui.errors import ReprotuiError
    from reprotui.observation import parse_share

    option = BY_NAME[name]
    if option.count:
        return "" if is_count(text) or text == option.default else "a whole number from 1 on"
    if option.choices:
        return "" if text in option.choices else f"one of {', '.join(option.choices)}"
    if name == "save-at":
        return "" if all(map(is_count, text.split())) else "whole numbers from 1 on, with blanks between them"
    if name == TOLERANCE:
        try:
            parse_tolerance(text.split())
        except ReprotuiError as error:
            return str(error)
    elif name == "check":
        try:
            parse_share(text)
        except ReprotuiError as error:
            return str(error)
    elif len(text.split()) > 1:
        return "the name of a function of the script"
    return ""


def is_count(text: str) -> bool:
    """Say whether a text is a whole number from 1 on."""
    return text.isascii() and text.isdigit() and int(text) > 0
