"""Describe an experiment's config for a form, and say what is wrong with values, field by field."""

import sys
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args, get_origin

from reprotui.experiments.config import ExperimentConfig, config_problems, make_config
from reprotui.experiments.discovery import ExperimentReference, answer_about, ask_file
from reprotui.experiments.registry import BUILT_IN

GROUPS = ("training", "data", "model", "execution")
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True)
class FormField:
    """One field of a config.

    `kind` is int, float, bool, choice or text; `choices` are those of choice and bool; `bounds` is for people, as in
    `≥ 1`; `optional` fields may be none. `default` is as in JSON.
    """

    name: str
    default: Any
    description: str
    group: str
    kind: str
    choices: tuple[str, ...] = ()
    bounds: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Checked:
    """A config that was checked: its values where all are right, else what is wrong, by field."""

    values: dict[str, Any] | None
    problems: dict[str, str]


def describe_experiment(reference: ExperimentReference) -> tuple[FormField, ...]:
    """Return the fields of an experiment's config, in groups. A user's file is imported in a process of its own.

    Raises:
        BadInputError: the file cannot be imported or is no experiment.
    """
    if reference.path is None:
        return describe_model(BUILT_IN[reference.name].config)
    found = ask_file(reference.path, "reprotui.experiments.form", None)["fields"]
    return tuple(replace(FormField(**item), choices=tuple(item["choices"])) for item in found)


def check_configs(reference: ExperimentReference, overrides: list[dict[str, Any]]) -> list[Checked]:
    """Check the overrides of several runs; unlike `resolve_configs` it returns what is wrong, for all of them.

    Raises:
        BadInputError: the file cannot be imported or is no experiment.
    """
    if reference.path is None:
        return [_check(BUILT_IN[reference.name].config, reference.name, item) for item in overrides]
    found = ask_file(reference.path, "reprotui.experiments.form", overrides)["checked"]
    return [Checked(item["values"], item["problems"]) for item in found]


def describe_model(model: type[ExperimentConfig]) -> tuple[FormField, ...]:
    """Return the fields of a config class; a user's own group comes last."""
    found = [_field(name, info) for name, info in model.model_fields.items()]
    order = {group: index for index, group in enumerate(GROUPS)}
    return tuple(sorted(found, key=lambda item: order.get(item.group, len(order))))


def _field(name: str, info: Any) -> FormField:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    optional = type(None) in get_args(info.annotation)
    kinds = [kind for kind in get_args(info.annotation) if kind is not type(None)] if optional else [info.annotation]
    kind, choices = "text", ()
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        kind, choices = "choice", tuple(map(str, get_args(kinds[0])))
    elif kinds == [bool]:
        kind, choices = "bool", ("true", "false")
    elif len(kinds) == 1 and kinds[0] in (int, float):
        kind = kinds[0].__name__
    if optional and choices:
        choices = ("none", *choices)
    bounds = [f"{sign} {getattr(item, key):,}" for item in info.metadata for key, sign in _SIGNS.items() if hasattr(item, key)]
    default = info.get_default(call_default_factory=True)
    if not isinstance(default, int | float | str | bool | None):
        default = None if info.is_required() else str(default)
    return FormField(
        name, default, info.description or "", str(extra.get("group", "model")), kind, choices, ", ".join(bounds), optional
    )


def _check(model: type[ExperimentConfig], name: str, overrides: dict[str, Any]) -> Checked:
    problems = config_problems(model, overrides)
    return Checked(None if problems else make_config(model, overrides, name).model_dump(mode="json"), problems)


def _answer(model: type[ExperimentConfig], name: str, overrides: list[dict[str, Any]] | None) -> dict[str, Any]:
    if overrides is None:
        return {"fields": [asdict(item) for item in describe_model(model)]}
    return {"checked": [asdict(_check(model, name, item)) for item in overrides]}


if __name__ == "__main__":
    answer_about(sys.argv[1:], _answer)
