"""What a setting of mergekit's YAML is for one tensor: a value, a gradient over the layers, or a choice by filters."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from evo_merge.interchange.document import Document, Place


@dataclass(frozen=True, slots=True)
class Found:
    """A setting of one tensor.

    Attributes:
        value: What it is.
        place: Where it stands, of a number out of a gradient where the gradient does; empty where the file does not say.
    """

    value: float
    place: Place = ()


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where a setting is looked for, the most special place first: a source's own settings, the slice's, the whole merge's."""

    document: Document
    scopes: Sequence[tuple[Mapping[str, Any], Place]]

    def value(self, name: str, tensor: str, t: float) -> Found | None:
        """The setting of a tensor, or ``None`` where no scope has one.

        Args:
            name: Of the setting.
            tensor: Full name of the tensor, which filters are part of.
            t: How deep it lies in its slice, from 0, the first layer, to 1, the last one.

        Raises:
            RecipeError: A value that is neither number, list of numbers, nor list of filters, with its line.
        """
        for settings, place in self.scopes:
            if settings.get(name) is not None:
                found = _evaluated(self.document, settings[name], (*place, name), tensor, t)
                if found is not None:
                    return found
        return None


def check_share(document: Document, value: Any, place: Place) -> None:
    """Refuse numbers outside of [0, 1] in the value of a setting that is a share; raises ``RecipeError`` with their line."""
    if isinstance(value, list):
        for number, entry in enumerate(value):
            check_share(document, entry, (*place, number))
    elif isinstance(value, dict):
        check_share(document, value.get("value"), (*place, "value"))
    elif value is not None and not 0.0 <= (share := _number(document, value, place)) <= 1.0:
        name = next(part for part in reversed(place) if isinstance(part, str) and part != "value")
        raise document.error(place, f"'{name}' is a share from 0 to 1, got {share:g}")


def check_numbers(document: Document, value: Any, place: Place) -> None:
    """Refuse what is no finite number in the value of a setting, its gradients and filters; raises ``RecipeError``."""
    if isinstance(value, list):
        for number, entry in enumerate(value):
            check_numbers(document, entry, (*place, number))
    elif isinstance(value, dict):
        check_numbers(document, value.get("value"), (*place, "value"))
    elif value is not None and not isinstance(value, bool):
        _number(document, value, place)


def constant(value: Any) -> float | None:
    """The one number that a checked value is for all tensors; ``None`` where it is a gradient or has filters."""
    return None if isinstance(value, list | dict) else float(value)


def filters(value: Any, place: Place) -> Iterator[tuple[str, Place]]:
    """The filters in a setting's value, and where they stand."""
    entries = value if isinstance(value, list) else [value]
    for number, entry in enumerate(entries):
        if isinstance(entry, dict) and isinstance(entry.get("filter"), str) and entry["filter"] != "*":
            inner = (*place, number) if isinstance(value, list) else place
            yield entry["filter"], (*inner, "filter")


def _evaluated(document: Document, value: Any, place: Place, tensor: str, t: float) -> Found | None:
    if isinstance(value, bool):
        return Found(float(value), place)
    if isinstance(value, str | int | float):
        return Found(_number(document, value, place), place)
    if isinstance(value, dict):
        value = [value]  # one condition
    if not isinstance(value, list) or not value:
        raise document.error(place, f"'{place[-1]}' must be a number, a list of numbers, or a list of filters, got {value!r}")
    if any(isinstance(entry, dict) for entry in value):
        return _chosen(document, value, place, tensor, t)
    return Found(between([_number(document, entry, (*place, i)) for i, entry in enumerate(value)], t), place)


def between(points: Sequence[float], t: float) -> float:
    """A gradient at a depth from 0 to 1, in the very arithmetic of mergekit (``mergekit/config.py``)."""
    depth = t * (len(points) - 1)
    lower = int(depth)
    upper = min(len(points) - 1, lower + 1)
    return (1 - (depth - lower)) * points[lower] + (depth - lower) * points[upper]


def _chosen(document: Document, conditions: list[Any], place: Place, tensor: str, t: float) -> Found | None:
    for number, condition in enumerate(conditions):
        inner = (*place, number)
        fields = document.mapping(condition, inner, ("filter", "value"))
        if "value" not in fields:
            raise document.error(inner, "a filter needs a 'value'")
        if fields.get("filter") in (None, "*") or str(fields["filter"]) in tensor:
            return _evaluated(document, fields["value"], (*inner, "value"), tensor, t)
    return None


def _number(document: Document, value: Any, place: Place) -> float:
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)  # YAML 1.1 reads 1e-3 as text
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise document.error(place, f"{value!r} is no number")
    if not math.isfinite(value):
        raise document.error(place, f"'{value}' is no finite number")
    return float(value)
