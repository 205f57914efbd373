"""What an optimizer is: it proposes genomes, and learns from what they scored."""

import math
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Genomes

_BELOW_ALL = 1e6  # no mean of a metric is as low


class Optimizer(Protocol):
    """Asks and is told, in turn. Fitness is maximised; an adapter to a minimiser flips the sign, there and nowhere else.

    The same seed and the same tells give the same asks, so that a run is resumed by telling again.
    """

    kinds: ClassVar[tuple[str, ...]]  # of genes that it moves: real, binary, choice
    takes_several: ClassVar[bool]  # objectives

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``, inside the box; exact whole numbers for binary and choice genes."""

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """What the rows of the last ``ask`` scored, in the same order."""


def single_fitness(evaluations: Sequence[Evaluation]) -> list[float]:
    """Each candidate's one fitness; minus infinity where it failed or is not a number. For optimizers of one objective.

    One that misses a constraint is below every one that misses none, and the lower the more it misses (Deb 2000).

    Raises:
        ValueError: There are several objectives.
    """
    refuse_several(evaluations)
    return [_ranked(float(evaluation.fitness[0]), evaluation.violation) for evaluation in evaluations]


def refuse_several(evaluations: Sequence[Evaluation]) -> None:
    """Raise ``ValueError`` where there are several objectives."""
    if any(len(evaluation.fitness) != 1 for evaluation in evaluations):
        raise ValueError("this optimizer takes one objective, got several")


def fitness_matrix(evaluations: Sequence[Evaluation]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each candidate's fitness ``(n, n_objectives)``, minus infinity where it failed, and its violation ``(n,)``."""
    fitness = np.stack([evaluation.fitness for evaluation in evaluations])
    fitness = np.where(np.isnan(fitness).any(axis=1, keepdims=True), -np.inf, fitness)
    return fitness, np.asarray([evaluation.violation for evaluation in evaluations], dtype=np.float64)


def _ranked(fitness: float, violation: float) -> float:
    if math.isnan(fitness):
        return -math.inf  # nan has no rank: it would mix up a sort
    return fitness if violation == 0 or fitness == -math.inf else -_BELOW_ALL - violation
