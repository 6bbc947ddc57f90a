"""What an operation of torch reads and writes, as its schema says."""

import functools
from typing import Any, NamedTuple

_OVERWRITE = {
    "copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "random_", "exponential_", "cauchy_", "geometric_",
    "log_normal_", "resize_", "resize_as_", "_foreach_copy_", "_foreach_zero_", "zero", "_resize_output_",
}  # fmt: skip
"""Operations in place that give what they write whatever was there before."""
_UNSET = (
    "empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided", "resize_", "resize_as_",
    "_resize_output_", "_empty_affine_quantized", "empty_quantized",
)  # fmt: skip
"""Operations whose output holds whatever lay there: no number that means anything."""
_MADE = ("lift_fresh",)
"""What says that it shows its input, and is where numbers of Python's become a tensor."""
_STATISTICS = ("running_mean", "running_var")
_SILENT = ("profiler", "debugprims", "rngprims")
"""Namespaces of what computes nothing."""
_HANDED = ("set_", "set_data")
"""What gives a tensor another memory, such as that of a loader's worker: what lies there came from elsewhere."""


class Form(NamedTuple):
    """What is known of an operation.

    Attributes:
        name: such as `aten.addmm`.
        silent: it computes nothing that a training sees.
        arguments: their names in order.
        writes: the arguments that it writes to; of those in `overwrites` it does not read what was there.
        statistics: it writes running statistics without saying so.
        view: its outputs are its input seen in another way.
        unset: its outputs hold no numbers yet.
        chance: it may draw from a generator.
    """

    name: str
    silent: bool
    arguments: tuple[str, ...]
    writes: frozenset[str]
    overwrites: frozenset[str]
    statistics: bool
    view: bool
    unset: bool
    chance: bool


@functools.cache
def form_of(operation: Any) -> Form:
    """Return the form of an operation: an overload of torch's, or one of higher order, of which nothing is written."""
    schema = getattr(operation, "_schema", None)
    if schema is None:
        return Form(str(getattr(operation, "name", lambda: operation)()), False, (), *[frozenset()] * 2, *[False] * 4)  # ty: ignore
    namespace, _, plain = schema.name.partition("::")
    named = tuple([argument.name for argument in schema.arguments])
    writes = [argument for argument in schema.arguments if argument.alias_info is not None and argument.alias_info.is_write]
    returned = [item.alias_info for item in schema.returns]
    overwritten = {argument.name for argument in writes if argument.is_out or plain in _OVERWRITE}
    return Form(
        f"{namespace}.{plain}", namespace in _SILENT or plain in _HANDED, named, frozenset(argument.name for argument in writes),
        frozenset(overwritten), "batch_norm" in plain and all(name in named for name in _STATISTICS) and not writes,
        plain not in _MADE and bool(returned) and all(info is not None and not info.is_write for info in returned),
        plain in _UNSET, _draws(operation),
    )  # fmt: skip


def _draws(operation: Any) -> bool:
    import torch

    return torch.Tag.nondeterministic_seeded in getattr(operation, "tags", ())


def written_statistics(given: dict[str, Any]) -> tuple[str, ...]:
    """Return the running statistics that a batch normalization writes with these arguments."""
    training = given.get("training", given.get("train", False))
    return tuple(name for name in _STATISTICS if training and given.get(name) is not None)
