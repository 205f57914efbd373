"""What an optimizer is: it proposes genomes, and learns from what they scored."""

import math
from collections.abc import Sequence
from typing import ClassVar, Protocol

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Genomes


class Optimizer(Protocol):
    """Asks and is told, in turn. Fitness is maximised; an adapter to a minimiser flips the sign, there and nowhere else.

    The same seed and the same tells give the same asks, so that a run is resumed by telling again.
    """

    kinds: ClassVar[tuple[str, ...]]  # of genes that it moves: real, binary, choice

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``, inside the box; exact whole numbers for binary and choice genes."""

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """What the rows of the last ``ask`` scored, in the same order."""


def single_fitness(evaluations: Sequence[Evaluation]) -> list[float]:
    """Each candidate's one fitness; minus infinity where it failed or is not a number. For optimizers of one objective.

    Raises:
        ValueError: There are several objectives.
    """
    if any(evaluation.n_objectives != 1 for evaluation in evaluations):
        raise ValueError("this optimizer takes one objective, got several")
    fitness = [float(evaluation.fitness[0]) for evaluation in evaluations]
    return [-math.inf if math.isnan(value) else value for value in fitness]  # nan has no rank: it would mix up a sort
