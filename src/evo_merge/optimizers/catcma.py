"""CatCMA with margin (Hamano et al. 2025, https://arxiv.org/abs/2504.07884) over the ``cmaes`` library.

A normal distribution of the real genes and a categorical one a binary or choice gene, learnt together; a margin keeps every
value possible. The variant with margin is taken because, unlike plain CatCMA, it also works where one of the two is missing.
"""

import math
import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from cmaes import CatCMAwM
from numpy.typing import NDArray

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import single_fitness
from evo_merge.optimizers.box import Box
from evo_merge.optimizers.gaussian import checked_population, checked_step, require_memory


class CatCMA:
    """Takes every kind of genes: real ones with bounds or without, binary ones, choices.

    Args:
        genes: The box.
        seed: Decides every proposal.
        sigma0: Initial step size of the real genes, as a share of the box; of its span where a gene has no box.
        population_size: Candidates a generation; ``None`` is 4 + floor(3 ln dim).
        start_probability: That a binary or choice gene of generation 0 has its start's value; its others share the rest.

    Raises:
        ConfigError: Too many real genes for the free memory.
        ValueError: A step size, population size or probability that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real", "binary", "choice")
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
        start_probability: float,
    ) -> None:
        if not 0 < start_probability < 1:
            raise ValueError(f"optimizer.start_probability must lie between 0 and 1, got {start_probability}")
        choices = [gene for gene in genes if gene.kind != "real"]
        self._real = np.asarray([gene.kind == "real" for gene in genes], dtype=bool)
        self._box = Box([gene for gene in genes if gene.kind == "real"], "catcma", self.kinds)
        self._low = np.asarray([gene.low for gene in choices], dtype=np.float64)
        size = checked_population(population_size, len(genes))
        require_memory(
            self._box.dim,
            size,
            optimizer="catcma",
            instead="choose fewer real genes, or real ones only and optimizer=sep_cmaes, which takes any number",
        )
        self._cma = CatCMAwM(
            x_space=self._box.bounds if self._box.dim else None,
            c_space=[_n_values(gene) for gene in choices] or None,
            population_size=size,
            mean=self._box.start.copy(),  # the library moves it in place
            sigma=checked_step(sigma0),
            cov=np.eye(self._box.dim),
            cat_param=_start_distribution(choices, start_probability) if choices else None,
            seed=seed,
        )
        self._asked: list[CatCMAwM.Solution] = []

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        self._asked = [self._cma.ask() for _ in range(self._cma.population_size)]
        genomes = np.empty((len(self._asked), len(self._real)))
        if self._box.dim:
            genomes[:, self._real] = self._box.genomes(np.stack([drawn.x for drawn in self._asked]))
        if len(self._low):
            one_hot = np.stack([drawn.c for drawn in self._asked])  # (population_size, n_choices, most values)
            genomes[:, ~self._real] = self._low + one_hot.argmax(axis=2)
        return genomes

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation.

        The library scales its penalty for leaving the box by the spread of the fitness, so a candidate that failed counts as
        hardly worse than the worst that did not: infinity would undo the penalty.
        """
        fitness = np.asarray(single_fitness(evaluations))
        alive = fitness > -math.inf
        worst = float(fitness[alive].min()) if alive.any() else 0.0
        losses = -np.where(alive, fitness, np.nextafter(worst, -math.inf))
        with warnings.catch_warnings():
            # Until a first generation differs in fitness there is no spread, and the penalty is nan for all: the order stays.
            warnings.simplefilter("ignore", RuntimeWarning)
            self._cma.tell([(drawn, float(loss)) for drawn, loss in zip(self._asked, losses, strict=True)])


def _n_values(gene: Gene) -> int:
    return round(gene.high - gene.low) + 1


def _start_distribution(choices: Sequence[Gene], start_probability: float) -> NDArray[np.float64]:
    """``(n_choices, most values)``, padded with 0: the start's value has ``start_probability``."""
    probabilities = np.zeros((len(choices), max(_n_values(gene) for gene in choices)))
    for row, gene in zip(probabilities, choices, strict=True):
        row[: _n_values(gene)] = (1 - start_probability) / (_n_values(gene) - 1)
        row[round(gene.start - gene.low)] = start_probability
    return probabilities
