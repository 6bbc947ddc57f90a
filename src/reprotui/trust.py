"""Whether what a run directory asks to be run was run here before, or somebody must say first that it may be.

A run's manifest names its experiment. A built-in one is code of reprotui. A file is code of whoever made the directory: to go on
from its checkpoint, or to replay a step of it, is to run that file. "Recorded here" therefore is a mark in the manifest that only
this user can make: a keyed hash over what would be run, with a key that lies in the user's state directory and never in a run.
A mark holds wherever the run is moved to; copied into another manifest, it allows nothing but the very file that this user ran.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import shlex
from pathlib import Path

from reprotui.errors import UntrustedError
from reprotui.manifest import RunManifest
from reprotui.variables import unknown_flags

KEY_BYTES = 32


def mark_of(manifest: RunManifest) -> str | None:
    """Return the mark of a run that is made here and now; None where there is no place to keep a key."""
    key = _key(create=True)
    return None if key is None else hmac.new(key, _what(manifest), hashlib.sha256).hexdigest()


def made_here(manifest: RunManifest) -> bool:
    """Say whether this user made a run that would run the same thing."""
    key = _key(create=False)
    if key is None or manifest.mark is None:
        return False
    return hmac.compare_digest(hmac.new(key, _what(manifest), hashlib.sha256).hexdigest().encode(), manifest.mark.encode())


def directory_of(manifest: RunManifest) -> str | None:
    """Return the folder to which relative paths in a run's config (text=...) were relative; None where it is gone."""
    named = manifest.working_directory
    return named if named is not None and Path(named).is_dir() else None


def would_run(manifest: RunManifest) -> list[str]:
    """Return what training from a manifest runs beyond reprotui's own code, in words; nothing for a built-in experiment."""
    if manifest.launch is not None:
        return [f"the command {shlex.join(manifest.launch.words)} in {manifest.launch.directory}"]
    found = []
    if manifest.experiment.path:
        path = Path(manifest.experiment.path)
        recorded = manifest.experiment.source_digest or "unknown"
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            found.append(f"the experiment file {path}, which cannot be read ({error.strerror})")
        else:
            same = "as the run recorded it" if digest == recorded else f"the run recorded {recorded[:16]}"
            found.append(f"the experiment file {path} (sha256 {digest[:16]}, {same})")
    if flags := unknown_flags(manifest.config.get("xla_flags")):
        found.append(f"XLA with {' '.join(flags)}")
    return found


def need_trust(path: Path, manifest: RunManifest, trusted: bool) -> None:
    """Raise where a run would run something that neither is reprotui's own nor was run here before.

    Args:
        path: the run or checkpoint, for the error.
        manifest: what it says it is.
        trusted: somebody said that it may be run.

    Raises:
        UntrustedError: nobody said so.
    """
    if not trusted and (what := would_run(manifest)) and not made_here(manifest):
        said = f"{path} was not recorded here, and this would run {' and '.join(what)}"
        raise UntrustedError(f"{said}; nothing was run: look at it, then give --trust")


def _what(manifest: RunManifest) -> bytes:
    if (launch := manifest.launch) is not None:  # a script's sources are known at its end only; its command is what was run
        told = [launch.words, dict(launch.variables), launch.directory, launch.options]
        return json.dumps(told, sort_keys=True).encode()
    named = manifest.experiment.name, manifest.experiment.path, manifest.experiment.source_digest
    return json.dumps([*named, manifest.config.get("xla_flags"), manifest.working_directory]).encode()


def _key(create: bool) -> bytes | None:
    """Return this user's key, made where there is none; None where it cannot be kept, or is readable by others."""
    import platformdirs

    place = platformdirs.user_state_path("reprotui") / "key"
    if create and not place.exists():
        # Linked into place whole: of two runs that start at once, both take the key of the first.
        written = place.with_name(f".key.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            written.unlink(missing_ok=True)
            with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            os.link(written, place)
        with contextlib.suppress(OSError):
            written.unlink()
    try:
        key = place.read_bytes()
    except OSError:
        return None
    return key if len(key) == KEY_BYTES else None
