"""What was asked of a race besides its configs, in words: what is recorded and saved, when it stops, where scripts come from."""

from collections.abc import Sequence
from pathlib import Path

from reprotui.errors import ReprotuiError
from reprotui.manifest import RunManifest
from reprotui.observation import Options
from reprotui.run_directory import read_json
from reprotui.schedule import Recording, Replicas


def chosen(manifests: Sequence[RunManifest], race: Path | None = None) -> tuple[str, ...]:
    """Return what is not the default, in a few words each, as kept by the reference's manifest and by the race.

    Args:
        manifests: of the runs, the reference first.
        race: the directory of the race, None for a single run.
    """
    if not manifests:
        return ()
    first = manifests[0]
    return (*_of_race(race), *_of_recording(first.recording), *_of_saving(first), *_of_script(first), *_places(manifests))


def _of_race(race: Path | None) -> list[str]:
    try:
        kept = read_json(race / "race.json") if race else {}
    except ReprotuiError:
        return []
    texts = kept.get("tolerance")
    found = [f"tolerance {' '.join(map(str, texts))}"] if isinstance(texts, list) and texts else []
    if kept.get("at_divergence") in ("stop", "pause"):
        found.append(f"{kept['at_divergence']} at the first difference")
    return found


def _of_recording(recording: Recording) -> list[str]:
    found = [] if recording.enabled else ["nothing recorded"]
    found += [f"every {recording.every} steps"] if recording.every > 1 else []
    found += [f"leaves every {recording.leaves_every} records"] if recording.leaves_every > 1 else []
    if recording.statistics_every != Recording.statistics_every:
        found.append(f"norms every {recording.statistics_every} records")
    found += ["stop at NaN"] if recording.stop_at_nan else []
    found += [f"copied from a disk of the host every {recording.local_seconds:g} s"] if recording.local_seconds else []
    return found + (["first copy of replicas"] if recording.replicas is Replicas.FIRST else [])


def _of_saving(manifest: RunManifest) -> list[str]:
    saving = manifest.checkpointing
    found = [f"save every {saving.every}"] if saving.every else []
    return found + ([f"save at {', '.join(map(str, saving.at))}"] if saving.at else [])


def _of_script(manifest: RunManifest) -> list[str]:
    try:
        options = Options.from_text(manifest.launch.options) if manifest.launch else Options()
    except (ValueError, TypeError):  # somebody else's
        return []
    found = ["iterations inside of calls"] if options.inside else []
    found += [f"step function {options.step_function}"] if options.step_function else []
    return found + ([f"loss {options.loss}"] if options.loss else [])


def _places(manifests: Sequence[RunManifest]) -> list[str]:
    """Return where the scripts were started, where that is not the same for all, or a revision."""
    found, places = [], set()
    for manifest in manifests:
        version = manifest.document.get("version")
        told = version if isinstance(version, dict) else {}
        revision, folder = told.get("revision"), manifest.working_directory
        place = f"revision {revision} ({str(told.get('commit'))[:12]})" if revision else f"folder {folder}"
        places.add((bool(revision), folder))
        label = manifest.race.label.upper() if manifest.race else "A"
        found.append(f"{label}: {place}")
    alike = len(places) == 1 and not next(iter(places))[0]
    return [] if alike or not any(manifest.launch for manifest in manifests) else found
