"""Prove that a script's resumed run is its uninterrupted one: what `reprotui resume-check` does, for tests and notebooks."""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.errors import CANNOT_TELL, DIFFERS, SAME, USAGE, BadInputError, WorkerFailedError

Words = str | Sequence[str]
"""A command: one text, or its words."""


@dataclass(frozen=True)
class ResumeReport:
    """What a resume check showed. True in a condition only where every record of the resumed run was equal to the bit.

    Attributes:
        verdict: `equivalent`, `not equivalent` or `cannot tell`.
        goes_on_after: the step after which each part goes on.
        restored, not_restored: what the last part began with and what not, such as `params`, `optimizer`, `rng/torch`, `batch`.
        step, phase: the first difference, None where there is none.
        sentence, advice: what was forgotten, or why nobody can tell, and what to do about it.
        runs: the directory of the runs.
    """

    verdict: str
    goes_on_after: tuple[int, ...]
    restored: tuple[str, ...]
    not_restored: tuple[str, ...]
    step: int | None
    phase: str | None
    sentence: str
    advice: str
    runs: Path

    def __bool__(self) -> bool:
        return self.verdict == "equivalent"

    def __str__(self) -> str:
        where = " and ".join(map(str, self.goes_on_after))
        lines = [f"{self.verdict}: goes on after step {where}" if where else self.verdict]
        lines += [f"first difference at step {self.step} · {self.phase}"] if self.step is not None else []
        lines += [self.sentence] if self.sentence else []
        lines += [f"try: {self.advice}"] if self.advice else []
        return "\n  ".join(lines)


def verify_resume(
    full: Words, first: Words | None = None, *then: Words, interrupt_at: int | None = None, signal: str = "TERM", times: int = 1,
    offset: int | None = None, runs: Path | str | None = None, name: str | None = None,
) -> ResumeReport:  # fmt: skip
    """Run a script whole and in parts, each from the checkpoint of the one before, and compare every recorded step.

    Args:
        full: the uninterrupted run, such as `python train.py --steps 100`.
        first: the first part, which saves a checkpoint: `python train.py --steps 50 --save ck`.
        then: what goes on from it: `python train.py --steps 100 --resume ck`.
        interrupt_at: without parts: `full` is stopped after so many steps and started again; `{dir}` in it is a folder of its
            own for the whole run, and another one for the parts.
        signal: what stops it, `TERM` or `KILL`.
        times: how often it is stopped.
        offset: after which step the last part goes on, where that cannot be found from its first state.
        runs, name: where the runs are kept; as `--runs-dir` and `--name`.

    Returns:
        A report, true in a condition where the resumed run is the uninterrupted one.

    Raises:
        BadInputError: neither parts nor a step to interrupt at, or both; a command that cannot be run.
        WorkerFailedError: a run failed.
    """
    if (interrupt_at is None) == (first is None) or (first is not None and not then):
        raise BadInputError(
            "say how it is resumed: verify_resume(full, first, then), or verify_resume(command, interrupt_at=N) for a script "
            "that goes on by itself"
        )
    options = [f"--{key}={value}" for key, value in (("runs-dir", runs), ("name", name), ("offset", offset)) if value is not None]
    if first is None:
        given = [f"--interrupt-at={interrupt_at}", f"--signal={signal}", f"--times={times}", "--", *_words(full)]
    else:
        given = ["--full", _text(full), "--first", _text(first)]
        for part in then:
            given += ["--then", _text(part)]
    done = subprocess.run(
        [sys.executable, "-m", "reprotui", "resume-check", "--json", *options, *given], capture_output=True, text=True,
        encoding="utf-8", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode not in (SAME, DIFFERS, CANNOT_TELL) or not done.stdout.strip():
        said = done.stderr.strip().splitlines() or ["it ended without a word"]
        kind = BadInputError if done.returncode == USAGE else WorkerFailedError
        raise kind(said[-1].removeprefix("reprotui: "))
    return _report(json.loads(done.stdout))


def _report(found: Mapping[str, Any]) -> ResumeReport:
    comparison = found["comparison"]
    cause = comparison["cause"] or {}
    return ResumeReport(
        found["verdict"], tuple(found["goes_on_after"]), tuple(found["restored"]),
        tuple(item["what"] for item in found["not_restored"]), comparison["step"], comparison["phase"],
        cause.get("sentence") or comparison["reason"], cause.get("advice", ""), Path(found["runs"]),
    )  # fmt: skip


def _words(command: Words) -> list[str]:
    return shlex.split(command) if isinstance(command, str) else list(command)


def _text(command: Words) -> str:
    return command if isinstance(command, str) else shlex.join(command)
