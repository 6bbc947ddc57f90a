"""What the records of runs do not tell: where there is such a gap, equal records do not make equal runs."""

from collections.abc import Mapping
from typing import Any

from reprotui.manifest import RunManifest


def gaps(manifests: Mapping[str, RunManifest]) -> list[str]:
    """Return why the records of runs, by label, do not tell all that trained them; nothing where they do, or nobody counted."""
    return of_each({label: [*_missing(coverage), *(coverage.get("gaps") or ())] for label, coverage in _all(manifests)})


def notes(manifests: Mapping[str, RunManifest]) -> list[str]:
    """Return what else runs, by label, did that is not recorded, and that leaves nothing unseen which trains."""
    return of_each({label: list(coverage.get("notes") or ()) for label, coverage in _all(manifests)})


def _all(manifests: Mapping[str, RunManifest]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(label, manifest.result.coverage if manifest.result else {}) for label, manifest in manifests.items()]


def _missing(coverage: Mapping[str, Any]) -> list[str]:
    counts = (coverage.get("calls") or {}).items()
    missing = {name: (count["made"], count["made"] - count["recorded"] - count["sampled_out"]) for name, count in counts}
    return [f"{left:,} of {made:,} calls of {name} lie in no record" for name, (made, left) in missing.items() if left > 0]


def of_each(found: Mapping[str, list[str]]) -> list[str]:
    """Return the texts of all runs, each once, with the labels of those that it holds for."""
    texts = dict.fromkeys(text for own in found.values() for text in own)
    return [f"{' and '.join(label for label, own in found.items() if text in own)}: {text}" for text in texts]
