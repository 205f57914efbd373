"""NSGA-III (Deb and Jain 2014, https://doi.org/10.1109/TEVC.2013.2281535) over ``pymoo``: fronts of three objectives or more.

Where there are many objectives hardly any candidate is worse than another in all of them; what survives is then decided by
directions spread evenly over the objectives (Das and Dennis 1998), each of which keeps those closest to it.
"""

from collections.abc import Sequence
from math import comb
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.selection.tournament import compare
from pymoo.util.ref_dirs import get_reference_directions

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.genetic import Genetic, MixedVariables, checked_size


class NSGAIII:
    """Takes every kind of genes and any number of objectives; a real gene without a bound has its span for a box.

    Args:
        genes: The box.
        seed: Decides every proposal.
        population_size: Candidates a generation, at least 4. There are as many directions as fit in it: 20 for 2 objectives
            and 15 for 3, of 20.
        start_probability: That a binary or choice gene of generation 0 has its start's value; its others share the rest.

    Raises:
        ValueError: A population size or probability that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real", "binary", "choice")
    takes_several: ClassVar[bool] = True
    needs_box: ClassVar[bool] = True

    def __init__(self, genes: Sequence[Gene], seed: int, *, population_size: int, start_probability: float) -> None:
        size = checked_size(population_size)
        variables = MixedVariables(genes, "nsga3", start_probability)
        mating = variables.mating(_less_missed, SBX(eta=30, prob=1.0))

        def algorithm(first: Any, n_objectives: int) -> NSGA3:
            towards = directions(n_objectives, size)
            return NSGA3(towards, size, sampling=first, mating=mating, eliminate_duplicates=False, output=None)

        self._size = size
        self._search = Genetic(variables, seed, size, algorithm)

    def expect(self, n_objectives: int, *, is_batched: bool) -> None:
        """Refuse more objectives than candidates a generation: each needs a direction of its own."""
        _refuse_more(n_objectives, self._size)

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        return self._search.ask()

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation; candidates that failed rank last.

        Raises:
            ConfigError: There are more objectives than candidates; ``expect`` says so before the first generation.
        """
        self._search.tell(evaluations)


def directions(n_objectives: int, most: int) -> NDArray[np.float64]:
    """``(n, n_objectives)``, the finest even spread of at most ``most`` directions that ends at every objective.

    Raises:
        ConfigError: There are more objectives than directions may be.
    """
    _refuse_more(n_objectives, most)
    if n_objectives == 1:
        return np.ones((1, 1))
    parts = 1
    while comb(parts + n_objectives, n_objectives - 1) <= most:
        parts += 1
    return np.asarray(get_reference_directions("das-dennis", n_objectives, n_partitions=parts), dtype=np.float64)


def _refuse_more(n_objectives: int, most: int) -> None:
    if most < n_objectives:
        raise ConfigError(
            f"optimizer.population_size must be at least the number of objectives, which is {n_objectives}, got {most}"
        )


def _less_missed(pop: Any, pairs: NDArray[np.int64], *, random_state: np.random.Generator, **_: Any) -> NDArray[np.int64]:
    """Who of each pair misses the constraints by less, or either of them; pymoo's own (0.6.2) draws ties without a seed."""
    ties = {"method": "smaller_is_better", "return_random_if_equal": True, "random_state": random_state}
    return np.asarray([[compare(a, pop[a].CV[0], b, pop[b].CV[0], **ties)] for a, b in pairs], dtype=np.int64)
