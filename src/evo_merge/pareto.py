"""Which of several candidates are best where no single number says so: the Pareto front, its knee, and its hypervolume."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def dominates(a: NDArray[np.float64], b: NDArray[np.float64], a_violation: float = 0.0, b_violation: float = 0.0) -> bool:
    """Whether the first is better: it misses the constraints by less, or by as much and is nowhere worse and somewhere better.

    Deb's rule (2000): who misses no constraint is better than who misses one. With one objective, better means greater.

    Args:
        a: ``(n_objectives,)``, higher is better.
        b: Of the other.
        a_violation: By how much the constraints are missed; 0 where they are met.
        b_violation: Of the other.
    """
    if a_violation != b_violation:
        return a_violation < b_violation
    return bool((a >= b).all() and (a > b).any())


def front(fitness: NDArray[np.float64], violation: NDArray[np.float64] | None = None) -> list[int]:
    """Places of those that none dominates, in order; among equals only the first.

    Args:
        fitness: ``(n, n_objectives)``, higher is better; rows that are not finite are never in front.
        violation: ``(n,)``; ``None`` is 0 for all.
    """
    found: Front[int] = Front()
    for place, row in enumerate(fitness):
        found.add(place, row, 0.0 if violation is None else float(violation[place]))
    return found.members


class Front(Generic[T]):
    """The best so far of what is added: one where there is one objective, else those that none of the others dominates."""

    def __init__(self) -> None:
        self._members: list[tuple[T, NDArray[np.float64], float]] = []

    @property
    def members(self) -> list[T]:
        """In the order in which they came."""
        return [item for item, _, _ in self._members]

    def add(self, item: T, fitness: NDArray[np.float64], violation: float = 0.0) -> bool:
        """Take in what is not worse than, and not equal to, a member; whether it was taken in."""
        if not np.isfinite(fitness).all():
            return False
        for _, other, missed in self._members:
            if dominates(other, fitness, missed, violation) or (missed == violation and np.array_equal(other, fitness)):
                return False
        kept = [each for each in self._members if not dominates(fitness, each[1], violation, each[2])]
        self._members = [*kept, (item, fitness, violation)]
        return True


def knee(fitness: NDArray[np.float64], among: NDArray[np.float64]) -> int:
    """Place of the member of a front with the greatest sum of its objectives, each scaled to [0, 1] over the front.

    Of two objectives it is the one furthest from the line through the ends (Das 1999), on which they sum to 1; the first among
    equals. Two members are both ends, and sum to 1 both: then objectives are scaled over all candidates.

    Args:
        fitness: ``(n, n_objectives)``, of the front.
        among: ``(n_candidates, n_objectives)``, of all candidates; rows that are not finite do not count.
    """
    over = among[np.isfinite(among).all(axis=1)] if len(fitness) == 2 else fitness
    low, high = over.min(axis=0), over.max(axis=0)
    scaled = (fitness - low) / np.where(high > low, high - low, 1.0)
    return int(np.argmax(np.round(scaled.sum(axis=1), 12)))


def hypervolume(fitness: NDArray[np.float64] | Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Volume between a reference point and the front of ``(n, n_objectives)`` (Zitzler and Thiele 1998); 0 without rows.

    Rows that are not above the reference in every objective add nothing.
    """
    from pymoo.indicators.hv import HV  # slow to import, and a run with one objective needs none

    rows = np.asarray(fitness, dtype=np.float64).reshape(-1, len(reference))
    rows = rows[np.isfinite(rows).all(axis=1) & (rows > np.asarray(reference)).all(axis=1)]
    if not len(rows):
        return 0.0
    return float(HV(ref_point=-np.asarray(reference, dtype=np.float64))(-rows[front(rows)]))
