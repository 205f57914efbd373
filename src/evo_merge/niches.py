"""What an optimizer keeps that ends in more than one model: places, each with the candidate that holds it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evo_merge.genome import Genome
from evo_merge.optimizers.base import Expects


@dataclass(frozen=True, slots=True)
class ScoreBins:
    """Equal bins of one objective's scores; what lies outside the range counts to the first or the last.

    Attributes:
        n_bins: How many there are.
        low: Where the first begins.
        high: Where the last ends.
    """

    n_bins: int
    low: float
    high: float

    def bin_of(self, score: float) -> int:
        """The bin of a score, from 0; its lower edge belongs to it."""
        place = self.n_bins * (score - self.low) / (self.high - self.low)
        return int(min(max(place, 0), self.n_bins - 1))

    def edges(self, number: int) -> tuple[float, float]:
        """Where a bin begins and ends."""
        width = (self.high - self.low) / self.n_bins
        return self.low + number * width, self.low + (number + 1) * width


@dataclass(frozen=True, slots=True)
class Niche:
    """A place in an archive, and who holds it.

    Attributes:
        genome: ``(dim,)``, of the holder.
        fitness: ``(n_objectives,)``, of the holder.
        quality: Number of the objective that candidates compete by in this place; ``None`` where they compete for single
            problems.
        cell: Bins of the other objectives, in their order; empty where the place is not one of a grid.
    """

    genome: Genome
    fitness: NDArray[np.float64]
    quality: int | None
    cell: tuple[int, ...]


@runtime_checkable
class KeepsArchive(Expects, Protocol):
    """An optimizer that ends in more than one model, and has to know before it begins of how many objectives."""

    @property
    def bins(self) -> tuple[ScoreBins, ...]:
        """One an objective where the archive is a grid of scores; empty where it is not."""

    def niches(self) -> list[Niche]:
        """Every place that somebody holds, in a fixed order."""
