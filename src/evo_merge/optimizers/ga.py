"""A genetic algorithm over ``pymoo``: tournaments, a crossover and a mutation for each kind of genes, the best survive."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pymoo.algorithms.soo.nonconvex.ga import GA, comp_by_cv_and_fitness
from pymoo.operators.crossover.sbx import SBX

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import refuse_several
from evo_merge.optimizers.genetic import Genetic, MixedVariables, checked_size


class GeneticAlgorithm:
    """Takes every kind of genes; where a real gene lacks a bound, its span around its start stands for the box.

    Args:
        genes: The box.
        seed: Decides every proposal.
        population_size: Candidates a generation, at least 4.
        start_probability: That a binary or choice gene of generation 0 has its start's value; its others share the rest.

    Raises:
        ValueError: A population size or probability that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real", "binary", "choice")
    takes_several: ClassVar[bool] = False
    needs_box: ClassVar[bool] = True

    def __init__(self, genes: Sequence[Gene], seed: int, *, population_size: int, start_probability: float) -> None:
        size = checked_size(population_size)
        variables = MixedVariables(genes, "ga", start_probability)
        mating = variables.mating(comp_by_cv_and_fitness, SBX(eta=15, prob=0.9))

        def algorithm(first: Any, n_objectives: int) -> GA:
            return GA(pop_size=size, sampling=first, mating=mating, eliminate_duplicates=False, output=None)

        self._search = Genetic(variables, seed, size, algorithm)

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        return self._search.ask()

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation; candidates that failed rank last. Raises ``ValueError`` for several objectives."""
        refuse_several(evaluations)
        self._search.tell(evaluations)
