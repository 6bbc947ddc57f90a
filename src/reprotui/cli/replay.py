"""`reprotui replay`: the exact state at a step, of one run or of two with their exact differences."""

import argparse
import os
from typing import Any

from reprotui.cli import common
from reprotui.cli.told import Told
from reprotui.errors import CANNOT_TELL, DIFFERS, SAME, BadInputError


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "replay",
        "rebuild the exact state at a step, and with two runs show how it differs element by element",
        """reprotui replay runs/x/a --step 500
        reprotui replay runs/x/a runs/x/b --step 1 --json
        reprotui replay runs/x/a --step 37 --repeat 20   (is that step flaky?)""",
        description="Train again from the nearest checkpoint that verifies (or from init) in the recorded environment, and hold "
        "the checksums of every recorded step against the trace on the way. Equal: the state is the exact one, and is kept "
        "under the run for a while. Not equal: the first step that is not, and what changed since.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="run directory, or name in the runs directory; one or two")
    parser.add_argument("--step", type=common.step, required=True, metavar="S", help="the step; 0 is the state after init")
    parser.add_argument(
        "--repeat", type=common.positive, default=1, metavar="N", help="take the step N times from the same state"
    )
    parser.add_argument(
        "--current-environment", action="store_true", help="replay in the environment of this shell, not in the recorded one"
    )
    parser.add_argument("--fresh", action="store_true", help="replay even where the state is still kept")
    common.add_trust(parser)
    common.add_runs_directory(parser)
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Replay, and print what was found; exit 1 where a replay is not faithful or two runs differ."""
    from reprotui.cli import show_replay
    from reprotui.replay import Unfaithful, compare_states

    if len(parsed.run) > 2:
        raise BadInputError("replay compares two runs at most")
    runs = [one_run(name, parsed) for name in parsed.run]
    results = [_replay(run, parsed) for run in runs]
    found = [state for state, _ in results]
    exact = [state for state in found if not isinstance(state, Unfaithful)]
    difference = compare_states(exact[0], exact[1]) if len(exact) == 2 else None
    code = SAME
    if len(exact) < len(found):
        # Between two runs nothing exact can be said then.
        code = DIFFERS if len(found) == 1 else CANNOT_TELL
    elif difference is not None and not difference.same:
        code = DIFFERS
    if parsed.json:
        common.print_json(
            {
                "exit_code": code,
                "step": parsed.step,
                "runs": [show_replay.to_json(*result) for result in results],
                "difference": None if difference is None else difference.to_json(),
            }
        )
        return code
    for result in results:
        show_replay.show_state(*result)
    if difference is not None:
        show_replay.show_difference(difference)
    return code


def one_run(name: str, parsed: argparse.Namespace) -> Any:
    """Return the run that an argument means; a race is none."""
    from reprotui.run_directory import RunDirectory

    path = common.find_run(name, common.runs_directory(parsed))
    if (path / "race.json").exists():
        raise BadInputError(f"{path} is a race: name one or two of its runs, such as {path / 'a'} {path / 'b'}")
    return RunDirectory(path)


def _replay(run: Any, parsed: argparse.Namespace) -> tuple[Any, Any]:
    from reprotui.race.launch import launch_environment
    from reprotui.replay.replay import repeat_step, replay_step

    environment = launch_environment(run.manifest().config, os.environ) if parsed.current_environment else None
    say = Told()

    def progress(done: int, total: int) -> None:
        say(f"replaying {run.path.name}: {done} of {total} steps")

    if parsed.repeat > 1:
        return repeat_step(run, parsed.step, parsed.repeat, progress, environment=environment, trusted=parsed.trust)
    fresh = parsed.fresh or environment is not None
    return replay_step(run, parsed.step, progress, environment=environment, fresh=fresh, trusted=parsed.trust), None
