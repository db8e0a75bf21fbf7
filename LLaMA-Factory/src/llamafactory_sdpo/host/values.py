"""Check the values of a config against the types that the host declares, which its own reader does not do."""

import math
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import OptionError


BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
"""Texts that mean true or false, if a config has them in quotes; Python takes every text for true."""

AT_LEAST: dict[str, float] = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "preprocessing_num_workers": 1,
    "preprocessing_batch_size": 1,
    "cutoff_len": 1,
    "max_samples": 1,
    "lora_rank": 1,
    "dataloader_num_workers": 0,
    "learning_rate": 0,
    "num_train_epochs": 0,
    "warmup_steps": 0,
    "weight_decay": 0,
    "pref_beta": 0,
    "val_size": 0,
    "dpo_label_smoothing": 0,
    "lora_dropout": 0,
}
"""The smallest values with which a training can be made."""

AT_MOST: dict[str, float] = {
    "dpo_label_smoothing": 0.5,
    "lora_dropout": 1,
}
"""The largest ones; labels that are smoothed by more than a half are turned round."""

MAPPINGS = ("lr_scheduler_kwargs", "gradient_checkpointing_kwargs")
"""Options that are declared as text too, which is then to be a JSON object and not a path."""


def checked(args: dict[str, Any], kinds: list[type]) -> dict[str, Any]:
    """Return a config whose values are of the declared types.

    True and false stand in the place of their texts, whole numbers in that of `2.0`, and text in that of a number
    where only text is read, as for a dataset that is called 2024.

    Args:
        args: a config.
        kinds: the classes of arguments that read it.

    Raises:
        OptionError: naming the first value of another type.
    """
    declared = {item.name: (hints[item.name], item) for kind in kinds for hints in [get_type_hints(kind)]
                for item in fields(kind)}  # fmt: skip
    found = dict(args)
    for key, value in args.items():
        if key not in declared:
            continue
        kind, item = declared[key]
        may_be_none = value is None and (kind is bool or item.default in (None, MISSING))
        if not may_be_none and not fits(value, kind):
            raise OptionError(key, f"`{key}` is {value!r}, expected {_expected(kind)}")
        if key in AT_LEAST and isinstance(value, int | float) and value < AT_LEAST[key]:
            raise OptionError(key, f"`{key}` is {value!r}, expected at least {AT_LEAST[key]:g}")
        if key in AT_MOST and isinstance(value, int | float) and value > AT_MOST[key]:
            raise OptionError(key, f"`{key}` is {value!r}, expected at most {AT_MOST[key]:g}")
        if key in MAPPINGS and isinstance(value, str) and not value.startswith("{"):
            raise OptionError(key, f"`{key}` is {value!r}, expected key: value lines")
        found[key] = _as_declared(value, set(_parts(kind)) - {NoneType})
    return found


def _as_declared(value: Any, parts: set[Any]) -> Any:
    """Return a value that fits as one of its type."""
    if isinstance(value, str) and bool in parts and str not in parts:
        return BOOLEANS[value.lower()]
    if isinstance(value, float) and int in parts and float not in parts and str not in parts:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and parts == {str}:
        return str(value)
    return value


def fits(value: Any, kind: Any) -> bool:
    """Return whether a value of a config can be meant as one of a type; any text or number may be meant as text."""
    parts = _parts(kind)
    choices = [part for part in parts if _choices(part) is not None]
    if choices:
        # The host also allows text beside its enumerations, which would be the names of their members.
        return value in [choice for part in choices for choice in _choices(part) or ()] or (
            any(_fits_one(value, part) for part in parts if part is not str and _choices(part) is None)
        )
    return any(_fits_one(value, part) for part in parts)


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _choices(kind: Any) -> tuple[Any, ...] | None:
    """Return the values of an enumeration or a Literal, else None."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return tuple(member.value for member in kind)
    return get_args(kind) if get_origin(kind) is Literal else None


def _fits_one(value: Any, kind: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if kind is NoneType:
        return value is None
    if kind is bool:
        return value in (True, False) or (isinstance(value, str) and value.lower() in BOOLEANS)
    if kind is int:
        return is_number and (isinstance(value, int) or value.is_integer())
    if kind is float:
        return is_number
    if kind in (str, Path):
        return value is not None and not isinstance(value, dict)
    # Lists and mappings, which the host also reads from text.
    return value is not None


def _expected(kind: Any) -> str:
    """Return what a type stands for, in words."""
    parts = _parts(kind)
    choices = [str(choice) for part in parts for choice in _choices(part) or ()]
    if choices:
        return f"one of {', '.join(choices)}"
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    return " or ".join(words.get(part, "text") for part in parts if part is not NoneType)
