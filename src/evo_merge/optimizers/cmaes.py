"""CMA-ES (Hansen and Ostermeier 2001) over the ``cmaes`` library, with the settings of the published runs.

Those used Optuna's sampler with its defaults (Akiba et al. 2024, section 4.1): the box scaled to [0, 1], mean at its centre,
sigma 1/6, no restart. The centre is each gene's start.
"""

import math
from collections.abc import Sequence

import numpy as np
from cmaes import CMA

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import single_fitness
from evo_merge.optimizers.box import Box


class CMAES:
    """Covariance matrix adaptation.

    Args:
        genes: The box.
        seed: Decides every proposal.
        sigma0: Initial step size, as a share of the box.
        population_size: Candidates a generation; ``None`` is 4 + floor(3 ln dim).
        startup_trial: Begin with one uniform random candidate that is never told, as the published runs did.

    Raises:
        ConfigError: A gene without finite bounds, or of another kind than real.
        ValueError: A step size or population size that cannot be.
    """

    def __init__(
        self, genes: Sequence[Gene], seed: int, *, sigma0: float, population_size: int | None, startup_trial: bool
    ) -> None:
        self._box = Box(genes, "cmaes")
        dim = self._box.dim
        if not sigma0 > 0:
            raise ValueError(f"optimizer.sigma0 must be above 0, got {sigma0}")
        size = 4 + math.floor(3 * math.log(dim)) if population_size is None else population_size
        if size < 4:  # its recombination needs two parents
            raise ValueError(f"optimizer.population_size must be at least 4, got {size}")
        # Infeasible samples are drawn again up to 10 n times, then clipped to the bounds.
        self._cma = CMA(
            mean=self._box.start,
            sigma=sigma0,
            bounds=np.tile([0.0, 1.0], (dim, 1)),
            n_max_resampling=10 * dim,
            seed=seed,
            population_size=size,
        )
        self._startup = np.random.default_rng(seed).uniform(size=(1, dim)) if startup_trial else None
        self._asked: Genomes = np.empty((0, dim))

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``; once a single random one where a start-up trial is wanted."""
        if self._startup is not None:
            self._asked = self._startup
        else:
            self._asked = np.stack([self._cma.ask() for _ in range(self._cma.population_size)])
        return self._box.from_unit(self._asked)

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation; the start-up trial teaches nothing."""
        if self._startup is not None:
            self._startup = None
            return
        fitness = single_fitness(evaluations)
        # The points as they were drawn: the map to the box and back would round.
        self._cma.tell([(point, -value) for point, value in zip(self._asked, fitness, strict=True)])
