"""NSGA-II (Deb et al. 2002, https://doi.org/10.1109/4235.996017) over ``pymoo``: a Pareto front of two or three objectives.

Candidates rank by how many fronts lie before theirs, and within a front those in its empty stretches come first.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
from pymoo.operators.crossover.sbx import SBX

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.genetic import Genetic, MixedVariables, checked_size


class NSGAII:
    """Takes every kind of genes and any number of objectives; a real gene without a bound has its span for a box.

    Args:
        genes: The box.
        seed: Decides every proposal.
        population_size: Candidates a generation, at least 4, and the most that the front can have.
        start_probability: That a binary or choice gene of generation 0 has its start's value; its others share the rest.

    Raises:
        ValueError: A population size or probability that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real", "binary", "choice")
    takes_several: ClassVar[bool] = True
    needs_box: ClassVar[bool] = True

    def __init__(self, genes: Sequence[Gene], seed: int, *, population_size: int, start_probability: float) -> None:
        size = checked_size(population_size)
        variables = MixedVariables(genes, "nsga2", start_probability)
        mating = variables.mating(binary_tournament, SBX(eta=15, prob=0.9))

        def algorithm(first: Any, n_objectives: int) -> NSGA2:
            return NSGA2(pop_size=size, sampling=first, mating=mating, eliminate_duplicates=False, output=None)

        self._search = Genetic(variables, seed, size, algorithm)

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        return self._search.ask()

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation; candidates that failed rank last."""
        self._search.tell(evaluations)
