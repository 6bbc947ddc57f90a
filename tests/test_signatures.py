"""Signatures of checkpoints: what can be signed, with a manifest and without, what is left out, what is shown, and bad input."""
# ruff: noqa: F811  (fixtures of another module)

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, parsed
from reprotui.checkpoints.listing import list_checkpoints
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.integrity import Identity, Status, manifest_path
from reprotui.run_directory import RunDirectory
from test_checkpoints_read import cli, keys, run, saved  # noqa: F401

FILES = {"a": b"hello\n", "empty": b"", "sub/é.txt": b"world\n", ".gitattributes": b"x\n"}


@pytest.fixture
def model(cli: Cli) -> Path:
    """Return a plain folder."""
    for name, raw in FILES.items():
        path = cli.directory / "m" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return cli.directory / "m"


@pytest.fixture
def pair(keys: Path) -> tuple[Path, Path]:
    """Return a private key and its public one."""
    return keys / "ours.pem", keys / "ours.pub"


def official(model: Path, signature: Path, key: Path, configure: Callable[[Any], object] = lambda hashing: None) -> Path:
    """Sign a model by the official tool."""
    from model_signing import hashing, signing

    config = hashing.Config()
    configure(config)
    signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(config).sign(model, signature)
    return signature


def status(cli: Cli, *arguments: object, exit_code: int) -> dict[str, Any]:
    """Verify through the command line; return the one result."""
    (found,) = json.loads(cli("checkpoint", "verify", *arguments, "--json", exit_code=exit_code).stdout)["results"]
    assert (found["status"] == "VALID") == (exit_code == 0)
    return found


def said(found: dict[str, Any]) -> str:
    return "; ".join(finding["message"] for finding in found["findings"])


# What can be signed


def test_a_plain_folder_is_signed_at_the_level_that_it_has(cli: Cli, model: Path, pair: tuple[Path, Path]) -> None:
    private, public = pair
    cli("checkpoint", "register", model)
    done = cli("checkpoint", "sign", model, "--key", private)
    assert "signed: m.sig.json" in done.stdout and "what the signer left out: .gitattributes" in done.stdout
    found = status(cli, model, "--key", public, exit_code=0)
    assert (found["level"], found["signature"]["state"]) == ("files", "verified")
    assert said(status(cli, model, "--key", public, "--level", "content", exit_code=3)).startswith("is a directory without")
    (model / "a").write_bytes(b"hallo\n")
    assert status(cli, model, "--key", public, exit_code=1)["signature"]["state"] == "broken"


def test_an_item_and_a_file_are_signed_like_a_folder(cli: Cli, saved: Path, pair: tuple[Path, Path]) -> None:
    private, public = pair
    item = Path(shutil.copytree(saved / "orbax-1" / "state", cli.directory / "state"))
    file = Path(shutil.copy(saved / "torch-1", cli.directory / "model.pt"))
    for path in (item, file):
        cli("checkpoint", "register", path)
        cli("checkpoint", "sign", path, "--key", private)
        assert status(cli, path, "--key", public, exit_code=0)["level"] == "content"


def test_an_encrypted_key_is_opened_by_the_password_of_the_environment(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    raw = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"open")
    )
    (cli.directory / "locked.pem").write_bytes(raw)
    cli("checkpoint", "register", model)
    assert (
        "is encrypted: give its password in $REPROTUI_KEY_PASSWORD"
        in cli("checkpoint", "sign", model, "--key", "locked.pem", exit_code=2).stderr
    )
    monkeypatch.setenv("REPROTUI_KEY_PASSWORD", "wrong")
    assert "password does not fit" in cli("checkpoint", "sign", model, "--key", "locked.pem", exit_code=2).stderr
    monkeypatch.setenv("REPROTUI_KEY_PASSWORD", "open")
    cli("checkpoint", "sign", model, "--key", "locked.pem")


@pytest.mark.parametrize("curve", ["SECP256K1", "BrainpoolP256R1", "BrainpoolP384R1"])
def test_other_curves_of_the_same_size_are_refused(cli: Cli, model: Path, curve: str) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(getattr(ec, curve)())
    raw = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (cli.directory / "key.pem").write_bytes(raw)
    cli("checkpoint", "register", model)
    assert "the format takes EC keys on P-256" in cli("checkpoint", "sign", model, "--key", "key.pem", exit_code=2).stderr
    assert not (cli.directory / "m.sig.json").exists()


def test_a_folder_with_links_is_signed_and_verified_only_where_that_is_asked_for(
    cli: Cli, model: Path, pair: tuple[Path, Path]
) -> None:
    from model_signing import hashing, verifying

    private, public = pair
    (cli.directory / "blob").write_bytes(b"weights")
    (model / "weights").symlink_to("../blob")
    assert "CORRUPT" in cli("checkpoint", "sign", model, "--key", private, exit_code=1).stdout
    cli("checkpoint", "sign", model, "--key", private, "--allow-symlinks")
    assert said(status(cli, model, "--key", public, exit_code=1)).count("is a symbolic link") == 1
    status(cli, model, "--key", public, "--allow-symlinks", exit_code=0)
    verifying.Config().use_elliptic_key_verifier(public_key=public).set_hashing_config(
        hashing.Config().set_allow_symlinks(True)
    ).verify(model, cli.directory / "m.sig.json")
    (cli.directory / "blob").write_bytes(b"Weights")
    assert status(cli, model, "--key", public, "--allow-symlinks", exit_code=1)["status"] == "CORRUPT"
    (cli.directory / "blob").write_bytes(b"weights")
    (model / "folder").symlink_to(model / "sub")
    assert status(cli, model, "--key", public, "--allow-symlinks", exit_code=1)["status"] == "CORRUPT", (
        "what lies there is unsigned"
    )
    assert "symbolic link" in cli("checkpoint", "sign", model, "--key", private, "--allow-symlinks", exit_code=1).stderr


def test_a_signature_that_nobody_would_read_again_is_not_written(
    cli: Cli, model: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from reprotui.checkpoints import sign

    cli("checkpoint", "register", model)
    monkeypatch.setattr(sign, "MAXIMUM_SIZE", 1000)
    assert "its signature would be larger" in cli("checkpoint", "sign", model, "--key", pair[0], exit_code=2).stderr


# Without a manifest


def test_without_its_manifest_the_files_are_held_against_what_was_signed(cli: Cli, model: Path, pair: tuple[Path, Path]) -> None:
    private, public = pair
    cli("checkpoint", "register", model)
    cli("checkpoint", "sign", model, "--key", private)
    manifest_path(model).unlink()
    found = status(cli, model, "--key", public, exit_code=3)
    assert (found["status"], found["signature"]["state"]) == ("UNREGISTERED", "verified")
    (model / "sub" / "é.txt").write_bytes(b"World\n")
    found = status(cli, model, "--key", public, exit_code=1)
    assert found["status"] == "CORRUPT" and "its sha256 is not the signed one" in said(found)


def test_without_its_manifest_a_checkpoint_of_a_run_is_held_against_the_signed_content(
    cli: Cli,
    run: Path,
    pair: tuple[Path, Path],
) -> None:
    private, public = pair
    cli("checkpoint", "sign", run, "--key", private)
    manifest_path(run / "checkpoints" / "3").unlink()
    found = status(cli, run, "--key", public, exit_code=3)
    assert (found["status"], found["level"], found["signature"]["state"]) == ("UNREGISTERED", "content", "verified")
    assert said(found) == "there is no manifest: nothing says what the files should be"


def test_what_the_official_tool_signed_is_verified_without_being_registered(
    cli: Cli, model: Path, pair: tuple[Path, Path]
) -> None:
    private, public = pair
    signature = official(model, cli.directory / "m.sig", private)
    found = status(cli, model, "--key", public, "--signature", signature, exit_code=0)
    assert found["level"] == "files" and found["signature"]["not_signed"] == [
        "the time", "what the signer left out: .gitattributes", "the step and the run",
    ]  # fmt: skip
    (model / "more").touch()
    assert status(cli, model, "--key", public, "--signature", signature, exit_code=1)["status"] == "EXTRA"
    (model / "more").unlink()
    (model / "a").unlink()
    assert status(cli, model, "--key", public, "--signature", signature, exit_code=1)["status"] == "MISSING"


def test_content_that_nobody_signed_or_recorded_is_unchecked(cli: Cli, saved: Path, pair: tuple[Path, Path]) -> None:
    private, public = pair
    path = Path(shutil.copy(saved / "safetensors-1", cli.directory / "model.safetensors"))
    arguments = (path, "--key", public, "--signature", official(path, cli.directory / "model.sig", private))
    assert status(cli, *arguments, exit_code=0)["level"] == "files"
    assert "signs files alone" in said(status(cli, *arguments, "--level", "content", exit_code=3))
    cli("checkpoint", "register", path)
    assert status(cli, *arguments, exit_code=0)["level"] == "content"


def test_a_folder_that_was_registered_once_is_not_valid_by_a_foreign_signature_alone(
    cli: Cli,
    run: Path,
    pair: tuple[Path, Path],
) -> None:
    private, public = pair
    checkpoint = run / "checkpoints" / "3"
    official(checkpoint, checkpoint.with_name("3.sig.json"), private)
    assert status(cli, run, "--key", public, exit_code=0)["signature"]["not_signed"] == ["the time", "the step and the run"]
    manifest_path(checkpoint).unlink()
    assert status(cli, run, "--key", public, exit_code=3)["status"] == "UNREGISTERED"


# What is left out


def test_what_is_left_out_is_said_and_nothing_else_is_passed_over(cli: Cli, model: Path, pair: tuple[Path, Path]) -> None:
    private, public = pair
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_text("x")
    (model / "nothing" / "in it").mkdir(parents=True)
    cli("checkpoint", "register", model)
    cli("checkpoint", "sign", model, "--key", private, "--ignore", "sub")
    manifest_path(model).unlink()
    found = status(cli, model, "--key", public, exit_code=3)
    assert found["signature"]["not_signed"] == [
        "the time", "what the signer left out: .gitattributes, .git, sub", "empty folders: nothing",
    ]  # fmt: skip
    (model / "sub" / "é.txt").write_text("other")
    (model / ".gitignore").write_text("other")
    status(cli, model, "--key", public, exit_code=3)
    (model / "subs").write_text("beside what is left out")
    assert status(cli, model, "--key", public, exit_code=1)["status"] == "EXTRA"


@pytest.mark.parametrize("path", ["..", "/etc", ".", "../m"])
def test_a_path_outside_cannot_be_left_out(cli: Cli, model: Path, pair: tuple[Path, Path], path: str) -> None:
    cli("checkpoint", "register", model)
    assert "does not lie in" in cli("checkpoint", "sign", model, "--key", pair[0], "--ignore", path, exit_code=2).stderr


def test_a_signature_inside_is_no_part_of_the_checkpoint(cli: Cli, model: Path, pair: tuple[Path, Path]) -> None:
    private, public = pair
    cli("checkpoint", "register", model)
    official(model, model / "model.sig", private, lambda config: config.set_ignored_paths(paths=["model.sig"]))
    assert "inside" in cli("checkpoint", "verify", model, "--level", "files").stdout
    status(cli, model, "--key", public, exit_code=0)
    moved = (model / "model.sig").rename(model / "sub" / "x.sig")
    status(cli, model, "--key", public, "--signature", moved, exit_code=0)
    assert status(cli, model, "--level", "files", exit_code=1)["status"] == "EXTRA"
    moved.rename(model / "model.sig")
    cli("checkpoint", "sign", model, "--key", private)
    from model_signing import verifying

    verifying.Config().use_elliptic_key_verifier(public_key=public).verify(model, cli.directory / "m.sig.json")
    (model / "model.sig").write_text("{}")
    assert status(cli, model, "--key", public, exit_code=1)["status"] == "EXTRA"


# What is seen


def test_a_signature_is_seen_wherever_a_checkpoint_is(cli: Cli, run: Path, keys: Path) -> None:
    print_of_key = hashlib.sha256((keys / "ours.pub").read_bytes()).hexdigest()
    cli("checkpoint", "sign", run, "--step", 2, "--key", keys / "ours.pem")
    cli("checkpoint", "sign", run, "--step", 3, "--key", keys / "other.pem")
    (run / "checkpoints" / "1.sig.json").write_text("{}")
    shown = cli("checkpoint", "verify", run, "--step", 2, "--key", keys / "ours.pub").stdout
    assert f"signature: verified · key fingerprint {print_of_key}" in shown and "not signed   the time" in shown
    listed = cli("checkpoint", "list", run).stdout
    assert f"key {print_of_key[:12]}" in listed and "no signature" in listed and "signed" not in listed.replace("not signed", "")
    listed = cli("checkpoint", "list", run, "--key", keys / "ours.pub").stdout
    assert f"key {print_of_key[:12]} signed" in listed and "refused" in listed
    found = json.loads(cli("checkpoint", "list", run, "--key", keys / "ours.pub", "--json").stdout)["checkpoints"]
    assert [(item["signed"], item["signature"]["state"]) for item in found] == [
        (False, "refused"), (True, "signed"), (True, "refused"),
    ]  # fmt: skip
    results = json.loads(cli("checkpoint", "verify", run, "--all", "--key", keys / "ours.pub", "--json", exit_code=1).stdout)
    assert [result["status"] for result in results["results"]] == ["TAMPERED", "VALID", "TAMPERED"]
    assert results["results"][1]["signature"] == {
        "path": str(run / "checkpoints" / "2.sig.json"), "state": "verified", "method": "key", "fingerprint": print_of_key,
        "signer": "", "not_signed": ["the time"],
    }  # fmt: skip


def test_the_list_holds_a_signature_against_the_manifest(cli: Cli, run: Path, keys: Path) -> None:
    from reprotui.checkpoints.register import register
    from reprotui.checkpoints.signature import load_signers
    from reprotui.integrity import identity_of_run
    from test_checkpoints_read import MANIFEST

    cli("checkpoint", "sign", run, "--key", keys / "ours.pem")
    signers = load_signers(keys / "ours.pub")
    assert [entry.signature and entry.signature.state for entry in list_checkpoints(run, signers)] == [None, None, "signed"]
    register(run / "checkpoints" / "3", identity_of_run(parsed(MANIFEST), 3), None)
    assert [entry.signature and entry.signature.state for entry in list_checkpoints(run, signers)] == [None, None, "broken"]


def test_a_report_says_who_signed(cli: Cli, sample: Callable[[str], Path], run: Path, keys: Path) -> None:
    path = sample("identical")
    checkpoints = path / "a" / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    shutil.copytree(run / "checkpoints" / "1", checkpoints / "1")
    from reprotui.checkpoints.register import register
    from reprotui.integrity import identity_of_run

    register(checkpoints / "1", identity_of_run(RunDirectory(path / "a").manifest(), 1), None)
    cli("checkpoint", "sign", checkpoints / "1", "--level", "x", "--key", keys / "ours.pem", exit_code=2)
    cli("checkpoint", "sign", checkpoints / "1", "--key", keys / "ours.pem")
    text = cli("report", path).stdout
    assert "signature: unchecked · key fingerprint" in text
    text = cli("report", path, "--key", keys / "ours.pub").stdout
    assert "signature: signed · key fingerprint" in text and f"--key {keys / 'ours.pub'}" in text
    found = json.loads(cli("report", path, "--verify", "--key", keys / "ours.pub", "--json").stdout)
    (item,) = found["runs"][0]["checkpoints"]
    assert item["signature"].startswith("verified · key fingerprint ")
    found = json.loads(cli("report", path, "--verify", "--key", keys / "other.pub", "--json").stdout)
    (item,) = found["runs"][0]["checkpoints"]
    assert item["signature"].startswith("refused") and item["status"] == "TAMPERED"


def test_the_signature_of_another_signer_is_replaced_only_by_force(cli: Cli, model: Path, keys: Path) -> None:
    cli("checkpoint", "register", model)
    sign = ("checkpoint", "sign", model)
    place = ("--signature", "elsewhere.json")
    cli(*sign, "--key", keys / "ours.pem", *place)
    cli(*sign, "--key", keys / "ours.pem", *place)
    before = (cli.directory / "elsewhere.json").read_bytes()
    done = cli(*sign, "--key", keys / "other.pem", *place, exit_code=2)
    assert "is the signature of another signer" in done.stderr and "--force" in done.stderr
    assert (cli.directory / "elsewhere.json").read_bytes() == before
    cli(*sign, "--key", keys / "other.pem", *place, "--force")
    status(cli, model, "--key", keys / "other.pub", *place, exit_code=0)
    precious = cli.write("notes.txt", "mine")
    assert "is no signature" in cli(*sign, "--key", keys / "ours.pem", "--signature", precious, exit_code=2).stderr
    assert "not a file" in cli("checkpoint", "verify", model, "--key", keys / "ours.pub", "--signature", "no", exit_code=2).stderr
    assert not (cli.directory / "m.sig.json").exists()


# Bad input


def test_points_and_slashes_are_paths_like_others(
    cli: Cli, model: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = pair
    for path in ("/", "//"):
        for command in (
            ("verify", path),
            ("register", path),
            ("sign", path, "--key", private),
            ("verify", path, "--key", public),
        ):
            assert "root of the file system" in cli("checkpoint", *command, exit_code=2).stderr
    inside = Cli.__new__(type(cli))
    inside.__dict__.update(cli.__dict__)
    inside.directory = model / "sub"
    inside("checkpoint", "register", "..")
    assert manifest_path(model).exists() and {path.name for path in model.iterdir()} == {"a", "empty", "sub", ".gitattributes"}
    inside("checkpoint", "sign", "../", "--key", private)
    inside.directory = model
    for path in (".", "./", "sub/..", "../m/", f"{model}/"):
        status(inside, path, "--key", public, exit_code=0)


@pytest.mark.parametrize("kind", ["link", "loop", "fifo", "folder", "name", "socket"])
@pytest.mark.parametrize("registered", [True, False])
def test_what_cannot_be_signed_is_a_finding(cli: Cli, model: Path, pair: tuple[Path, Path], kind: str, registered: bool) -> None:
    import socket

    private, public = pair
    cli("checkpoint", "register", model)
    cli("checkpoint", "sign", model, "--key", private)
    if not registered:
        manifest_path(model).unlink()
    if kind == "link":
        (model / "x").symlink_to("a")
    elif kind == "loop":
        (model / "x").symlink_to("x")
    elif kind == "fifo":
        os.mkfifo(model / "x")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.path.relpath(model / "x"))
    elif kind == "folder":
        shutil.rmtree(model)
        model.mkdir()
    else:
        (model / "CON").touch()
        (model / "e\u0301").touch()
        (model / "line\nbreak").touch()
    found = status(cli, model, "--key", public, exit_code=3 if kind in ("fifo", "socket") else 1)
    assert found["findings"] and found["signature"]["state"] == ("unchecked" if kind in ("fifo", "socket") else "broken")


def test_a_signature_of_names_that_are_refused_is_unchecked(cli: Cli, model: Path, pair: tuple[Path, Path]) -> None:
    (model / "e\u0301").touch()
    signature = official(model, cli.directory / "m.sig", pair[0])
    found = status(cli, model, "--key", pair[1], "--signature", signature, exit_code=3)
    assert "normal form" in said(found)


def test_all_goes_on_to_the_others(cli: Cli, run: Path, keys: Path) -> None:
    checkpoints = run / "checkpoints"
    for step in (1, 2, 3):
        cli("checkpoint", "sign", run, "--step", step, "--key", keys / "ours.pem")
    (checkpoints / "1" / "link").symlink_to("state")
    manifest_path(checkpoints / "2").unlink()
    os.mkfifo(checkpoints / "2" / "fifo")
    (checkpoints / "0").mkdir()
    (checkpoints / "4").symlink_to("3")
    found = json.loads(cli("checkpoint", "verify", run, "--all", "--key", keys / "ours.pub", "--json", exit_code=1).stdout)
    statuses = [result["status"] for result in found["results"]]
    assert statuses == ["TAMPERED", "CORRUPT", "UNREADABLE", "VALID", "TAMPERED"]
    assert "bad.pub cannot be read" in cli("checkpoint", "verify", run, "--all", "--key", "bad.pub", exit_code=2).stderr


def test_a_checkpoint_that_is_gone_is_missing_while_its_manifest_remains(
    cli: Cli,
    model: Path,
    run: Path,
    pair: tuple[Path, Path],
) -> None:
    private, public = pair
    cli("checkpoint", "register", model)
    cli("checkpoint", "sign", model, "--key", private)
    shutil.rmtree(model)
    for arguments in ((model,), (model, "--key", public), (f"{model}/",)):
        assert status(cli, *arguments, exit_code=1)["status"] == "MISSING"
    assert "MISSING" in cli("checkpoint", "sign", model, "--key", private, exit_code=1).stdout
    shutil.rmtree(run / "checkpoints" / "2")
    assert status(cli, run, "--step", 2, exit_code=1)["status"] == "MISSING"
    found = json.loads(cli("checkpoint", "verify", run, "--all", "--json", exit_code=1).stdout)
    assert [result["status"] for result in found["results"]] == ["VALID", "MISSING", "VALID"]
    (run / "checkpoints" / "registry.jsonl").unlink()
    assert [entry.problem for entry in list_checkpoints(run)][1] is Status.MISSING, "the manifest still knows it"
    assert "does not exist" in cli("checkpoint", "verify", "nothing", exit_code=2).stderr


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_a_key_that_is_none_is_bad_input_without_a_word_of_python(cli: Cli, model: Path, text: str) -> None:
    cli("checkpoint", "register", model)
    key = cli.write("key.pem", text)
    for command in ("verify", "sign"):
        done = cli("checkpoint", command, model, "--key", key, exit_code=2)
        assert done.stderr.startswith(f"reprotui: {key} is not a p")
        assert not any(word in done.stderr for word in ("deserialize", "Error", "ASN.1", "framing"))
    assert "it is a device, expected a file" in cli("checkpoint", "verify", model, "--key", "/dev/zero", exit_code=2).stderr


def test_the_library_verifies_by_a_key_file_as_before(cli: Cli, model: Path, pair: tuple[Path, Path]) -> None:
    from reprotui.checkpoints.register import register
    from reprotui.checkpoints.sign import sign_checkpoint

    register(model, Identity(), None)
    assert sign_checkpoint(model, pair[0]) == cli.directory / "m.sig.json"
    result = verify_checkpoint(model, "files", public_key=pair[1])
    assert result.status is Status.VALID and result.signature is not None and result.signature.state == "verified"
