"""Differential evolution (Storn and Price 1997, https://doi.org/10.1023/A:1008202821328) over ``pymoo``."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pymoo.algorithms.soo.nonconvex.de import DE

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import refuse_several
from evo_merge.optimizers.genetic import Genetic, RealVariables, checked_size

VARIANTS = ("DE/rand/1/bin", "DE/best/1/bin", "DE/rand/1/exp", "DE/best/1/exp")


class DifferentialEvolution:
    """Takes real genes; where one lacks a bound, its span around its start stands for the box.

    Args:
        genes: The box.
        seed: Decides every proposal.
        population_size: Candidates a generation, at least 4.
        variant: Which member is moved, by how many differences, and how the result is crossed with its parent.
        weight: F, the factor of a difference.
        crossover_rate: CR, the share of genes that are taken from the moved member.

    Raises:
        ConfigError: A gene of another kind than real, or an unknown variant.
        ValueError: A population size, weight or rate that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real",)
    takes_several: ClassVar[bool] = False
    needs_box: ClassVar[bool] = True

    def __init__(
        self,
        genes: Sequence[Gene],
        seed: int,
        *,
        population_size: int,
        variant: str,
        weight: float,
        crossover_rate: float,
    ) -> None:
        if variant not in VARIANTS:
            raise ConfigError(f"optimizer.variant must be one of {', '.join(VARIANTS)}, got '{variant}'")
        if not weight > 0:
            raise ValueError(f"optimizer.weight must be above 0, got {weight}")
        if not 0 <= crossover_rate <= 1:
            raise ValueError(f"optimizer.crossover_rate must lie within [0, 1], got {crossover_rate}")
        size = checked_size(population_size)

        def algorithm(first: Any, n_objectives: int) -> DE:
            return DE(pop_size=size, sampling=first, variant=variant, F=weight, CR=crossover_rate, output=None)

        self._search = Genetic(RealVariables(genes, "de"), seed, size, algorithm)

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``: one trial for each member."""
        return self._search.ask()

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Each trial that is better than its parent takes its place. Raises ``ValueError`` for several objectives."""
        refuse_several(evaluations)
        self._search.tell(evaluations)
