"""Values of a file as the kinds that are wanted; ``what`` is how messages call them. All raise ``RecipeError``."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

from evo_merge.errors import RecipeError


def as_mapping(value: object, what: str) -> dict[str, Any]:
    """A mapping with texts for keys."""
    if not isinstance(value, Mapping):
        raise RecipeError(f"{what} must be a mapping, got {value!r}")
    return {str(key): entry for key, entry in value.items()}


def as_list(value: object, what: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list | tuple):
        raise RecipeError(f"'{what}' must be a list, got {value!r}")
    return list(value)


def as_number(value: object, what: str) -> float:
    """A finite number, which may be written as text."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML 1.1 reads 1e-3 as text
    if isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            value = float(value)  # a whole number may be too large
    if not isinstance(value, float) or not math.isfinite(value):
        raise RecipeError(f"'{what}' must be a number, got {value!r}")
    return value


def as_whole_number(value: object, what: str) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecipeError(f"'{what}' must be a whole number, got {value!r}")
    return value
