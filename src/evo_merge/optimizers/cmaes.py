"""CMA-ES (Hansen and Ostermeier 2001) over the ``cmaes`` library, with the settings of the published runs.

Parameter space (Akiba et al. 2024, section 4.1) used Optuna's sampler with its defaults: the box scaled to [0, 1], mean at its
centre, sigma 1/6, no restart. The centre is each gene's start. Data-flow space used EvoJAX's: see
``conf/optimizer/cmaes_evojax.yaml``.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.box import Box
from evo_merge.optimizers.gaussian import Gaussian, checked_population, checked_step, require_memory

_MEAN = 1  # tells the chance of the first mean from that of the start-up trial


class CMAES:
    """Covariance matrix adaptation. Takes real genes, with bounds or without.

    Args:
        genes: The box.
        seed: Decides every proposal.
        sigma0: Initial step size, as a share of the box; of its span where a gene has no box.
        population_size: Candidates a generation; ``None`` is 4 + floor(3 ln dim).
        startup_trial: Begin with one uniform random candidate that is never told, as the published runs did.
        mean: Where every gene begins; ``None`` is each gene's own start. It has a default so that the configs of runs recorded
            before it came still fit.
        random_mean: Begin around a point drawn uniformly from the box, as mergekit-evolve does with ``random_init``.
        name: Of the yaml, which errors call it by.

    Raises:
        ConfigError: A gene of another kind than real, a mean outside a gene's bounds, two means, or too many genes for the free
            memory.
        ValueError: A step size or population size that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real",)
    takes_several: ClassVar[bool] = False
    needs_box: ClassVar[bool] = False
    takes_races: ClassVar[bool] = True

    def __init__(
        self,
        genes: Sequence[Gene],
        seed: int,
        *,
        sigma0: float,
        population_size: int | None,
        startup_trial: bool,
        mean: float | None = None,
        random_mean: bool = False,
        name: str = "cmaes",
    ) -> None:
        if random_mean and mean is not None:
            raise ConfigError(f"optimizer.random_mean draws the mean that optimizer.mean={mean} sets; leave one of them out")
        box = Box(genes, name, self.kinds)
        size = checked_population(population_size, box.dim)
        require_memory(box.dim, size, optimizer=name, instead="optimizer=sep_cmaes takes any number of genes")
        # Infeasible samples are drawn again up to 10 n times, then clipped to the bounds.
        drawn = box.uniform(np.random.default_rng([seed, _MEAN]), 1)
        from cmaes import CMA  # it imports scipy, for which a wrong option need not wait

        library = CMA(
            mean=box.points(drawn)[0] if random_mean else box.mean(mean),
            sigma=checked_step(sigma0),
            bounds=box.bounds,
            n_max_resampling=10 * box.dim,
            seed=seed,
            population_size=size,
        )
        self.generation_size = size  # of all but the start-up trial
        self._search = Gaussian(box, library)
        self._startup = box.uniform(np.random.default_rng(seed), 1) if startup_trial else None

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``; once a single random one where a start-up trial is wanted."""
        return self._search.ask() if self._startup is None else self._startup

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation; the start-up trial teaches nothing."""
        if self._startup is None:
            self._search.tell(evaluations)
        self._startup = None
