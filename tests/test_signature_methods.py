"""Foreign signatures: every method of the official tool and of its older versions, by certificate, and strictly of the format."""
# ruff: noqa: F811  (fixtures of another module)

import base64
import datetime
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli
from reprotui.checkpoints.signature import keys as signature_keys
from test_checkpoints_read import cli, keys, saved  # noqa: F401
from test_signatures import FILES, model, official, pair, said, status  # noqa: F401

OLDER = Path(__file__).resolve().parent / "signatures"
"""Bundles that older versions of the official tool made of `model`, with the public halves of their keys."""


def signed_again(path: Path, key: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change a statement and sign it again with the right key."""
    bundle = json.loads(path.read_text())
    envelope = bundle["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    signature = signature_keys.signed(signature_keys.load_key(key, None, private=True), payload)
    envelope["payload"], envelope["signatures"][0]["sig"] = (base64.b64encode(raw).decode() for raw in (payload, signature))
    path.write_text(json.dumps(bundle))
    return path


def root_again(statement: dict[str, Any]) -> None:
    """Make the digest of the model fit the list of files."""
    hasher = hashlib.sha256()
    for resource in statement["predicate"]["resources"]:
        hasher.update(bytes.fromhex(resource["digest"]))
    statement["subject"][0]["digest"]["sha256"] = hasher.hexdigest()


# Methods


@pytest.mark.parametrize(
    ("bundle", "key"),
    [
        ("0.3.1-key", "key"),
        ("0.3.1-key521", "key521"),
        ("1.0.1-key", "key"),
        ("1.0.1-key521", "key521"),
        ("1.0.1-certificate", ""),
    ],
)
def test_signatures_of_older_versions_are_read(cli: Cli, model: Path, bundle: str, key: str) -> None:
    who = ("--key", OLDER / f"{key}.pub") if key else ("--certificate-chain", OLDER / "root.crt")
    signature = ("--signature", OLDER / f"{bundle}.json")
    found = status(cli, model, *who, *signature, exit_code=0)
    assert found["signature"]["not_signed"] == ["the time", "the step and the run"], "they signed .gitattributes too"
    (model / ".gitattributes").write_bytes(b"y\n")
    assert status(cli, model, *who, *signature, exit_code=1)["status"] == "CORRUPT"
    other = ("--key", OLDER / ("key521.pub" if key == "key" else "key.pub"))
    refused = status(cli, model, *other, *signature, exit_code=1 if key else 3)
    assert ("by certificate" in said(refused)) == (not key)


def hash_by(algorithm: str, shard_size: int | None) -> Callable[[Any], object]:
    def configure(config: Any) -> None:
        if shard_size is None:
            config.use_file_serialization(hashing_algorithm=algorithm)
        else:
            config.use_shard_serialization(hashing_algorithm=algorithm, shard_size=shard_size)

    return configure


@pytest.mark.parametrize(
    ("algorithm", "shard_size"),
    [("blake2", None), ("blake3", None), ("sha256", 4), ("sha256", 3), ("sha256", 1 << 20), ("blake2", 5)],
)
@pytest.mark.parametrize("registered", [True, False])
def test_other_hashes_and_shards_are_checked(
    cli: Cli, model: Path, pair: tuple[Path, Path], algorithm: str, shard_size: int | None, registered: bool
) -> None:
    private, public = pair
    if registered:
        cli("checkpoint", "register", model)
    signature = official(model, cli.directory / "m.sig", private, hash_by(algorithm, shard_size))
    arguments = (model, "--key", public, "--signature", signature)
    found = status(cli, *arguments, exit_code=0)
    assert ("empty files: empty" in found["signature"]["not_signed"]) == (shard_size is not None)
    for raw in (b"hellO\n", b"hello", b"hello\n\n", b""):
        (model / "a").write_bytes(raw)
        assert status(cli, *arguments, exit_code=1)["status"] in ("CORRUPT", "MISSING")
    (model / "a").write_bytes(FILES["a"])
    (model / "more").write_bytes(b"1")
    assert status(cli, *arguments, exit_code=1)["status"] == "EXTRA"


def test_a_hash_whose_package_is_missing_is_named(
    cli: Cli, model: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    private, public = pair
    signature = official(model, cli.directory / "m.sig", private, hash_by("blake3", None))
    monkeypatch.setitem(sys.modules, "blake3", None)
    found = status(cli, model, "--key", public, "--signature", signature, exit_code=3)
    assert "pip install blake3" in said(found) and found["signature"]["state"] == "unchecked"


def keyless(bundle: dict[str, Any]) -> None:
    chain = json.loads((OLDER / "1.0.1-certificate.json").read_text())["verificationMaterial"]["x509CertificateChain"]
    bundle["verificationMaterial"] = {"certificate": chain["certificates"][0], "tlogEntries": [{"logIndex": "1"}]}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (keyless, "model_signing verify sigstore"),
        (lambda bundle: bundle.update(mediaType="application/vnd.dev.sigstore.bundle.v0.4+json"), "bundle.v0.4"),
        (lambda bundle: bundle.update(messageSignature=bundle.pop("dsseEnvelope")), "signs a digest and no statement"),
    ],
)
def test_a_bundle_of_another_kind_is_unchecked_and_named(
    cli: Cli, model: Path, pair: tuple[Path, Path], change: Callable[[dict[str, Any]], object], named: str
) -> None:
    signature = official(model, cli.directory / "m.sig", pair[0])
    bundle = json.loads(signature.read_text())
    change(bundle)
    signature.write_text(json.dumps(bundle))
    found = status(cli, model, "--key", pair[1], "--signature", signature, exit_code=3)
    assert {finding["status"] for finding in found["findings"]} == {"UNCHECKED", "UNREGISTERED"} and named in said(found)


def serialization_of(**changes: Any) -> Callable[[dict[str, Any]], object]:
    def change(statement: dict[str, Any]) -> None:
        for name, value in changes.items():
            if value is None:
                del statement["predicate"]["serialization"][name]
            else:
                statement["predicate"]["serialization"][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (serialization_of(method="tensors"), "'tensors'"),
        (serialization_of(hash_type="md5"), "'md5'"),
        (lambda statement: statement.update(predicateType="https://model_signing/Digests/v0.1"), "before model-signing 0.3"),
    ],
)
def test_a_statement_by_an_unknown_method_is_unchecked_and_named(
    cli: Cli, model: Path, pair: tuple[Path, Path], change: Callable[[dict[str, Any]], object], named: str
) -> None:
    signature = signed_again(official(model, cli.directory / "m.sig", pair[0]), pair[0], change)
    assert named in said(status(cli, model, "--key", pair[1], "--signature", signature, exit_code=3))
    assert status(cli, model, "--key", pair[1].with_name("other.pub"), "--signature", signature, exit_code=1)


# By certificate


class Authority:
    """A root, an authority below it and a signer's certificate, as they were before all of them ended."""

    def __init__(self, directory: Path, *, authority: bool = True, signing: bool = True, days_late: int = 0) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self.directory = directory
        begin = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)

        def make(name: str, issuer: Any, ca: bool, length: int, late: int = 0) -> tuple[Any, Any]:
            key = ec.generate_private_key(ec.SECP384R1())
            subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
            builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
            builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin + datetime.timedelta(days=late))
            builder = builder.not_valid_after(begin + datetime.timedelta(days=365 * length))
            builder = builder.issuer_name(issuer[1].subject if issuer else subject)
            builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
            usage = dict.fromkeys(
                ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only",
                 "decipher_only"), False,
            )  # fmt: skip
            builder = builder.add_extension(
                x509.KeyUsage(digital_signature=not ca and signing, key_cert_sign=ca or not signing, **usage), critical=True
            )
            certificate = builder.sign(issuer[0] if issuer else key, hashes.SHA256())
            (directory / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
            return key, certificate

        root = make("root", None, True, 30)
        between = make("between", root, authority, 30, days_late)
        key, _ = make("signer", between, False, 1)
        self.private = directory / "signer.pem"
        raw = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.private.write_bytes(raw)

    def sign(self, model: Path, signature: Path) -> Path:
        from model_signing import signing

        chain = [self.directory / "between.crt"]
        signing.Config().use_certificate_signer(
            private_key=self.private, signing_certificate=self.directory / "signer.crt", certificate_chain=chain
        ).sign(model, signature)
        return signature

    def official_verifies(self, model: Path, signature: Path, root: Path) -> bool:
        from model_signing import verifying

        config = verifying.Config().use_certificate_verifier(certificate_chain=[root])
        try:
            config.verify(model, signature)
        except Exception:
            return False
        return True


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_certificate_counts_where_it_leads_to_the_root_that_was_given(cli: Cli, model: Path) -> None:
    authority = Authority(cli.directory)
    signature = authority.sign(model, cli.directory / "m.sig")
    arguments = (model, "--signature", signature)
    assert authority.official_verifies(model, signature, cli.directory / "root.crt")
    found = status(cli, *arguments, "--certificate-chain", "root.crt", exit_code=0)
    assert found["signature"]["signer"] == "CN=signer", "it ended long ago, and held when it was new"
    shown = cli("checkpoint", "verify", *arguments, "--certificate-chain", "root.crt").stdout
    assert "signature: verified · certificate of CN=signer, fingerprint " in shown
    (cli.directory / "others").mkdir()
    Authority(cli.directory / "others")
    for name in ("others/root.crt", "others/between.crt", "between.crt"):
        assert not authority.official_verifies(model, signature, cli.directory / name)
        assert "was made with a certificate that" in said(status(cli, *arguments, "--certificate-chain", name, exit_code=1))
    assert (
        "holds no certificate" in cli("checkpoint", "verify", *arguments, "--certificate-chain", "signer.pem", exit_code=2).stderr
    )
    (model / "a").write_bytes(b"")
    assert status(cli, *arguments, "--certificate-chain", "root.crt", exit_code=1)["status"] == "CORRUPT"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", [{"authority": False}, {"signing": False}, {"days_late": 2}])
def test_a_certificate_that_may_not_sign_or_was_not_issued_is_refused(cli: Cli, model: Path, how: dict[str, Any]) -> None:
    authority = Authority(cli.directory, **how)
    signature = authority.sign(model, cli.directory / "m.sig")
    assert not authority.official_verifies(model, signature, cli.directory / "root.crt")
    found = status(cli, model, "--signature", signature, "--certificate-chain", "root.crt", exit_code=1)
    assert "TAMPERED" in {finding["status"] for finding in found["findings"]}


# Strict


def reorder(statement: dict[str, Any]) -> None:
    statement["predicate"]["resources"].reverse()


def capitals(statement: dict[str, Any]) -> None:
    first = statement["predicate"]["resources"][0]
    first["digest"] = first["digest"].upper()


def twice(statement: dict[str, Any]) -> None:
    resources = statement["predicate"]["resources"]
    resources.insert(0, {**resources[0], "digest": "0" * 64})
    root_again(statement)


def without_files(statement: dict[str, Any]) -> None:
    statement["predicate"]["resources"] = []
    root_again(statement)


@pytest.mark.parametrize(
    ("change", "exit_code"),
    [
        (serialization_of(method=None), 1),
        (serialization_of(hash_type=None), 1),
        (serialization_of(hash_type="blake2b"), 1),
        (serialization_of(allow_symlinks=None), 1),
        (serialization_of(ignore_paths=["a"]), 1),
        (serialization_of(ignore_paths=["."]), 1),
        (serialization_of(ignore_paths="a"), 1),
        (serialization_of(method="shards"), 1),
        (lambda statement: statement["subject"][0].pop("name"), 1),
        (lambda statement: statement["subject"].append(statement["subject"][0]), 1),
        (lambda statement: statement["subject"].clear(), 1),
        (lambda statement: statement.update(_type="https://in-toto.io/Statement/v0.1"), 1),
        (lambda statement: statement.update(predicateType="https://slsa.dev/provenance/v1"), 1),
        (lambda statement: statement["predicate"].update(resources={}), 1),
        (lambda statement: statement["predicate"]["resources"][0].pop("name"), 1),
        (lambda statement: statement["predicate"]["resources"][0].update(digest="0" * 63), 1),
        (capitals, 1),
        (lambda statement: statement["predicate"]["resources"][0].update(name="../a"), 1),
        (reorder, 1),
        (twice, 1),
        (without_files, 1),
        (lambda statement: None, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("registered", [True, False])
def test_a_statement_that_is_not_exactly_of_the_format_is_refused_though_the_key_is_right(
    cli: Cli, model: Path, pair: tuple[Path, Path], change: Callable[[dict[str, Any]], object], exit_code: int, registered: bool
) -> None:
    private, public = pair
    if registered:
        cli("checkpoint", "register", model)
    signature = signed_again(official(model, cli.directory / "m.sig", private), private, change)
    found = status(cli, model, "--key", public, "--signature", signature, exit_code=exit_code)
    assert not any(
        word in said(found) for word in ("Error", "None", "'str'", "object", "argument", "index", "codec", "Traceback")
    )


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: BOM + raw,
        lambda raw: raw.decode().encode("utf-16"),
        lambda raw: raw.decode().encode("utf-32-le"),
        lambda raw: raw.replace(b'"mediaType"', b'"more": 1, "mediaType"', 1),
        lambda raw: raw.replace(b'"payloadType"', b'"more": 1, "payloadType"', 1),
        lambda raw: raw.replace(b'"keyid"', b'"more": 1, "keyid"', 1),
        lambda raw: raw.replace(b'"hint"', b'"more": 1, "hint"', 1),
        lambda raw: raw.replace(b'"publicKey"', b'"more": 1, "publicKey"', 1),
        lambda raw: raw.replace(b'"mediaType"', b'"mediaType": "x", "mediaType"', 1),
        lambda raw: raw.replace(b'"tlogEntries"', b'"certificate": {}, "tlogEntries"', 1),
        lambda raw: b"",
        lambda raw: b"{}",
        lambda raw: b"[]",
        lambda raw: b"null",
        lambda raw: b"NaN",
        lambda raw: b"[" * 100_000,
        lambda raw: b'{"a":' * 100_000,
        lambda raw: b"1" * 10_000,
        lambda raw: raw[:-2],
        lambda raw: raw.replace(b'"sig":', b'"sig": 5, "x":', 1),
        lambda raw: raw.replace(b'"sig": "', b'"sig": "!', 1).replace(b'"sig":"', b'"sig":"!', 1),
    ],
)
def test_a_bundle_that_is_not_exactly_of_the_format_is_not_read(
    cli: Cli, model: Path, pair: tuple[Path, Path], spoil: Callable[[bytes], bytes]
) -> None:
    private, public = pair
    cli("checkpoint", "register", model)
    cli("checkpoint", "sign", model, "--key", private)
    signature = cli.directory / "m.sig.json"
    raw = json.dumps(json.loads(signature.read_text())).encode()
    signature.write_bytes(raw)
    status(cli, model, "--key", public, exit_code=0)
    signature.write_bytes(spoil(raw))
    assert signature.read_bytes() != raw
    found = status(cli, model, "--key", public, exit_code=1)
    assert (found["status"], found["signature"]["method"]) == ("TAMPERED", "none")
    assert not any(word in said(found) for word in ("Error", "None", "codec", "recursion", "column", "char "))
    assert "is no signature" in cli("checkpoint", "verify", model, "--level", "files").stdout


def test_a_bundle_that_is_too_large_is_refused_before_it_is_parsed(
    cli: Cli, model: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from reprotui.checkpoints.signature import bundle

    cli("checkpoint", "register", model)
    signature = cli.directory / "m.sig.json"
    with signature.open("wb") as file:
        file.truncate(100 << 20)
    monkeypatch.setattr(bundle, "strict_json", lambda *_: pytest.fail("was parsed"))
    found = status(cli, model, "--key", pair[1], exit_code=3)
    assert "more than 16 MiB" in said(found)
    os.truncate(signature, 16 << 20)
    with pytest.raises(pytest.fail.Exception, match="was parsed"):
        bundle.read_bundle(signature)
