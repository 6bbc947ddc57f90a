"""Print verdicts for people, and turn a race into JSON."""

import shlex
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.compare import LeafDifference, Verdict
from reprotui.errors import ReprotuiError
from reprotui.foreign import visible_log
from reprotui.run_directory import RunDirectory
from reprotui.trace import Trace

STYLES = {
    "identical": "bold #009e73",
    "diverged": "bold #d55e00",
    "incomplete": "bold #e69f00",
    "incomparable": "bold #e69f00",
}
"""Okabe-Ito: told apart by people who do not see red and green, and the words carry the meaning anyway."""
LEAVES_SHOWN = 8
LOG_LINES = 12


def print_verdicts(verdicts: list[Verdict], groups: list[list[str]], runs: dict[str, RunDirectory], path: Path) -> None:
    """Print the verdict of every run against the reference, who agrees with whom, and a line a run."""
    console = common.console()
    for verdict in verdicts:
        against = f"{verdict.b} against {verdict.a}: " if len(verdicts) > 1 else ""
        print_verdict(console, verdict, against)
    if len(verdicts) > 1:
        console.print("agree: " + " · ".join(" = ".join(group) for group in groups))
    for label, run in runs.items():
        console.print(f"  {label.upper():<3} {run_line(run)}")
    console.print(f"  in  {common.short(path)}", style="dim")
    console.print(f"  see it: reprotui open {shlex.quote(str(common.short(path)))}", style="dim", soft_wrap=True)
    for label, run in runs.items():
        print_failure(console, label.upper(), run)


def print_verdict(console: Any, verdict: Verdict, before: str = "") -> None:
    """Print headline, cause, evidence and leaves of a verdict."""
    console.print(before + verdict.headline, style=STYLES[verdict.kind], soft_wrap=True)
    rows: list[tuple[str, str]] = []
    if verdict.cause:
        rows.append(("cause", verdict.cause.sentence))
        rows += [("evidence" if index == 0 else "", line) for index, line in enumerate(verdict.cause.evidence)]
        if verdict.cause.unrelated:
            rows.append(("differs too", "; ".join(verdict.cause.unrelated) + " (does not explain it)"))
        if verdict.cause.advice:
            rows.append(("try", verdict.cause.advice))
    rows += [("leaves" if index == 0 else "", _leaf(leaf)) for index, leaf in enumerate(verdict.leaves[:LEAVES_SHOWN])]
    if len(verdict.leaves) > LEAVES_SHOWN:
        rows.append(("", f"and {len(verdict.leaves) - LEAVES_SHOWN} more"))
    rows += [("note", note) for note in verdict.notes]
    for name, text in rows:
        console.print(f"  {name:<12}{text}", soft_wrap=True)


def _leaf(leaf: LeafDifference) -> str:
    spec = leaf.a or leaf.b
    assert spec is not None
    if leaf.kind == "bits" and leaf.checksum_a is not None and leaf.checksum_b is not None:
        detail = f"A {leaf.checksum_a:016x}  B {leaf.checksum_b:016x}"
    elif leaf.a and leaf.b:
        detail = f"A {leaf.a.dtype}{list(leaf.a.shape)}  B {leaf.b.dtype}{list(leaf.b.shape)}"
    else:
        detail = leaf.kind
    shape = ",".join(map(str, spec.shape))
    return f"{leaf.path}  {spec.dtype}[{shape}]  {detail}"


def run_line(run: RunDirectory) -> str:
    """Return one line about an ended run: state, steps, loss, evaluation, digest of the parameters."""
    manifest = run.manifest()
    result = manifest.get("result") or {}
    final = result.get("final") or {}
    parts = [run.state(manifest)]
    if "last_step" in result:
        parts.append(f"step {result['last_step']}")
    if final.get("loss") is not None:
        parts.append(f"loss {_short_number(final['loss'])}")
    # Short enough for 80 columns; `--json` and run.json hold every digit.
    evaluation = final.get("evaluation") or {}
    parts += [f"{name.removesuffix('_accuracy')} {_short_number(value, 3)}" for name, value in evaluation.items()]
    digest = (result.get("digests") or {}).get("params")
    if digest:
        parts.append(f"params {digest[:12]}")
    return "  ".join(parts)


def print_failure(console: Any, label: str, run: RunDirectory) -> None:
    """Print why a run failed, with the end of its log; nothing where it did not fail."""
    manifest = run.manifest()
    state, result = run.state(manifest), manifest.get("result") or {}
    if state not in ("failed", "killed", "created"):
        return
    # Called when every process has ended: what is only created died before it could write its own name.
    error = result.get("error") or run.why("killed", manifest)
    if error and not result.get("bad_input") and (last := _last_record(run)) is not None:
        error = f"{error}; its trace goes to step {last}"
    console.print(f"{label} {state}" + (f": {error}" if error else ""), style="bold #d55e00", soft_wrap=True)
    if result.get("bad_input"):
        return
    for line in run.log_tail(LOG_LINES):
        console.print(f"  | {visible_log(line)}", soft_wrap=True)


def _last_record(run: RunDirectory) -> int | None:
    try:
        with Trace(run.trace_path) as trace:
            return trace.last_step()
    except ReprotuiError:
        return None


def race_to_json(
    path: Path, runs: dict[str, RunDirectory], verdicts: list[Verdict], groups: list[list[str]], code: int
) -> dict[str, Any]:
    """Return a race's outcome as a JSON object."""
    manifests = {label: run.manifest() for label, run in runs.items()}
    return {
        "race": str(path),
        "exit_code": code,
        "verdicts": [verdict.to_json() for verdict in verdicts],
        "groups": groups,
        "runs": {
            label: {
                "path": str(runs[label].path),
                "state": (state := runs[label].state(manifest)),
                "why": runs[label].why(state, manifest),
                "config": manifest["config"],
                "result": manifest.get("result"),
            }
            for label, manifest in manifests.items()
        },
    }


def _short_number(value: Any, digits: int = 6) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
