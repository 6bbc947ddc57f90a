"""An operation of torch with its arguments: as a line, tensors by type, shape and how they lie, all else by its value; and the
generator that it may draw from."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from reprotui.checksum import host_form

LONGEST = 160
"""Characters of an argument that is told."""


def tensors_of(value: Any) -> Iterator[Any]:
    """Yield the tensors in an argument or a result."""
    return (part for part in flat(value) if isinstance(part, torch.Tensor))


def flat(value: Any) -> Iterator[Any]:
    """Yield what stands in lists, tuples and dictionaries."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from flat(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from flat(part)
    else:
        yield value


def text_of(name: str, given: Mapping[Any, Any]) -> str:
    """Return an operation with its arguments."""
    told = [_told(value) if _is_tensor(value) else f"{key}={_told(value)}" for key, value in given.items()]
    return f"{name}({', '.join(told)})"


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, list | tuple) and any(map(_is_tensor, value)))


def _told(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return layout(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_told, value))}]"
    if value is None or isinstance(value, bool | int | float | complex | str):
        return repr(value)[:LONGEST]
    if isinstance(value, torch.dtype | torch.device | torch.layout | torch.memory_format):
        return str(value)
    return type(value).__name__


def layout(tensor: Any) -> str:
    """Return type and shape of a tensor, and how it lies in its storage where that is not the usual."""
    text = f"{str(tensor.dtype).removeprefix('torch.')}[{','.join(map(str, tensor.shape))}]"
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided:
        return f"{type(tensor).__name__} {text}"
    if not tensor.is_contiguous():
        text += f" strides {list(tensor.stride())}"
    return f"{text} from {tensor.storage_offset()} on" if tensor.storage_offset() else text


def unknown_in(given: Mapping[Any, Any]) -> int:
    """Return how many arguments of an operation have a value that nobody can tell, such as a storage."""
    known = (
        torch.Tensor,
        bool,
        int,
        float,
        complex,
        str,
        torch.dtype,
        torch.device,
        torch.layout,
        torch.memory_format,
        torch.Generator,
    )
    return sum(value is not None and not isinstance(value, known) for value in flat(list(given.values())))


def digest(text: str) -> str:
    """Return 16 hexadecimal digits that stand for a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def generator_of(given: Mapping[Any, Any], tensors: Sequence[tuple[Any, Any]]) -> Any:
    """Return the generator that an operation may draw from."""
    named = given.get("generator")
    if named is not None:
        return named
    device = next((tensor.device for _, tensor in tensors), given.get("device"))
    if device is not None and torch.device(device).type == "cuda":
        index = torch.device(device).index
        return torch.cuda.default_generators[torch.cuda.current_device() if index is None else index]
    return torch.default_generator


def state_of(generator: Any) -> str:
    """Return the checksum of a generator's state."""
    return f"{host_form.checksum(generator.get_state().numpy()):016x}"
