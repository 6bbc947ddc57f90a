"""Orbax checkpoints through tensorstore alone: OCDBT or one directory a leaf, zarr2 or zarr3, written by v0 or v1."""

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from reprotui.checksum import LeafSpec
from reprotui.integrity.content import ContentDigest, content_from_json
from reprotui.integrity.formats.stored import StoredCheckpoint, StoredLeaf, first_line
from reprotui.integrity.status import Finding, IntegrityError, Status

TREE = "_METADATA"
"""The file that describes the tree of an item; a directory that holds it is an item with arrays."""
INTEGRITY_ITEM = "integrity"
"""The JSON item in which a writer stores the content digest, see `content_to_json`."""
TEMPORARY = ".orbax-checkpoint-tmp"
_MARKERS = ("commit_success.txt", "_CHECKPOINT_METADATA")
_KEY_TAGS = {"threefry2x32": "fry", "rbg": "rbg", "unsafe_rbg": "urbg"}
"""jax's names of PRNG implementations, and those that it prints in the dtype of typed keys."""
_CACHE = {"cache_pool": {"total_bytes_limit": 0}, "data_copy_concurrency": {"limit": 4}, "file_io_concurrency": {"limit": 4}}
"""Nothing is read twice, so nothing is kept."""


def open_orbax(path: Path) -> StoredCheckpoint:
    """Read the structure of a step directory, or of one item in it.

    Where the step has one item with arrays, leaves are named by their path in it (`params/dense_0/kernel`); where it has
    several, the item's name comes first.
    """
    if TEMPORARY in path.name:
        raise _finding(Status.INCOMPLETE, ".", "is what a save that did not end left behind")
    try:
        if (path / TREE).is_file():
            items = [path]
        else:
            items = sorted(below for below in path.iterdir() if (below / TREE).is_file())
            if not items and any(path.iterdir()) and not any((path / marker).exists() for marker in _MARKERS):
                raise _finding(Status.UNCHECKED, ".", "is a directory without an Orbax tree: its files can be checked, no leaves")
            if not items:
                raise _finding(Status.INCOMPLETE, ".", "holds no state: no item with arrays was committed here")
            if not any((path / marker).is_file() for marker in _MARKERS):
                raise _finding(Status.INCOMPLETE, ".", f"has no {_MARKERS[0]}: it was never committed")
    except OSError as error:
        raise _finding(Status.UNREADABLE, ".", f"cannot be listed: {error.strerror}") from None
    leaves = []
    for item in items:
        place = item.relative_to(path).as_posix()
        leaves += _open_item(item, place, f"{item.name}/" if len(items) > 1 else "")
    return StoredCheckpoint(path, "orbax", tuple(leaves), checksummed=False, recorded=_recorded(path))


def _open_item(item: Path, place: str, prefix: str) -> list[StoredLeaf]:
    import tensorstore

    metadata = _read_json(item / TREE, place)
    keys = _key_implementations(item, place)
    context = tensorstore.Context(_CACHE)
    try:
        driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
        ocdbt = metadata["use_ocdbt"]
        entries = [
            ([str(key["key"]) for key in entry["key_metadata"]], entry["value_metadata"])
            for entry in metadata["tree_metadata"].values()
        ]
        arrays = [(names, value) for names, value in entries if not value.get("skip_deserialize")]
    except (KeyError, TypeError, AttributeError) as error:
        raise _finding(Status.CORRUPT, f"{place}/{TREE}", f"does not describe a tree ({error})") from None
    # TensorStore takes no path with `..` in it; folders above links are those that the system finds, so links are followed.
    real = item.resolve()
    opening = []
    for names, value in arrays:
        if value.get("value_type") == "string":
            raise _finding(Status.UNCHECKED, place, "holds text, which Orbax keeps apart from arrays", "/".join(names))
        name = ".".join(names)
        store: dict[str, Any] = (
            {"driver": "ocdbt", "base": {"driver": "file", "path": f"{real}/"}, "path": f"{name}/"}
            if ocdbt
            else {"driver": "file", "path": f"{real / name}/"}
        )
        future = tensorstore.open({"driver": driver, "kvstore": store}, open=True, read=True, context=context)
        opening.append((names, name, value.get("write_shape"), future))
    leaves = []
    for names, name, shape, future in opening:
        path = prefix + "/".join(names)
        where = place if ocdbt else f"{place}/{name}".removeprefix("./")
        try:
            array = future.result()
        except (ValueError, OSError, NotImplementedError, OverflowError) as error:
            raise _finding(Status.CORRUPT, where, f"cannot be opened: {first_line(error)}", path) from None
        if tuple(array.shape) != tuple(shape if shape is not None else array.shape):
            raise _finding(Status.CORRUPT, where, f"has shape {list(array.shape)}, the tree says {shape}", path)
        leaves.append(_leaf(array, path, where, keys.get(name)))
    return leaves


def _leaf(array: Any, path: str, place: str, implementation: str | None) -> StoredLeaf:
    dtype, shape = array.dtype.numpy_dtype.name, tuple(array.shape)
    if implementation is not None:
        dtype, shape = f"key<{_KEY_TAGS.get(implementation, implementation)}>", shape[:-1]

    def read() -> NDArray[Any]:
        return array.read().result()

    return StoredLeaf(LeafSpec(path, dtype, shape), place, None, read)


def _key_implementations(item: Path, place: str) -> dict[str, str]:
    """Return the PRNG implementation of every leaf that is an array of typed keys."""
    found = {}
    for file in sorted((item / "array_metadatas").glob("process_*")):
        try:
            for entry in _read_json(file, place)["array_metadatas"]:
                array = entry["array_metadata"]
                implementation = (array.get("ext_metadata") or {}).get("random_key_impl")
                if implementation is not None:
                    found[array["param_name"]] = str(implementation)
        except (KeyError, TypeError, AttributeError) as error:
            raise _finding(Status.CORRUPT, f"{place}/array_metadatas/{file.name}", f"lost its form ({error})") from None
    return found


def _recorded(path: Path) -> ContentDigest | None:
    file = path / INTEGRITY_ITEM / "metadata"
    if not file.is_file():
        return None
    try:
        return content_from_json(_read_json(file, INTEGRITY_ITEM))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _finding(Status.CORRUPT, f"{INTEGRITY_ITEM}/metadata", f"holds no content digest ({error})") from None


def _read_json(file: Path, place: str) -> dict[str, Any]:
    name = f"{place}/{file.name}".removeprefix("./")
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise _finding(Status.UNREADABLE, name, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise _finding(Status.CORRUPT, name, f"is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise _finding(Status.CORRUPT, name, "is not a JSON object")
    return value


def _finding(status: Status, path: str, message: str, leaf: str | None = None) -> IntegrityError:
    return IntegrityError(Finding(status, path, message, leaf))
