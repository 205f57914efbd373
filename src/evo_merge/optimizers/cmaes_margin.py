"""CMA-ES with margin (Hamano et al. 2022, https://arxiv.org/abs/2205.13482) over the ``cmaes`` library.

A binary gene is a real one that is rounded; the margin gives its rarer value at least one chance in population times genes,
where plain CMA-ES would freeze it. Its real coordinate rounds at 1/2, and begins further from there the surer its start is.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from cmaes import CMAwM
from scipy.stats import norm

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import single_fitness
from evo_merge.optimizers.box import Box
from evo_merge.optimizers.gaussian import checked_population, checked_step, require_memory


class CMAESMargin:
    """Covariance matrix adaptation of real and binary genes together.

    A choice has no order, so rounding a real gene to it would make neighbours of strangers: those are for ``optimizer=catcma``.

    Args:
        genes: The box.
        seed: Decides every proposal.
        sigma0: Initial step size, as a share of the box; of its span where a real gene has no box.
        population_size: Candidates a generation; ``None`` is 4 + floor(3 ln dim).
        start_probability: That a binary gene of the first generation has its start's value, as near as the mean's place in
            [0, 1] allows.

    Raises:
        ConfigError: A choice gene, or too many genes for the free memory.
        ValueError: A step size, population size or probability that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real", "binary")
    takes_several: ClassVar[bool] = False
    needs_box: ClassVar[bool] = False
    takes_races: ClassVar[bool] = True

    def __init__(
        self,
        genes: Sequence[Gene],
        seed: int,
        *,
        sigma0: float,
        population_size: int | None,
        start_probability: float,
    ) -> None:
        self._box = Box(genes, "cmaes_margin", self.kinds)
        if not 0.5 <= start_probability < 1:
            raise ValueError(f"optimizer.start_probability must be at least 0.5 and below 1, got {start_probability}")
        binary = np.asarray([gene.kind == "binary" for gene in genes], dtype=bool)
        size = checked_population(population_size, self._box.dim)
        require_memory(
            self._box.dim,
            size,
            optimizer="cmaes_margin",
            instead="choose fewer real genes, or real ones only and optimizer=sep_cmaes, which takes any number",
        )
        distance = float(norm.ppf(start_probability)) * checked_step(sigma0)
        rounding = np.clip(0.5 + distance * np.where(self._box.start > 0.5, 1, -1), 0, 1)
        self._cma = CMAwM(
            mean=np.where(binary, rounding, self._box.start),
            sigma=sigma0,
            bounds=self._box.bounds,
            steps=binary.astype(np.float64),  # 0 is a real gene
            seed=seed,
            population_size=size,
        )
        self._asked: Genomes = np.empty((0, self._box.dim))

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        pairs = [self._cma.ask() for _ in range(self._cma.population_size)]
        self._asked = np.stack([drawn for _, drawn in pairs])
        return self._box.genomes(np.stack([rounded for rounded, _ in pairs]))

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation; candidates that failed rank last."""
        fitness = single_fitness(evaluations)
        # The points as they were drawn, before rounding: the distribution is theirs.
        self._cma.tell([(point, -value) for point, value in zip(self._asked, fitness, strict=True)])
