"""CMA-ES that begins again where it is stuck, over the ``cmaes`` library.

IPOP (Auger and Hansen 2005, https://doi.org/10.1109/CEC.2005.1554902) doubles the population at every restart. BIPOP (Hansen
2009, https://doi.org/10.1145/1570256.1570333) takes turns between that and short searches with small populations and steps,
whichever spent fewer candidates so far.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from cmaes import CMA
from numpy.typing import NDArray

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.box import Box
from evo_merge.optimizers.gaussian import Gaussian, checked_population, checked_step, require_memory
from evo_merge.seeds import child_seed

STRATEGIES = ("ipop", "bipop")


class CMAESRestart:
    """CMA-ES with restarts. Takes real genes, with bounds or without.

    The first search begins where ``cmaes`` does and proposes what it proposes. Each later one has its mean anywhere in the box
    (or the span around a start, for a gene without one) and a child of the seed.

    Args:
        genes: The box.
        seed: Decides every proposal.
        sigma0: Initial step size, as a share of the box; of its span where a gene has no box.
        population_size: Candidates a generation of the first search; ``None`` is 4 + floor(3 ln dim).
        strategy: ``ipop`` or ``bipop``.

    Raises:
        ConfigError: A gene of another kind than real, an unknown strategy, or too many genes for the free memory.
        ValueError: A step size or population size that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real",)
    takes_several: ClassVar[bool] = False
    needs_box: ClassVar[bool] = False
    generation_size: ClassVar[int | None] = None  # they grow
    takes_races: ClassVar[bool] = True

    def __init__(self, genes: Sequence[Gene], seed: int, *, sigma0: float, population_size: int | None, strategy: str) -> None:
        if strategy not in STRATEGIES:
            raise ConfigError(f"optimizer.strategy must be one of {', '.join(STRATEGIES)}, got '{strategy}'")
        self._box, self._seed, self._strategy = Box(genes, "cmaes_restart", self.kinds), seed, strategy
        self._sigma, self._size = checked_step(sigma0), checked_population(population_size, self._box.dim)
        require_memory(
            self._box.dim, self._size, optimizer="cmaes_restart", instead="optimizer=sep_cmaes takes any number of genes"
        )
        self._rng = np.random.default_rng(child_seed(seed, "restarts"))
        self._n_restarts = self._n_doublings = 0
        self._is_small = True  # the first search counts with the small ones, as in the reference implementations
        self._spent_small = self._spent_large = self._last_large = 0  # candidates
        self._limit = math.inf  # candidates of the search that is on
        self._n_told = 0
        self._search = self._begin(self._box.mean(None), self._sigma, self._size, seed)

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``; the size is that of the search that is on."""
        return self._search.ask()

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation, and begin again where the search is stuck."""
        self._search.tell(evaluations)
        self._n_told += len(genomes)
        with np.errstate(invalid="ignore"):  # the infinite losses of candidates that failed have no range
            is_stuck = self._search.library.should_stop()
        if is_stuck or self._n_told >= self._limit:
            self._restart()

    def _restart(self) -> None:
        if self._is_small:
            self._spent_small += self._n_told
        else:
            self._spent_large += self._n_told
            self._last_large = self._n_told
        self._n_restarts += 1
        self._n_told = 0
        self._is_small = self._strategy == "bipop" and self._spent_small < self._spent_large
        if self._is_small:
            # Hansen 2009, section 2: between the first size and half of the last large one, steps down to a hundredth.
            for_size, for_step = self._rng.uniform(size=2)
            size = math.floor(self._size * (2**self._n_doublings / 2) ** for_size**2)
            sigma, self._limit = self._sigma * 10 ** (-2 * for_step), self._last_large / 2
        else:
            self._n_doublings += 1
            size, sigma, self._limit = self._size * 2**self._n_doublings, self._sigma, math.inf
        mean = self._box.points(self._box.uniform(self._rng, 1))[0]
        self._search = self._begin(mean, sigma, size, child_seed(self._seed, f"restart {self._n_restarts}"))

    def _begin(self, mean: NDArray[np.float64], sigma: float, size: int, seed: int) -> Gaussian:
        box = self._box
        library = CMA(mean, sigma, bounds=box.bounds, n_max_resampling=10 * box.dim, seed=seed, population_size=size)
        return Gaussian(box, library)
