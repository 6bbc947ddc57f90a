"""The states of random generators as JSON values, and back: bytes in base64, floats in hexadecimal, so that no bit is lost."""

import base64
import struct
from collections.abc import Mapping
from typing import Any

from reprotui.reproduce.frameworks import require


def python_state(state: tuple[Any, ...]) -> dict[str, Any]:
    """Return what `random.getstate` gave as JSON values."""
    version, internal, gauss = state
    words = base64.b64encode(struct.pack(f"<{len(internal)}I", *internal)).decode()
    return {"version": version, "words": words, "gauss": None if gauss is None else gauss.hex()}


def python_tuple(state: Mapping[str, Any]) -> tuple[int, tuple[int, ...], float | None]:
    """Return what `random.setstate` takes."""
    gauss = None if state["gauss"] is None else float.fromhex(state["gauss"])
    words = base64.b64decode(state["words"], validate=True)
    return state["version"], struct.unpack(f"<{len(words) // 4}I", words), gauss


def plain(value: Any) -> Any:
    """Return NumPy's state dictionaries as JSON values: arrays as base64 of little-endian bytes, floats in hexadecimal."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return {"float": value.hex()}
    if hasattr(value, "dtype") and hasattr(value, "tobytes"):
        if value.ndim == 0:
            return value.item()
        little = value.astype(value.dtype.newbyteorder("<"))
        data = base64.b64encode(little.tobytes()).decode()
        return {"array": data, "dtype": value.dtype.name, "shape": list(value.shape)}
    return value


def unplain(value: Any) -> Any:
    """Return what `plain` was given."""
    if not isinstance(value, Mapping):
        return value
    if "array" in value:
        return array(value)
    if "float" in value:
        return float.fromhex(value["float"])
    return {key: unplain(item) for key, item in value.items()}


def array(value: Mapping[str, Any]) -> Any:
    """Return the array that `plain` made JSON of."""
    numpy = require("numpy", "an array of a seed state")
    data = base64.b64decode(value["array"], validate=True)
    return numpy.frombuffer(data, dtype=numpy.dtype(value["dtype"]).newbyteorder("<")).reshape(value["shape"]).copy()


def tensor_text(tensor: Any) -> str:
    """Return the state of a generator of torch as text."""
    return base64.b64encode(bytes(tensor.cpu().numpy())).decode()


def text_tensor(torch: Any, text: str) -> Any:
    """Return the state that `tensor_text` made a text of."""
    return torch.frombuffer(bytearray(base64.b64decode(text, validate=True)), dtype=torch.uint8)
