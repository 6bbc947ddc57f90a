"""Run a script or module as `__main__` of this process, with the observers in place before its first line.

`python -m reprotui.observe train.py --lr 0.1` runs `train.py` as `python train.py --lr 0.1` would. Each observer is installed
right after its framework was imported, whoever imports it: nothing is imported before the script does it.
"""

import atexit
import functools
import importlib
import os
import runpy
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from reprotui.errors import USAGE, ReprotuiError
from reprotui.observation import OPTIONS_VARIABLE, RUN_VARIABLE, Options, taken
from reprotui.observe import chance_sources, interventions
from reprotui.observe.generators import Generators
from reprotui.observe.hooks import after_import
from reprotui.observe.ledger import Ledger
from reprotui.observe.watch import Watch
from reprotui.ranks import rank_path
from reprotui.record.frameworks import this_rank
from reprotui.record.session import Session

USAGE_TEXT = """\
usage: python -m reprotui.observe [--step-function NAME] [--loss NAME] [--name NAME] [--inside] script.py … | -m module …

Run a training script that is not changed, and record its steps into a run directory (reprotui docs own-code)."""


def main(arguments: list[str]) -> int:
    """Run what the arguments name; return the exit code that Python itself would end with."""
    options = taken()
    given: dict[str, str] = {}
    while arguments and arguments[0] in ("--step-function", "--loss", "--name", "--inside") and len(arguments) > 1:
        takes = 1 if arguments[0] == "--inside" else 2
        given[arguments[0]] = arguments[takes - 1]
        arguments = arguments[takes:]
    if not arguments or (arguments[0].startswith("-") and (arguments[0] != "-m" or len(arguments) < 2)):
        print(USAGE_TEXT, file=sys.stderr)
        return USAGE
    options = options or Options(given.get("--step-function"), given.get("--loss"), inside="--inside" in given)
    module = arguments[1] if arguments[0] == "-m" else None
    sys.argv[:] = arguments[1:] if module else arguments
    try:
        code = None if module else _compiled(Path(arguments[0]))
        watch = start(options, given.get("--name"))
    except ReprotuiError as error:
        print(f"reprotui: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"reprotui: {arguments[0]} cannot be run: {error.strerror or error}", file=sys.stderr)
        return USAGE
    ended: BaseException | None = None
    try:
        if code is not None:
            _run_script(arguments[0], code)
        else:
            sys.path[0] = str(Path.cwd())
            runpy.run_module(str(module), run_name="__main__", alter_sys=True)
    except BaseException as error:
        ended = error
    watch.finish(ended)
    return _exit_code(ended)


def start(options: Options, name: str | None = None) -> Watch:
    """Put the observers in place; they act when the script imports jax or torch."""
    session = Session(name=name, interruption=options.interruption) if options.record else None
    Session.current = session
    if session is not None and not session.supervised:
        session.run.update_manifest(observation=options.told())
    watch = Watch(options, session)
    _install(watch)
    return watch


def start_in_place() -> None:
    """Put the observers in place in a process that began by itself, somewhere below the command that was started.

    The run is taken when the first step is seen, and by one process only, or by one of each rank: a launcher that imports a
    framework and starts the training as another process takes nothing.
    """
    options = Options.from_text(os.environ.get(OPTIONS_VARIABLE))

    ended: list[BaseException] = []
    excepthook = sys.excepthook

    def note(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
        ended.append(error)
        excepthook(kind, error, frames)

    def at_exit() -> None:
        watch.finish(ended[0] if ended else None)

    def open_session() -> Session | None:
        rank = this_rank().number
        if rank and not options.record:
            return None  # of a training that is spread over processes always the same one tells what it ends on
        # Where nothing is recorded there is no run, only the file for the digest of the end.
        place = Path(os.environ.get(RUN_VARIABLE, "")) if options.record else Path(options.final or "").parent
        place, watch.options = rank_path(place, rank), options if rank == 0 else replace(options, final=None)
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / "taken").touch(exist_ok=False)
        except OSError:
            return None
        import reprotui.integrity  # noqa: F401 - what the end needs cannot be imported at the end

        session = Session(interruption=options.interruption) if options.record else None
        atexit.register(at_exit)  # after the session's own, so before it at the end
        return session

    sys.excepthook = note
    watch = Watch(options, None, open_session)
    _install(watch)


def _install(watch: Watch) -> None:
    interventions.apply(watch.options.interventions)  # first, so that observers see what the script is given
    if watch.options.record:
        watch.ledger = Ledger(lambda: 0 if watch.session is None else watch.session.step)
        watch.generators = Generators(watch.ledger)
        try:
            chance_sources.install(watch.ledger)
        except Exception as error:  # another Python, or what the script put in the place of its own
            print(f"reprotui: where chance enters is not noted: {type(error).__name__}: {error}", file=sys.stderr)

    def observe(framework: str, module: ModuleType) -> None:
        try:
            importlib.import_module(f"reprotui.observe.{framework}_observer").install(module, watch)
        except Exception as error:  # another version of the framework: the script runs all the same
            watch.give_up(error)

    for framework in ("jax", "torch"):
        after_import(framework, functools.partial(observe, framework))


def _compiled(path: Path) -> CodeType:
    return compile(path.read_bytes(), str(path), "exec")


def _run_script(path: str, code: CodeType) -> None:
    """Run code as Python runs a script: its folder first in the search path, `__main__` its module to the very end."""
    module = ModuleType("__main__")
    module.__dict__.update(__file__=path, __builtins__=__builtins__, __spec__=None, __loader__=None)
    sys.path[0] = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 - as Python does it
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


def _exit_code(ended: BaseException | None) -> Any:
    if ended is None:
        return 0
    if isinstance(ended, SystemExit):
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    traceback.print_exception(type(ended), ended, _own(ended.__traceback__))
    return 130 if isinstance(ended, KeyboardInterrupt) else 1


def _own(frames: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of this file and of runpy, which are none of the script's business."""
    while frames is not None and frames.tb_frame.f_code.co_filename in (__file__, runpy.__file__, "<frozen runpy>"):
        frames = frames.tb_next
    return frames
