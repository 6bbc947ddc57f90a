"""Result files: the small summary of a run that scripts read, and their comparison."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError, CannotTellError
from reprotui.manifest import RunManifest
from reprotui.run_directory import RunDirectory, read_json

SETTINGS = ("experiment", "steps", "batch_size", "seed", "lr", "backend")


@dataclass(frozen=True)
class ResultComparison:
    """`differs`: what makes two results different; `notes`: settings that differ although the results are the same."""

    differs: list[str]
    notes: list[str]


def summary(manifest: RunManifest) -> dict[str, Any]:
    """Return a run's result summary: hash (content digest of the final parameters), settings, final metrics."""
    config, result = manifest.config, manifest.result
    final = _object(result.final if result else None)
    evaluation, metrics = _object(final.get("evaluation")), _object(final.get("metrics"))
    return {
        "hash": result.digests.get("params") if result else None,
        "experiment": manifest.experiment.name,
        "steps": result.last_step if result else None,
        "batch_size": config.get("batch_size"),
        "seed": config.get("seed"),
        "lr": config.get("lr"),
        "backend": manifest.devices.get("backend"),
        "final": {"loss": final.get("loss"), "acc": evaluation.get("test_accuracy", metrics.get("accuracy"))},
    }


def _object(value: Any) -> dict[str, Any]:
    """Return what should be a JSON object; a script that records itself, or a file of others, may have something else there."""
    return value if isinstance(value, dict) else {}


def read_result(path: Path) -> dict[str, Any]:
    """Read a result file, or summarise a run directory.

    Raises:
        BadInputError: it is neither, or the run has no result yet.
    """
    if path.is_dir():
        manifest = RunDirectory(path).manifest()
        if manifest.result is None or not manifest.result.digests:
            raise BadInputError(f"{path} has no result: the run has not ended well")
        found = summary(manifest)
        if found["hash"] is None:
            raise CannotTellError(f"{path} has no digest of its parameters: compare its run directory with another one")
        return found
    result = read_json(path)
    if not isinstance(result.get("hash"), str):
        raise BadInputError(f"{path} is not a result file: it has no hash; write one with reprotui run --out FILE.json")
    return result


def compare_results(a: dict[str, Any], b: dict[str, Any], metrics: bool) -> ResultComparison:
    """Compare two results: the hash decides; final metrics too where asked for; settings are told, not judged."""
    differs = []
    if a["hash"] != b["hash"]:
        differs.append(f"hash: {a['hash']} → {b['hash']}")
    differs += metric_differences(a, b) if metrics else []
    settings = [f"{name}: {a.get(name)} → {b.get(name)}" for name in SETTINGS if a.get(name) != b.get(name)]
    return ResultComparison(differs + settings, []) if differs else ResultComparison([], settings)


def metric_differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Return the final metrics that differ, by exact value; two NaN are equal here, their bits are in the trace."""
    of_a, of_b = _object(a.get("final")), _object(b.get("final"))
    return [
        f"{name}: {of_a.get(name)} → {of_b.get(name)}"
        for name in dict.fromkeys([*of_a, *of_b])
        if of_a.get(name) != of_b.get(name)
    ]
