"""Checks of options that several tasks have."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from evo_merge.errors import ConfigError
from evo_merge.tasks.base import SPLITS, Split


def check_choice(option: str, value: object, choices: Sequence[str]) -> None:
    """Raise ``ConfigError`` unless the value of an option of the task is one of the choices."""
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
    named = ", ".join(map(repr, choices)) if len(choices) <= 5 else f"{len(choices)} codes such as 'ja' and 'en'"
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"task.{option}: must be one of {named}, got {value!r}{hint}")


def checked_count(option: str, value: object, least: int) -> int:
    """A whole number of an option of the task, or ``ConfigError``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"task.{option}: must be a whole number of at least {least}, got {value!r}")
    return value


def checked_limit(limit: Mapping[str, int | None]) -> dict[Split, int | None]:
    """How many examples per split, ``None`` for all, or ``ConfigError``; only the validation split may have none."""
    check_keys("limit", limit, SPLITS)
    limits: dict[Split, int | None] = {}
    for split in SPLITS:
        value = limit.get(split)
        least = 0 if split == "validation" else 1
        limits[split] = None if value is None else checked_count(f"limit.{split}", value, least)
    return limits


def plain(value: Any) -> Any:
    """Lists and dicts of what a yaml set."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def check_keys(option: str, value: object, allowed: Sequence[str]) -> None:
    """Raise ``ConfigError`` unless an option of the task has these keys only."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"task.{option}: must have the keys {', '.join(allowed)}, got {value!r}")
    for key in value:
        if key not in allowed:
            raise ConfigError(f"task.{option}: has no key '{key}', only {', '.join(allowed)}")
