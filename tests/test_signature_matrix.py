"""Signatures given and taken: the official tool of PyPI and this one verify what the other signed, and refuse what was changed.

The official tool runs in this process, through its own command line: a process for each of its calls takes a second.
"""
# ruff: noqa: F811  (fixtures of another module)

import base64
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Cli
from test_checkpoints_read import cli, saved  # noqa: F401

pytest.importorskip("model_signing", reason="the extra dev brings it")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "signatures.md"
CURVES = ("secp256r1", "secp384r1", "secp521r1")
LAYOUTS = ("Orbax folder", "safetensors in a folder", "Hugging Face folder", "`.pt` file", "`.npz` file", "unicode, empty files")
HEADING = "| layout | signed by | reprotui verifies | model_signing verifies | reprotui refuses | model_signing refuses |\n"
HEADING += "|---|---|---|---|---|---|"


def layout(name: str, saved: Path, place: Path) -> Path:
    """Make a model of a layout; return its path."""
    if name == "Orbax folder":
        return Path(shutil.copytree(saved / "orbax-1", place / "100"))
    if name.startswith("`."):
        kind = name.strip("` file")
        return Path(shutil.copy(saved / {"pt": "torch-1", "npz": "npz-1"}[kind.strip(".")], place / f"model.{kind.strip('.')}"))
    folder = place / "model"
    folder.mkdir()
    shutil.copy(saved / "safetensors-1", folder / "model.safetensors")
    if name == "Hugging Face folder":
        (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
        (folder / "config.json").write_text('{"model_type": "none"}\n')
        (folder / "README.md").write_text("# A model\n")
    elif name == "unicode, empty files":
        (folder / "größe").mkdir()
        np.save(folder / "größe" / "重み.npy", np.arange(7))
        (folder / "größe" / "leer").touch()
        (folder / "empty").touch()
    return folder


@dataclass
class Signed:
    """A model and its signature, which a twin changes; `other` is another model's, by the same key."""

    model: Path
    signature: Path
    other: dict[str, Any]

    @property
    def file(self) -> Path:
        """Return the largest file of the model, or the model where it is a file."""
        if self.model.is_file():
            return self.model
        return max((path for path in self.model.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)

    def bundle(self, change: Callable[[dict[str, Any]], None]) -> None:
        bundle = json.loads(self.signature.read_text())
        change(bundle)
        self.signature.write_text(json.dumps(bundle))


def into_folder(model: Path) -> Path:
    """Put a model that is a file into a folder of its name."""
    raw = model.read_bytes()
    model.unlink()
    model.mkdir()
    (model / "inner").write_bytes(raw)
    return model / "inner"


def flip(signed: Signed) -> None:
    raw = bytearray(signed.file.read_bytes())
    raw[len(raw) // 2] ^= 1
    signed.file.write_bytes(raw)


def cut(signed: Signed) -> None:
    os.truncate(signed.file, signed.file.stat().st_size - 1)


def append(signed: Signed) -> None:
    signed.file.write_bytes(signed.file.read_bytes() + b"\0")


def remove(signed: Signed) -> None:
    whole = signed.model.is_file()
    signed.file.unlink()
    if whole:
        signed.model.mkdir()


def add(signed: Signed) -> None:
    file = into_folder(signed.model) if signed.model.is_file() else signed.file
    shutil.copy(file, file.with_name("more.bin"))


def rename(signed: Signed) -> None:
    file = into_folder(signed.model) if signed.model.is_file() else signed.file
    file.rename(file.with_name("renamed.bin"))


def link(signed: Signed) -> None:
    file = signed.file
    away = file.rename(signed.signature.with_name("away"))
    file.symlink_to(away)


def another_key(_: Signed) -> None:
    """The key that is given is changed by the test."""


def edited_statement(signed: Signed) -> None:
    """Change a file, and the statement so that it fits the change; only who has the key can sign that."""
    import hashlib

    before = hashlib.sha256(signed.file.read_bytes()).hexdigest()
    flip(signed)
    after = hashlib.sha256(signed.file.read_bytes()).hexdigest()

    def change(bundle: dict[str, Any]) -> None:
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        root = hashlib.sha256()
        for resource in statement["predicate"]["resources"]:
            resource["digest"] = after if resource["digest"] == before else resource["digest"]
            root.update(bytes.fromhex(resource["digest"]))
        statement["subject"][0]["digest"]["sha256"] = root.hexdigest()
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    signed.bundle(change)


def other_signature(signed: Signed) -> None:
    signed.bundle(lambda bundle: bundle["dsseEnvelope"].update(signatures=signed.other["dsseEnvelope"]["signatures"]))


def other_bundle(signed: Signed) -> None:
    signed.signature.write_text(json.dumps(signed.other))


def emptied(signed: Signed) -> None:
    signed.signature.write_text("{}")


TWINS = (
    flip, cut, append, remove, add, rename, link, another_key, edited_statement, other_signature, other_bundle, emptied,
)  # fmt: skip


def keys(place: Path) -> None:
    """Write two pairs of keys on each curve."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    kinds = {"secp256r1": ec.SECP256R1, "secp384r1": ec.SECP384R1, "secp521r1": ec.SECP521R1}
    for curve in CURVES:
        for name in (curve, f"{curve}-other"):
            key = ec.generate_private_key(kinds[curve]())
            private = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            (place / f"{name}.pem").write_bytes(private)
            (place / f"{name}.pub").write_bytes(public)


def official(*arguments: object) -> int:
    """Run the official tool; return its exit code."""
    from click.testing import CliRunner
    from model_signing._cli import main

    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code in (0, 1), done.output
    return done.exit_code


def official_verifies(signed: Signed, key: Path) -> bool:
    return official("verify", "key", signed.model, "--signature", signed.signature, "--public_key", key) == 0


def ours_verifies(cli: Cli, signed: Signed, key: Path) -> bool:
    done = cli("checkpoint", "verify", signed.model, "--signature", signed.signature, "--key", key, exit_code=None)
    assert done.returncode in (0, 1), done.stdout
    assert ("signature: verified · key fingerprint " in done.stdout) == (done.returncode == 0), done.stdout
    return done.returncode == 0


def sign(cli: Cli, by: str, model: Path, key: Path) -> Path:
    """Sign a model by one of the tools; return the signature."""
    if by == "reprotui":
        cli("checkpoint", "register", model)
        cli("checkpoint", "sign", model, "--key", key)
        return model.with_name(f"{model.name}.sig.json")
    signature = model.with_name(f"{model.name}.sig")
    assert official("sign", "key", model, "--private_key", key, "--signature", signature) == 0
    return signature


@pytest.mark.slow
@pytest.mark.parametrize("by", ["reprotui", "model_signing"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_each_tool_verifies_what_the_other_signed_and_refuses_every_twin(
    cli: Cli,
    saved: Path,
    tmp_path: Path,
    name: str,
    by: str,
) -> None:
    keys(tmp_path)
    counts = {"ours": 0, "official": 0, "ours refuses": 0, "official refuses": 0}
    for curve in CURVES:
        place = tmp_path / curve
        (place / "other").mkdir(parents=True)
        private, public = tmp_path / f"{curve}.pem", tmp_path / f"{curve}.pub"
        # Another model, of other bytes, by the same signer.
        other = place / "other" / "model.npz"
        shutil.copy(saved / "npz-2", other)
        bundle = json.loads(sign(cli, by, other, private).read_text())
        (place / "whole").mkdir()
        model = layout(name, saved, place / "whole")
        signed = Signed(model, sign(cli, by, model, private), bundle)
        counts["ours"] += ours_verifies(cli, signed, public)
        counts["official"] += official_verifies(signed, public)
        for twin in TWINS:
            copy = Path(shutil.copytree(place / "whole", place / twin.__name__))
            harmed = Signed(copy / model.name, copy / signed.signature.name, bundle)
            twin(harmed)
            key = tmp_path / f"{curve}-other.pub" if twin is another_key else public
            for tool, refused in (
                ("ours", not ours_verifies(cli, harmed, key)),
                ("official", not official_verifies(harmed, key)),
            ):
                assert refused, f"{tool} accepted {name} by {by}, {curve}: {twin.__name__}"
                counts[f"{tool} refuses"] += refused
    of, twins = len(CURVES), len(CURVES) * len(TWINS)
    row = (
        f"| {name} | {by} | {counts['ours']} of {of} | {counts['official']} of {of} | "
        f"{counts['ours refuses']} of {twins} | {counts['official refuses']} of {twins} |"
    )
    print(row)
    assert (counts["ours"], counts["official"]) == (of, of)
    assert row in PAGE.read_text().splitlines(), "the page and the matrix agree"


def test_the_page_has_the_rows_of_the_matrix_and_no_others() -> None:
    text = PAGE.read_text()
    assert HEADING in text
    rows = text.partition(HEADING)[2].partition("\n\n")[0].strip().splitlines()
    assert [row.split(" | ")[:2] for row in rows] == [
        [f"| {name}", by] for name in LAYOUTS for by in ("reprotui", "model_signing")
    ]
    assert all(f"`{twin.__name__.replace('_', ' ')}`" in text for twin in TWINS)
