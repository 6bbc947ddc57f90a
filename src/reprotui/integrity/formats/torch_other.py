"""What lies in a torch archive beside its state and storages: further pickles, and code; none of it is executed."""

from collections.abc import Callable, Mapping

from reprotui.integrity.formats import static_pickle
from reprotui.integrity.formats.archive import Archive
from reprotui.integrity.formats.static_pickle import Global
from reprotui.integrity.status import Finding, IntegrityError, Status

_OWN = {"data.pkl", "version", ".data/version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"}
"""What torch.save writes beside storages."""
_PICKLE_NAMES = (".pkl", ".pickle")
_PROTOCOLS = range(6)


def check_others(
    archive: Archive, found: Mapping[str, str], is_harmless: Callable[[Global], bool]
) -> tuple[list[Finding], list[str]]:
    """Look at every entry that is neither the state nor a storage that it names.

    Args:
        archive: the archive.
        found: names of these entries by what torch looks up.
        is_harmless: says whether loading may import something.

    Returns:
        A finding for each pickle that cannot be read, and what loading could execute, in words.
    """
    findings: list[Finding] = []
    code: list[str] = []
    if "constants.pkl" in found:
        code.append(f"TorchScript ({found['constants.pkl']} is there, so torch.load hands the file to torch.jit.load)")
    for name, entry in found.items():
        if name in _OWN or name.endswith("/"):
            continue
        if name.startswith("code/") or name.endswith(".py"):
            code.append(f"the code in {entry}")
            continue
        try:
            data = archive.read(entry)
        except IntegrityError as error:
            findings.append(error.finding)
            continue
        try:
            _, named = static_pickle.read(data)
        except static_pickle.Refused as error:
            if name.endswith(_PICKLE_NAMES) or (data[:1] == b"\x80" and data[1:2] and data[1] in _PROTOCOLS):
                findings.append(Finding(Status.UNCHECKED, ".", f"the further pickle {entry} cannot be read: {error}"))
        else:
            code += [f"{one} (from {entry})" for one in dict.fromkeys(named) if not is_harmless(one)]
    return findings, code
