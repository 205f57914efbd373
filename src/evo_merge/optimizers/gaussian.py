"""What the optimizers that draw from a normal distribution agree on: its step, its population, what its covariance costs."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import psutil

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Genomes
from evo_merge.optimizers.base import single_fitness
from evo_merge.optimizers.box import Box

if TYPE_CHECKING:
    from cmaes import CMA, SepCMA


class Gaussian:
    """A normal distribution of the ``cmaes`` library over a box of real genes, asked and told a generation at a time.

    Attributes:
        library: It draws and learns, in the box's coordinates.
    """

    def __init__(self, box: Box, library: "CMA | SepCMA") -> None:
        self._box, self.library = box, library
        self._asked: Genomes = np.empty((0, box.dim))

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        self._asked = np.stack([self.library.ask() for _ in range(self.library.population_size)])
        return self._box.genomes(self._asked)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from the last generation; candidates that failed rank last."""
        fitness = single_fitness(evaluations)
        # The points as they were drawn: the map to the box and back would round.
        self.library.tell([(point, -value) for point, value in zip(self._asked, fitness, strict=True)])


def checked_step(sigma0: float) -> float:
    """The initial step size; raises ``ValueError`` where nothing would move."""
    if not sigma0 > 0:
        raise ValueError(f"optimizer.sigma0 must be above 0, got {sigma0}")
    return sigma0


def default_population(dim: int) -> int:
    """4 + floor(3 ln dim) (Hansen 2016, equation 48)."""
    return 4 + math.floor(3 * math.log(dim))


def checked_population(population_size: int | None, dim: int) -> int:
    """Candidates a generation; ``None`` is the default. Raises ``ValueError`` for fewer than four."""
    size = default_population(dim) if population_size is None else population_size
    if size < 4:  # its recombination needs two parents
        raise ValueError(f"optimizer.population_size must be at least 4, got {size}")
    return size


def covariance_bytes(dim: int, population_size: int) -> int:
    """Most memory that learning from one generation takes with a full covariance, in bytes.

    The ``cmaes`` library (0.13) multiplies out every candidate's step twice, ``(population_size, dim, dim)``, beside some six
    matrices ``(dim, dim)``; measured with ``tracemalloc``: 21 matrices for 8 candidates, 85 for 40.
    """
    return 8 * dim**2 * (2 * population_size + 6)


def require_memory(dim: int, population_size: int, *, optimizer: str, instead: str) -> None:
    """Refuse, with a sentence that ends on ``instead``, a covariance that does not fit the free memory.

    Raises:
        ConfigError: It does not.
    """
    needed, free = covariance_bytes(dim, population_size), psutil.virtual_memory().available
    if needed > free:
        raise ConfigError(
            f"optimizer={optimizer} needs {needed / 1e9:.1f} GB to learn the covariance of {dim} genes from a population of "
            f"{population_size}, and {free / 1e9:.1f} GB are free; {instead}"
        )
