"""Uniform random search: the honest comparison at equal budget."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.box import Box


class RandomSearch:
    """Candidates drawn uniformly from the box; it learns nothing. Takes every kind of genes.

    Args:
        genes: The box; where a real gene lacks a bound, its span around its start stands for it.
        seed: Decides every proposal.
        population_size: Candidates a generation, which only groups them for display and budget.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real", "binary", "choice")
    takes_several: ClassVar[bool] = True
    needs_box: ClassVar[bool] = True
    takes_races: ClassVar[bool] = True

    def __init__(self, genes: Sequence[Gene], seed: int, *, population_size: int) -> None:
        if population_size < 1:
            raise ValueError(f"optimizer.population_size must be at least 1, got {population_size}")
        self._box = Box(genes, "random", self.kinds)
        self._size = population_size
        self._rng = np.random.default_rng(seed)

    def ask(self) -> Genomes:
        """The next ``(population_size, dim)``."""
        return self._box.uniform(self._rng, self._size)

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Nothing to learn."""
