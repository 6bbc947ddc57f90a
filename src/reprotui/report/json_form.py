"""The report as JSON: for scripts, and the source of what the other forms print. Described by schema/report-v2.json."""

from dataclasses import asdict
from typing import Any

from reprotui.compare.rank_status import ranks_to_json
from reprotui.foreign import json_text, plain
from reprotui.report.model import SCHEMA_VERSION, Comparison, Exact, Report, RunReport, StepLine, StepSide
from reprotui.report.text import timestamp


def render_json(report: Report) -> str:
    """Return the report as JSON text. NaN and infinities are the strings `nan`, `inf` and `-inf`, never bare tokens."""
    return json_text(to_json(report)) + "\n"


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as a JSON object; 64-bit numbers are hexadecimal text, because JSON numbers lose them."""
    return plain(
        {
            "schema": "reprotui-report",
            "schema_version": SCHEMA_VERSION,
            "reprotui": report.reprotui,
            "created": report.created,
            "name": report.name,
            "exit_code": report.exit_code,
            "reference": report.runs[0].label,
            "comparisons": [_comparison(comparison) for comparison in report.comparisons],
            "groups": report.groups,
            "agreement": report.agreement,
            "diagnosis": report.diagnosis and report.diagnosis.to_json(),
            "explanations": [one.to_json() for one in report.explained],
            "runs": [_run(run) for run in report.runs],
            "commands": [{"purpose": purpose, "command": command} for purpose, command in report.commands],
        }
    )


def _comparison(comparison: Comparison) -> dict[str, Any]:
    verdict = comparison.verdict.to_json()
    for leaf, line in zip(verdict["leaves"], comparison.leaves, strict=False):
        leaf["statistics"] = {"norm_a": line.norm_a, "norm_b": line.norm_b, "max_a": line.max_a, "max_b": line.max_b}
    return {
        "exit_code": comparison.verdict.exit_code,
        "verdict": verdict,
        "config_differences": [
            {"name": item.name, "a": item.a, "b": item.b, "phases": item.phases} for item in comparison.configs
        ],
        "environment_differences": [{"name": item.name, "a": item.a, "b": item.b} for item in comparison.environments],
        "steps": [_step(line) for line in comparison.steps],
        "problem": comparison.problem or None,
        "exact": comparison.exact and _exact(comparison.exact),
    }


def _exact(exact: Exact) -> dict[str, Any]:
    leaves = [leaf.exact_json() for leaf in exact.leaves]
    return {"step": exact.step, "equal_leaves": exact.equal, "leaves": leaves, "problem": exact.problem or None}


def _step(line: StepLine) -> dict[str, Any]:
    return {"step": line.step, "a": _side(line.a), "b": _side(line.b), "differs": line.differs}


def _side(side: StepSide | None) -> dict[str, Any] | None:
    if side is None:
        return None
    bits = None if side.loss_bits is None else f"{side.loss_bits:x}"
    return {"loss": side.loss, "loss_bits": bits, "roots": {phase: f"{root:016x}" for phase, root in side.roots.items()}}


def _run(run: RunReport) -> dict[str, Any]:
    verification = run.verification
    return {
        "label": run.label,
        "path": str(run.path),
        "state": run.state,
        "name": run.entry("name"),
        "created": timestamp(run.entry("created_ns")),
        "ended": timestamp(run.entry("result", "ended_ns")),
        "command": run.entry("command"),
        "working_directory": run.entry("working_directory"),
        "experiment": run.entry("experiment"),
        "config": run.entry("config"),
        "recording": run.entry("recording"),
        "recorded_with": run.asked,
        "environment": run.entry("environment"),
        "devices": run.entry("devices"),
        "program": run.entry("program"),
        "data_digest": run.entry("data_digest"),
        "last_step": run.last_step,
        "records": run.loss.records,
        "coverage": run.entry("result", "coverage"),
        "final": run.entry("result", "final"),
        "digests": run.entry("result", "digests"),
        "error": run.entry("result", "error"),
        "seal": run.entry("seal"),
        "problem": run.problem or None,
        "verification": verification and {"records": verification.records, "problem": verification.problem or None},
        "loss": {
            "steps": [step for step, _ in run.loss.points],
            "losses": [loss for _, loss in run.loss.points],
        },
        "events": [{"time": timestamp(event.time_ns), "kind": event.kind, "text": event.text} for event in run.events],
        "chance": [asdict(item) for item in run.chance],
        "ranks": ranks_to_json(run.ranks),
        "log": run.log,
        "checkpoints": run.checkpoints,
    }
