"""`checkpoint sign`, and the flags that say whose signatures count."""

import argparse
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.cli.checkpointing import add_target, target
from reprotui.errors import SAME
from reprotui.run_directory import PASSWORD_VARIABLE


def add_signers(parser: argparse.ArgumentParser, *, one: bool) -> None:
    """Add whose signatures count; where one checkpoint is meant also which signature."""
    group = parser.add_argument_group("signatures")
    group.add_argument("--key", type=Path, metavar="PEM", help="public key: checkpoints must be signed with its private key")
    group.add_argument(
        "--certificate-chain", type=Path, action="append", default=[], metavar="PEM",
        help="certificates: a signer's must lead to one of their roots; may be repeated",
    )  # fmt: skip
    if one:
        group.add_argument(
            "--signature",
            type=Path,
            metavar="PATH",
            help="the signature (default: CHECKPOINT.sig.json, else CHECKPOINT/model.sig)",
        )
        group.add_argument("--allow-symlinks", action="store_true", help="read the files that symbolic links point to")


def signers(parsed: argparse.Namespace) -> Any:
    """Return whose signatures count; raise where a key cannot be used."""
    from reprotui.checkpoints.signature import load_signers

    return load_signers(
        parsed.key, parsed.certificate_chain, getattr(parsed, "signature", None), getattr(parsed, "allow_symlinks", False)
    )


def add_sign(subparsers: Any) -> None:
    """Add `checkpoint sign`."""
    parser = common.command(
        subparsers,
        "sign",
        "sign a checkpoint that verifies, in the OpenSSF model-signing format",
        """openssl ecparam -genkey -name prime256v1 -noout -out private.pem
        openssl ec -in private.pem -pubout -out public.pem
        reprotui checkpoint sign runs/x/a --step 100 --key private.pem
        reprotui checkpoint verify runs/x/a --step 100 --key public.pem
        model_signing verify key DIR --signature DIR.sig.json --public_key public.pem   (DIR: the checkpoint)""",
        description="Sign a registered checkpoint, file or folder; the signature lies beside it. Left out, as by the official "
        "tool model_signing: .git, .gitattributes, .github, .gitignore. Needs the extra: pip install 'reprotui[sign]'.",
    )
    add_target(parser)
    parser.add_argument(
        "--key", type=Path, metavar="PEM", required=True,
        help=f"EC private key (P-256, P-384, P-521); the password of an encrypted one in ${PASSWORD_VARIABLE}",
    )  # fmt: skip
    parser.add_argument("--signature", type=Path, metavar="PATH", help="where the signature goes (default: CHECKPOINT.sig.json)")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="PATH", help="leave this path of the checkpoint out; may be repeated"
    )
    parser.add_argument(
        "--allow-symlinks", action="store_true",
        help="sign a folder with symbolic links, which cannot be registered, as it is now: the files that they point to",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace the signature of another signer")
    common.add_json(parser)
    parser.set_defaults(call=sign)


def sign(parsed: argparse.Namespace) -> int:
    """Sign what verifies, and nothing else."""
    from reprotui.checkpoints.sign import sign_verified
    from reprotui.cli import show_checkpoint
    from reprotui.integrity.status import Status

    path = target(parsed)
    with show_checkpoint.Meter("read") as meter:
        result = sign_verified(
            path, parsed.key, signature=parsed.signature, ignore=parsed.ignore,
            allow_symlinks=parsed.allow_symlinks, force=parsed.force, progress=meter,
        )  # fmt: skip
    if parsed.json:
        common.print_json(result.to_json())
    if result.status is not Status.VALID:
        if not parsed.json:
            show_checkpoint.show_result(result)
        common.say("reprotui: not signed: only a VALID checkpoint is", stderr=True)
        return result.status.exit_code
    if not parsed.json:
        assert result.signature is not None
        common.say(f"signed: {common.short(result.signature.path)}")
        show_checkpoint.show_signature(result.signature)
    return SAME
