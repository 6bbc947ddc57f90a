"""Sign a checkpoint, in the format of the OpenSSF's model-signing: its official tool verifies what this writes."""

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePosixPath

from reprotui.checkpoints.against_signature import hold_listed
from reprotui.checkpoints.places import signature_path
from reprotui.checkpoints.signature.bundle import MAXIMUM_SIZE, read_bundle, size_of_bundle, write_bundle
from reprotui.checkpoints.signature.check import signatures_inside
from reprotui.checkpoints.signature.hold import ours
from reprotui.checkpoints.signature.keys import Signers, fingerprint, load_key, signed
from reprotui.checkpoints.signature.statement import GIT_PATHS, covers, inside, write_statement
from reprotui.checkpoints.signature.strict import MalformedError, UnsupportedError
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.errors import BadInputError
from reprotui.integrity.files import FileEntry, Progress, hash_files, named, names_problem, walk
from reprotui.integrity.manifest import manifest_path, read_manifest
from reprotui.integrity.status import IntegrityError, Result, Status
from reprotui.run_directory import PASSWORD_VARIABLE, write_json


def sign_verified(
    checkpoint: Path,
    private_key: Path,
    *,
    signature: Path | None = None,
    ignore: Collection[str] = (),
    allow_symlinks: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Verify a checkpoint at the deepest level that it has, and sign it where it is VALID.

    The password of an encrypted key is taken from `$REPROTUI_KEY_PASSWORD`. Arguments and errors are those of
    `sign_checkpoint`.

    Returns:
        The verification; where it is VALID, `signature` is the one that was made.
    """
    checkpoint = named(checkpoint)
    password = os.environ.get(PASSWORD_VARIABLE, "").encode() or None
    key = load_key(private_key, password, private=True).public_key()
    signed_as_it_is = allow_symlinks and _has_links(checkpoint)
    if not signed_as_it_is:
        result = verify_checkpoint(checkpoint, None, signers=Signers(signature=signature), progress=progress)
        if result.status is not Status.VALID:
            return result
    path = sign_checkpoint(
        checkpoint, private_key, password, signature=signature, ignore=ignore, allow_symlinks=allow_symlinks, force=force,
        progress=progress,
    )  # fmt: skip
    signers = Signers(key, signature=path, allow_symlinks=allow_symlinks)
    if signed_as_it_is:
        return verify_checkpoint(checkpoint, None, signers=signers, progress=progress)
    return replace(result, signature=hold_listed(checkpoint, read_manifest(manifest_path(checkpoint))[0], signers))


def sign_checkpoint(
    checkpoint: Path,
    private_key: Path,
    password: bytes | None = None,
    *,
    signature: Path | None = None,
    ignore: Collection[str] = (),
    allow_symlinks: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Sign the files of a registered checkpoint; return the bundle.

    The statement also carries the identity and the content digest of the manifest; other tools pass over them. What is
    signed are the digests of the manifest: verify the checkpoint first. `.git`, `.gitattributes`, `.github`, `.gitignore`
    and signatures that lie inside are left out, as the official tool leaves them out.

    Args:
        checkpoint: a directory or a file with a manifest.
        private_key: an EC private key (P-256, P-384 or P-521) in a PEM file.
        password: of the key, where it is encrypted.
        signature: where the bundle goes; beside the checkpoint where that is None.
        ignore: paths inside that are left out besides, with everything below them.
        allow_symlinks: a folder with symbolic links to files, which cannot be registered, is signed as it is now.
        force: replace the signature of another signer, or another file.
        progress: called with bytes hashed, where something is.

    Raises:
        IntegrityError: there is no manifest, or it is damaged.
        BadInputError: key, path or place cannot be used, or cryptography is not installed.
    """
    checkpoint = named(checkpoint)
    key = load_key(private_key, password, private=True)
    path = signature or signature_path(checkpoint)
    whose = fingerprint(key.public_key())
    if not force and (problem := _occupied(path, whose)) is not None:
        raise BadInputError(f"{path} {problem}; --force replaces it")
    left_out = {*GIT_PATHS, *signatures_inside(checkpoint, path), *(_ignored(checkpoint, text) for text in ignore)}
    if allow_symlinks and _has_links(checkpoint):
        entries, about = _found(checkpoint, left_out, progress), {}
    else:
        manifest, _ = read_manifest(manifest_path(checkpoint))
        entries, about = manifest.files, ours(manifest)
    if not any(not covers(left_out, entry.path) for entry in entries):
        raise BadInputError(f"{checkpoint} has no file that is not left out: there is nothing to sign")
    payload = write_statement(checkpoint.name, entries, left_out, about, allow_symlinks=allow_symlinks)
    bundle = write_bundle(payload, signed(key, payload), whose)
    if size_of_bundle(bundle) > MAXIMUM_SIZE:
        raise BadInputError(f"{checkpoint} has {len(entries)} files: its signature would be larger than {MAXIMUM_SIZE >> 20} MiB")
    write_json(path, bundle)
    return path


def _occupied(path: Path, whose: str) -> str | None:
    """Say why a place is not free for a signature: only the same signer's own is replaced without a word."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return "is not a regular file"
    if not path.exists():
        return None
    try:
        found = read_bundle(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (MalformedError, UnsupportedError):
        return "is there and is no signature"
    if found.fingerprint == whose and found.method == "key":
        return None
    return f"is the signature of another signer ({found.method}, fingerprint {(found.fingerprint or 'not named')[:16]})"


def _ignored(checkpoint: Path, text: str) -> str:
    """Return a path to leave out relative to the checkpoint, however it was given."""
    given = Path(text)
    if given.is_absolute():
        try:
            text = given.resolve().relative_to(checkpoint.resolve()).as_posix()
        except ValueError:
            raise BadInputError(f"--ignore {text} does not lie in {checkpoint}") from None
    plain = inside(PurePosixPath(text).as_posix())
    if plain is None or plain == ".":
        raise BadInputError(f"--ignore {text} does not lie in {checkpoint}: give a path relative to it")
    return plain


def _has_links(checkpoint: Path) -> bool:
    return walk(checkpoint).files != walk(checkpoint, follow=True).files


def _found(checkpoint: Path, left_out: Collection[str], progress: Progress | None) -> tuple[FileEntry, ...]:
    tree = walk(checkpoint, follow=True)
    if refused := [found for found in tree.findings if not covers(left_out, found.path)]:
        raise IntegrityError(refused[0])
    names = [name for name in tree.files if not covers(left_out, name)]
    if problem := names_problem(names):
        raise BadInputError(f"{checkpoint}: {problem}; rename it before the checkpoint is signed")
    entries = []
    for entry in hash_files(checkpoint, names, progress, follow=True):
        if isinstance(entry, IntegrityError):
            raise entry
        entries.append(entry)
    return tuple(entries)
