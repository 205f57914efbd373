"""What an optimizer is: it proposes genomes, and learns from what they scored."""

import math
from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Genomes

_BELOW_MOST = -1e6  # hardly a mean of a metric is as low, so that what misses constraints ranks alike in most generations


class Optimizer(Protocol):
    """Asks and is told, in turn. Fitness is maximised; an adapter to a minimiser flips the sign, there and nowhere else.

    The same seed and the same tells give the same asks, so that a run is resumed by telling again.
    """

    kinds: ClassVar[tuple[str, ...]]  # of genes that it moves: real, binary, choice
    takes_several: ClassVar[bool]  # objectives
    needs_box: ClassVar[bool]  # and searches a gene's span where it has none; the others go wherever it gets better
    # Optionally ``takes_races: ClassVar[bool]``: nothing of a fitness counts but its rank in its own generation, or nothing at
    # all, so that a race may stop candidates. It does not suit what holds generations against each other.
    # Optionally ``generation_size: int | None``: candidates of every generation but the first; None where they grow.

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``, inside the box; exact whole numbers for binary and choice genes."""

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """What the rows of the last ``ask`` scored, in the same order."""


@runtime_checkable
class Expects(Protocol):
    """An optimizer that can refuse what its search will tell, before anything is spent on it."""

    def expect(self, n_objectives: int, *, is_batched: bool) -> None:
        """What the search will tell: so many objectives, and of other problems each generation or always the same.

        Raises:
            ConfigError: The optimizer or its options do not fit it.
        """


def single_fitness(evaluations: Sequence[Evaluation]) -> list[float]:
    """Each candidate's one fitness; minus infinity where it failed or is not a number. For optimizers of one objective.

    One that misses a constraint is below all of these that miss none, and the lower the more it misses (Deb 2000).

    Raises:
        ValueError: There are several objectives.
    """
    refuse_several(evaluations)
    return ranked([float(evaluation.fitness[0]) for evaluation in evaluations], [e.violation for e in evaluations])


def ranked(fitness: Sequence[float], violations: Sequence[float]) -> list[float]:
    """One number each, by which candidates rank among each other; see ``single_fitness``."""
    pairs = list(zip(fitness, violations, strict=True))
    lowest = min((value for value, violation in pairs if violation == 0 and math.isfinite(value)), default=0.0)
    # Weights of several objectives may make a fitness as low as they like. Twice as low is below it, whatever its size.
    below = min(_BELOW_MOST, 2 * lowest)
    return [_rank(value, violation, below) for value, violation in pairs]


def refuse_several(evaluations: Sequence[Evaluation]) -> None:
    """Raise ``ValueError`` where there are several objectives."""
    if any(len(evaluation.fitness) != 1 for evaluation in evaluations):
        raise ValueError("this optimizer takes one objective, got several")


def fitness_matrix(evaluations: Sequence[Evaluation]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each candidate's fitness ``(n, n_objectives)``, minus infinity where it failed, and its violation ``(n,)``."""
    fitness = np.stack([evaluation.fitness for evaluation in evaluations])
    fitness = np.where(np.isnan(fitness).any(axis=1, keepdims=True), -np.inf, fitness)
    return fitness, np.asarray([evaluation.violation for evaluation in evaluations], dtype=np.float64)


def _rank(fitness: float, violation: float, below: float) -> float:
    if math.isnan(fitness):
        return -math.inf  # nan has no rank: it would mix up a sort
    return fitness if violation == 0 or fitness == -math.inf else below - violation
