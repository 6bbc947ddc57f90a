"""Signatures in the OpenSSF model-signing format: read, held against what lies there, and written.

A statement that names every file (`statement`) is signed with a key (`keys`) or by certificate (`certificates`) and lies in
a bundle (`bundle`). `check` says by whom it was made, `hold` whether what lies there is what was signed. Needs the extra
`sign` (cryptography) for all but listing.
"""

from reprotui.checkpoints.signature.check import Checked, check_signature, find_signature, load_signers, signatures_inside
from reprotui.checkpoints.signature.hold import hold_files, hold_manifest, not_signed
from reprotui.checkpoints.signature.keys import Signers

__all__ = [
    "Checked",
    "Signers",
    "check_signature",
    "find_signature",
    "hold_files",
    "hold_manifest",
    "load_signers",
    "not_signed",
    "signatures_inside",
]
