"""Separable CMA-ES (Ros and Hansen 2008, https://inria.hal.science/inria-00287367) over the ``cmaes`` library.

It learns one variance a gene instead of a full covariance: memory and time grow with the number of genes, not with its square,
and the variances are learnt faster. What it cannot learn is that two genes should move together.
"""

from collections.abc import Sequence
from typing import ClassVar

from cmaes import CMA, SepCMA

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.box import Box
from evo_merge.optimizers.gaussian import Gaussian, checked_population, checked_step


class SepCMAES:
    """Adaptation of a variance a gene. Takes real genes, with bounds or without, by the thousand.

    Args:
        genes: The box.
        seed: Decides every proposal.
        sigma0: Initial step size, as a share of the box; of its span where a gene has no box.
        population_size: Candidates a generation; ``None`` is 4 + floor(3 ln dim).
        mean: Where every gene begins; ``None`` is each gene's own start.

    Raises:
        ConfigError: A gene of another kind than real, or a mean outside a gene's bounds.
        ValueError: A step size or population size that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real",)
    takes_several: ClassVar[bool] = False
    needs_box: ClassVar[bool] = False
    takes_races: ClassVar[bool] = True

    def __init__(
        self, genes: Sequence[Gene], seed: int, *, sigma0: float, population_size: int | None, mean: float | None
    ) -> None:
        box = Box(genes, "sep_cmaes", self.kinds)
        kind = CMA if box.dim == 1 else SepCMA  # the separable one wants two genes; of one, both have one variance
        # Infeasible samples are drawn again up to 100 times, then clipped: of thousands of genes one is always outside.
        library = kind(
            mean=box.mean(mean),
            sigma=checked_step(sigma0),
            bounds=box.bounds,
            n_max_resampling=100,
            seed=seed,
            population_size=checked_population(population_size, box.dim),
        )
        self._search = Gaussian(box, library)

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        return self._search.ask()

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation; candidates that failed rank last."""
        self._search.tell(evaluations)
