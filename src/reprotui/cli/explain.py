"""`reprotui explain`: the first kernel of a step that differs between two runs, and the line of source that it came from."""

import argparse
from typing import Any

from reprotui.cli import common
from reprotui.cli.replay import one_run
from reprotui.cli.told import Told
from reprotui.errors import BadInputError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "explain",
        "name the first kernel or operation that differs in a step of two runs, and its line of source",
        """reprotui explain runs/x/a runs/x/b              (their first different step)
        reprotui explain runs/x/a runs/x/b --step 12 --json
        reprotui explain runs/x/a --step 12 --repeat 20   (is a part of it not deterministic with itself?)""",
        description="Take the step again in both runs, each in a process of its own and its recorded environment, and read what "
        "every kernel of the compiled program gives, or every operation that torch calls. What the step gives must be what was "
        "recorded, and must not change by the reading: else nothing is said. Experiments that reprotui trains begin with the "
        "state before the step; scripts in PyTorch or jax run again from their beginning, in their folder, and are stopped "
        "behind the step. On one CPU.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="run directory, or name in the runs directory; one or two")
    parser.add_argument("--step", type=common.step, metavar="S", help="the step (default: the first that differs)")
    parser.add_argument(
        "--repeat", type=common.positive, metavar="N", help="of one run: take the step N times (a script runs N times)"
    )
    common.add_trust(parser)
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Explain, and print what was found; 0: no kernel differs, 1: one does, 3: it cannot be told."""
    from reprotui.compare.explained import Kept
    from reprotui.explain import NotExplained
    from reprotui.race.explaining import explain_repeats, explain_step, keep

    if len(parsed.run) > 2:
        raise BadInputError("explain takes two runs, or one with --repeat")
    runs = [one_run(name, parsed) for name in parsed.run]
    say, kept = Told(), Kept()
    if len(runs) == 1:
        if parsed.repeat is None or parsed.repeat < 2:
            raise BadInputError("one run alone has nothing to differ from: name a second one, or --repeat with 2 or more")
        if parsed.step is None:
            raise BadInputError("--repeat takes a step again and again: name it with --step")
        found = explain_repeats(runs[0].path.name, runs[0], parsed.step, parsed.repeat, say, trusted=parsed.trust)
    elif parsed.repeat is not None:
        raise BadInputError("--repeat is for one run; two runs are compared kernel by kernel")
    else:
        found = explain_step(_labelled(runs), parsed.step, say, trusted=parsed.trust)
        kept = Kept() if isinstance(found, NotExplained) else keep(_labelled(runs), found)
    if isinstance(found, NotExplained):
        return _not_explained(found, parsed.json)
    if parsed.json:
        file = {"kept": str(kept.path) if kept.path else None} if len(runs) > 1 else {}
        common.print_json({"exit_code": found.exit_code, "runs": [str(run.path) for run in runs], **file, **found.to_json()})
    else:
        _show(found)
        if kept.path is not None:
            common.console().print(f"  {'kept':<12} for reports of {kept.path.parent}", style="dim", markup=False)
    if kept.problem:
        common.say(f"it was not kept for reports: {kept.problem}", stderr=True)
    return found.exit_code


def _labelled(runs: list[Any]) -> list[tuple[str, Any]]:
    from reprotui.compare.runs import labels_of

    return list(zip(labels_of([run.path for run in runs]), runs, strict=True))


def _not_explained(found: Any, as_json: bool) -> int:
    from reprotui.cli.show_replay import show_state, to_json

    if as_json:
        common.print_json({"exit_code": found.exit_code, "headline": found.headline, "replay": to_json(found.found, None)})
    else:
        show_state(found.found, None)
    return found.exit_code


def _show(found: Any) -> None:
    from reprotui.cli.show_checkpoint import BAD, GOOD
    from reprotui.explain import Explanation
    from reprotui.explain.lines import of_explanation, of_repeats

    console = common.console()
    head, lines = of_explanation(found) if isinstance(found, Explanation) else of_repeats(found)
    console.print(common.styled((head, {0: GOOD, 1: BAD}.get(found.exit_code, "bold"))))
    for name, text in lines:
        console.print(f"  {name:<12} {text}")
