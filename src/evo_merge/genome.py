"""Genes and genomes: what an optimizer moves.

A genome is one point of a merge space's box, a ``float64`` array ``(dim,)`` in the order of the space's genes; the genomes
of a population are ``(population_size, dim)``. Nothing here knows what the numbers mean.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Genome: TypeAlias = NDArray[np.float64]  # (dim,)
Genomes: TypeAlias = NDArray[np.float64]  # (population_size, dim)


@dataclass(frozen=True, slots=True)
class Gene:
    """One named number of a genome.

    Attributes:
        name: What W&B and the report call it, for example ``weight/ja``.
        low: Smallest value; ``-inf`` where there is none.
        high: Largest value; ``inf`` where there is none.
        start: Where a search begins, and the value of the un-optimised merge.
        kind: ``real``, ``binary`` (0 or 1), or ``choice`` (a whole number from ``low`` to ``high``).
        span: What a step size is a share of where the gene has no bounds: the length of the box of one that has.
    """

    name: str
    low: float
    high: float
    start: float
    kind: Literal["real", "binary", "choice"] = "real"
    span: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"gene '{self.name}' needs low < high, got {self.low} and {self.high}")
        if not self.low <= self.start <= self.high:
            raise ValueError(f"gene '{self.name}' starts at {self.start}, outside [{self.low}, {self.high}]")
        if not 0 < self.span < float("inf"):
            raise ValueError(f"gene '{self.name}' needs a finite span above 0, got {self.span}")
        if self.kind == "binary" and (self.low, self.high) != (0, 1):
            raise ValueError(f"binary gene '{self.name}' needs the bounds 0 and 1, got {self.low} and {self.high}")
        if self.kind == "choice" and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ValueError(f"gene '{self.name}' chooses between whole numbers, got {self.low} and {self.high}")
