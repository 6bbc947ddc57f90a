"""Configs: structured, validated, saved as JSON. Every field says which phases of a step it can change."""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from reprotui.errors import BadInputError

Phases = tuple[str, ...]
EVERYTHING: Phases = ("init", "batch", "rng", "forward", "grads", "optimizer", "params")
COMPUTATION: Phases = ("init", "forward", "grads", "optimizer", "params")
MODEL: Phases = ("init", "forward", "grads")


def phase_field(default: Any, phases: Phases, description: str, group: str = "training", **constraints: Any) -> Any:
    """Return a pydantic field that says which phases it can change; the cause of a divergence is named by it.

    Args:
        default: the default value.
        phases: the phases whose outputs this field enters directly, given equal inputs.
        description: one line for help and form.
        group: `training`, `data`, `model` or `execution`.
        constraints: pydantic's (`ge`, `le`, `gt`, ...).
    """
    extra: dict[str, Any] = {"phases": list(phases), "group": group}
    return Field(default, description=description, json_schema_extra=extra, **constraints)


class Perturbation(NamedTuple):
    """A bit to flip: a simulated silent data corruption of one element of the state after a step."""

    step: int
    leaf: str
    index: int
    bit: int

    @classmethod
    def parse(cls, text: str) -> "Perturbation":
        """Read `STEP:LEAF:INDEX:BIT`; raise ValueError where it is not of that form."""
        match = re.fullmatch(r"(\d+):(.+):(\d+):(\d+)", text)
        if match is None:
            raise ValueError("expected STEP:LEAF:INDEX:BIT, for example 50:params/dense_0/kernel:7:12")
        step, leaf, index, bit = match.groups()
        return cls(int(step), leaf, int(index), int(bit))


class ExperimentConfig(BaseModel):
    """Fields that every experiment has. A user's `Config` inherits from it and adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    seed: int = phase_field(0, ("init", "batch", "rng"), "seed of initialisation, data order and step keys", ge=0, lt=2**32)
    steps: int = phase_field(200, (), "updates to train", ge=1, le=10**9)
    batch_size: int = phase_field(64, ("batch",), "examples a step", group="data", ge=1)
    lr: float = phase_field(0.05, ("params",), "learning rate", gt=0)
    optimizer: Literal["sgd", "momentum", "adam", "adamw"] = phase_field(
        "momentum", ("init", "optimizer", "params"), "optax optimizer"
    )
    momentum: float = phase_field(0.9, ("optimizer", "params"), "momentum of `momentum`, b1 of adam and adamw", ge=0, lt=1)
    weight_decay: float = phase_field(1e-4, ("params",), "weight decay of adamw", ge=0)
    shuffle: Literal["sequential", "seeded"] = phase_field(
        "seeded", ("batch",), "examples in file order, or drawn by seed and step", group="data"
    )
    shuffle_from: int | None = phase_field(None, ("batch",), "change the batch order from this step on", group="data", ge=1)
    perturb: str | None = phase_field(
        None,
        ("init", "forward", "optimizer", "params"),
        "flip one bit of the state after a step: STEP:LEAF:INDEX:BIT",
        group="execution",
    )
    prng: Literal["threefry2x32", "rbg", "unsafe_rbg"] = phase_field(
        "threefry2x32", ("init", "batch", "rng"), "implementation of the PRNG keys", group="execution"
    )
    matmul_precision: Literal["default", "high", "highest"] = phase_field(
        "default", COMPUTATION, "precision of matrix products on accelerators", group="execution"
    )
    threads: int = phase_field(0, COMPUTATION, "threads of the CPU backend; 0: one a core", group="execution", ge=0, le=1024)
    deterministic: bool = phase_field(True, COMPUTATION, "XLA's deterministic operations on GPUs", group="execution")
    xla_flags: str = phase_field("", COMPUTATION, "further XLA_FLAGS, such as --xla_cpu_enable_fast_math=true", group="execution")

    @field_validator("perturb")
    @classmethod
    def _perturb_has_four_parts(cls, value: str | None) -> str | None:
        if value is not None:
            Perturbation.parse(value)
        return value

    @field_validator("xla_flags")
    @classmethod
    def _flags_are_flags(cls, value: str) -> str:
        if wrong := [flag for flag in value.split() if not flag.startswith("--xla")]:
            raise ValueError(f"{wrong[0]!r} is not an XLA flag: each starts with --xla")
        return value


class ModelConfig(ExperimentConfig):
    """What the built-in experiments add: size and precision of the model."""

    width: int = phase_field(128, MODEL, "units a layer", group="model", ge=1, le=1 << 16)
    depth: int = phase_field(2, MODEL, "hidden layers", group="model", ge=1, le=256)
    dtype: Literal["float32", "bfloat16", "float16"] = phase_field(
        "float32", COMPUTATION, "type of parameters and activations", group="model"
    )


class DigitsConfig(ModelConfig):
    """The handwritten digits, or a synthetic set of the same shape."""

    data: Literal["digits", "synthetic"] = phase_field(
        "digits", ("batch",), "UCI handwritten digits, or classes generated from the seed", group="data"
    )


class MlpConfig(DigitsConfig):
    """`digits-mlp`: a multilayer perceptron."""

    width: int = phase_field(512, MODEL, "units a layer", group="model", ge=1, le=1 << 16)
    depth: int = phase_field(3, MODEL, "hidden layers", group="model", ge=1, le=256)


class CnnConfig(DigitsConfig):
    """`digits-cnn`: convolutions with batch normalisation and dropout."""

    width: int = phase_field(16, MODEL, "channels of the first convolution", group="model", ge=1, le=4096)
    dropout: float = phase_field(0.25, ("forward", "grads"), "dropout rate before the last layer", group="model", ge=0, lt=1)


class TransformerConfig(ModelConfig):
    """`transformer`: a small decoder, on modular addition or on the characters of a text."""

    lr: float = phase_field(1e-3, ("params",), "learning rate", gt=0)
    optimizer: Literal["sgd", "momentum", "adam", "adamw"] = phase_field(
        "adamw", ("init", "optimizer", "params"), "optax optimizer"
    )
    heads: int = phase_field(4, ("forward", "grads"), "attention heads; divides the width", group="model", ge=1)
    context: int = phase_field(64, ("init", "batch"), "characters a window, with text=", group="data", ge=2, le=65536)
    modulus: int = phase_field(97, ("init", "batch"), "the numbers of a + b mod N", group="data", ge=2, le=10007)
    text: str | None = phase_field(None, ("init", "batch"), "a UTF-8 text file: predict its next character", group="data")

    @field_validator("heads")
    @classmethod
    def _heads_divide_width(cls, value: int, info: Any) -> int:
        width = info.data.get("width")
        if width is not None and width % value:
            raise ValueError(f"width {width} is not divisible by {value} heads")
        return value


def parse_overrides(pairs: list[str]) -> dict[str, str]:
    """Split `key=value` arguments; a later one wins. An empty value or `none` is None.

    Raises:
        BadInputError: an argument is not of that form.
    """
    overrides = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise BadInputError(f"{pair!r} is not key=value")
        overrides[key.strip().replace("-", "_")] = value
    return overrides


def make_config(model: type[ExperimentConfig], overrides: dict[str, Any], name: str) -> ExperimentConfig:
    """Return a validated config.

    Args:
        model: the experiment's config class.
        overrides: field values, as text from a command line or as JSON values.
        name: the experiment's name, for the error.

    Raises:
        BadInputError: all wrong keys and values at once, each with what was expected.
    """
    return read_config(model, _read_none(model, overrides), name)


def read_config(model: type[ExperimentConfig], values: Mapping[str, Any], name: str) -> ExperimentConfig:
    """Return the config that a manifest holds, validated anew: it may have been edited. Errors are those of `make_config`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise BadInputError(f"config of {name}: " + "; ".join(_explain(model, item) for item in error.errors())) from None


def config_problems(model: type[ExperimentConfig], overrides: dict[str, Any]) -> dict[str, str]:
    """Return what is wrong with each field; under `config` what concerns none alone. Nothing is wrong where it is empty."""
    try:
        model.model_validate(_read_none(model, overrides))
    except ValidationError as error:
        return {_key(item): _explain(model, item).removeprefix(f"{_key(item)}={item['input']}: ") for item in error.errors()}
    return {}


def field_phases(model: type[ExperimentConfig]) -> dict[str, list[str]]:
    """Return for every field the phases that it can change; a user's plain field may change any."""
    phases: dict[str, list[str]] = {}
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        declared = extra.get("phases") if isinstance(extra, dict) else None
        phases[name] = [str(phase) for phase in declared] if isinstance(declared, list) else list(EVERYTHING)
    return phases


def _read_none(model: type[ExperimentConfig], overrides: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, str) and value.lower() in ("", "none", "null") and _optional(model, key) else value
        for key, value in overrides.items()
    }


def _key(item: Any) -> str:
    return str(item["loc"][0]) if item["loc"] else "config"


def _optional(model: type[ExperimentConfig], key: str) -> bool:
    field = model.model_fields.get(key)
    return field is not None and type(None) in getattr(field.annotation, "__args__", ())


def _explain(model: type[ExperimentConfig], item: Any) -> str:
    import difflib

    key = _key(item)
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, model.model_fields, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(sorted(model.model_fields))}"
        return f"unknown key {key!r}: {hint}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key}={item['input']}: {message[0].lower()}{message[1:]}"
