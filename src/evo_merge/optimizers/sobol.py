"""Scrambled Sobol points (Owen 1998) over ``scipy``: random search that leaves no gaps. It learns nothing."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from scipy.stats.qmc import Sobol

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.box import Box


class SobolSearch:
    """One low-discrepancy sequence over the box. Takes every kind of genes.

    It fills the box evenly at any number of candidates, best where that is a power of two. Each seed scrambles it anew.

    Args:
        genes: The box; where a real gene lacks a bound, its span around its start stands for it.
        seed: Decides every proposal.
        population_size: Candidates a generation, which only groups them for display and budget.

    Raises:
        ConfigError: More genes than the sequence has dimensions.
        ValueError: A population size below 1.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real", "binary", "choice")
    takes_several: ClassVar[bool] = True
    needs_box: ClassVar[bool] = True
    takes_races: ClassVar[bool] = True

    def __init__(self, genes: Sequence[Gene], seed: int, *, population_size: int) -> None:
        if population_size < 1:
            raise ValueError(f"optimizer.population_size must be at least 1, got {population_size}")
        if len(genes) > Sobol.MAXDIM:
            raise ConfigError(f"optimizer=sobol takes at most {Sobol.MAXDIM} genes, got {len(genes)}; choose optimizer=random")
        self._box = Box(genes, "sobol", self.kinds)
        self._size = population_size
        self._sequence = Sobol(len(genes), rng=np.random.default_rng(seed))

    def ask(self) -> Genomes:
        """The next ``(population_size, dim)`` of the sequence."""
        # One at a time: asked for a number that is no power of two, the library warns that those alone are not balanced.
        return self._box.spread(np.concatenate([self._sequence.random(1) for _ in range(self._size)]))

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Nothing to learn."""
