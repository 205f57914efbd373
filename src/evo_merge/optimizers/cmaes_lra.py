"""CMA-ES with learning-rate adaptation (Nomura et al. 2023, https://arxiv.org/abs/2304.03473) over the ``cmaes`` library.

Where the fitness is noisy or has many optima, what one generation says about the distribution is mostly chance: the mean and
the covariance then move by a smaller step, so that the ratio of signal to noise of their moves stays what it should be. The
population stays small, where plain CMA-ES would need a larger one.
"""

from collections.abc import Sequence
from typing import ClassVar

from cmaes import CMA

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.box import Box
from evo_merge.optimizers.gaussian import Gaussian, checked_population, checked_step, require_memory


class CMAESLearningRate:
    """CMA-ES for noisy fitness. Takes real genes, with bounds or without.

    Args:
        genes: The box.
        seed: Decides every proposal.
        sigma0: Initial step size, as a share of the box; of its span where a gene has no box.
        population_size: Candidates a generation; ``None`` is 4 + floor(3 ln dim).
        mean: Where every gene begins; ``None`` is each gene's own start.

    Raises:
        ConfigError: A gene of another kind than real, a mean outside a gene's bounds, or too many genes for the free memory.
        ValueError: A step size or population size that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real",)
    takes_several: ClassVar[bool] = False
    needs_box: ClassVar[bool] = False
    takes_races: ClassVar[bool] = True

    def __init__(
        self, genes: Sequence[Gene], seed: int, *, sigma0: float, population_size: int | None, mean: float | None
    ) -> None:
        box = Box(genes, "cmaes_lra", self.kinds)
        size = checked_population(population_size, box.dim)
        require_memory(box.dim, size, optimizer="cmaes_lra", instead="optimizer=sep_cmaes takes any number of genes")
        library = CMA(
            mean=box.mean(mean),
            sigma=checked_step(sigma0),
            bounds=box.bounds,
            n_max_resampling=10 * box.dim,
            seed=seed,
            population_size=size,
            lr_adapt=True,
        )
        self._search = Gaussian(box, library)

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        return self._search.ask()

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation; candidates that failed rank last."""
        self._search.tell(evaluations)
