"""One number of several objectives, said by name: for optimizers that take one, and for users who know what they trade."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evo_merge.command_line import nearest
from evo_merge.errors import ConfigError


class Scalarization(Protocol):
    """Makes one number of the objectives' means; higher is better.

    Attributes:
        name: What the number is called.
    """

    name: str

    def __call__(self, names: Sequence[str], fitness: NDArray[np.float64]) -> float:
        """The number for ``(n_objectives,)``; raises ``ConfigError`` where an option names no objective."""


class WeightedSum:
    """The sum of the objectives times their weights; without weights their plain mean."""

    name = "weighted_sum"

    def __init__(self, *, weights: Mapping[str, float] | Sequence[float] | None) -> None:
        """``weights`` has one for every objective, by name or in their order; ``None`` is the same for all."""
        self._weights = weights

    def __call__(self, names: Sequence[str], fitness: NDArray[np.float64]) -> float:
        """The sum."""
        return float(_weights(self._weights, names) @ fitness)


class Chebyshev:
    """How far the objective that is furthest behind lies from its ideal, times its weight (Bowman 1976), as minus a number.

    Unlike a sum it can also find the members of a front that is hollow.
    """

    name = "chebyshev"

    def __init__(self, *, weights: Mapping[str, float] | Sequence[float] | None, ideal: float) -> None:
        """``weights`` as for the sum; ``ideal`` is the value that every objective would like to have."""
        self._weights, self._ideal = weights, ideal

    def __call__(self, names: Sequence[str], fitness: NDArray[np.float64]) -> float:
        """Minus the greatest weighted distance."""
        return float(-(_weights(self._weights, names) * (self._ideal - fitness)).max())


def _weights(weights: Mapping[str, float] | Sequence[float] | None, names: Sequence[str]) -> NDArray[np.float64]:
    if not weights:
        return np.full(len(names), 1 / len(names))
    if not isinstance(weights, Mapping):
        if len(weights) != len(names):
            raise ConfigError(f"scalarize.weights has {len(weights)} numbers for {len(names)} objectives, {', '.join(names)}")
        weights = dict(zip(names, weights, strict=True))
    if unknown := [name for name in weights if name not in names]:
        raise ConfigError(f"scalarize.weights: there is no objective '{unknown[0]}'; {nearest(unknown[0], names)}")
    if missing := [name for name in names if name not in weights]:
        raise ConfigError(f"scalarize.weights has none for '{missing[0]}'; give one for each of {', '.join(names)}, or null")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not np.isfinite(weight) or weight < 0:
            raise ConfigError(f"scalarize.weights: '{name}' must have a number of at least 0, got {weight!r}")
    return np.asarray([weights[name] for name in names], dtype=np.float64)
