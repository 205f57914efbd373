"""Warm-started CMA-ES (Nomura et al. 2021, https://arxiv.org/abs/2012.06932) over ``cmaes``: where an earlier run got to.

The best share of the earlier run's candidates gives the first mean and covariance. It pays where the two tasks are alike: the
same sources with more problems, another language, another size of the same models.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from cmaes import CMA, get_warm_start_mgd

from evo_merge.errors import ConfigError, StudyError
from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import ranked
from evo_merge.optimizers.box import Box
from evo_merge.optimizers.gaussian import Gaussian, checked_population, require_memory
from evo_merge.study import Study, opened


class CMAESWarm:
    """CMA-ES with the first distribution of an earlier study. Takes real genes, with bounds or without.

    The earlier run's folder is read again when a run is resumed, and must hold what it held: the run's own study checks that
    the same candidates are proposed. A relative folder is found from where the command is started: name it in full where
    the run may be resumed from elsewhere.

    Args:
        genes: The box; the earlier run must have had genes of the same names.
        seed: Decides every proposal.
        study: Folder of the earlier run.
        gamma: Share of its candidates, the best ones, that the distribution is made of.
        alpha: Spread that is put around each of them, in shares of the box: the smaller, the more the earlier run is believed.
        population_size: Candidates a generation; ``None`` is 4 + floor(3 ln dim).

    Raises:
        ConfigError: A gene of another kind than real, too many genes for the free memory, or a study that does not fit: without
            a run, of other genes, of several objectives, of other problems each generation, with too few scored candidates.
        ValueError: A gamma, alpha or population size that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real",)
    takes_several: ClassVar[bool] = False
    needs_box: ClassVar[bool] = False
    takes_races: ClassVar[bool] = True

    def __init__(
        self, genes: Sequence[Gene], seed: int, *, study: str, gamma: float, alpha: float, population_size: int | None
    ) -> None:
        if not 0 < gamma <= 1:
            raise ValueError(f"optimizer.gamma must be above 0 and at most 1, got {gamma}")
        if not alpha > 0:
            raise ValueError(f"optimizer.alpha must be above 0, got {alpha}")
        box = Box(genes, "cmaes_warm", self.kinds)
        size = checked_population(population_size, box.dim)
        require_memory(box.dim, size, optimizer="cmaes_warm", instead="optimizer=sep_cmaes takes any number of genes")
        genomes, fitness = _scored(study, [gene.name for gene in genes])
        if math.floor(len(fitness) * gamma) < 1:
            raise ConfigError(
                f"optimizer.study: '{study}' has {len(fitness)} scored candidates, and the best {gamma:g} of them is not one; "
                f"name a run with at least {math.ceil(1 / gamma)}, or raise optimizer.gamma"
            )
        points = np.clip(box.points(genomes), *box.bounds.T)
        losses = [(point, -value) for point, value in zip(points, fitness, strict=True)]
        with np.errstate(all="ignore"):  # what comes out is looked at
            mean, sigma, cov = get_warm_start_mgd(losses, gamma, alpha)
        if not (sigma > 0 and np.isfinite(cov).all()):
            raise ConfigError(
                f"optimizer=cmaes_warm: the determinant of the first covariance of {box.dim} genes is too small for a double; "
                "choose a larger optimizer.alpha, fewer genes, or optimizer=cmaes"
            )
        library = CMA(
            mean=np.clip(mean, *box.bounds.T),  # a mean of points in the box rounds out of it at most
            sigma=sigma,
            cov=cov,
            bounds=box.bounds,
            n_max_resampling=10 * box.dim,
            seed=seed,
            population_size=size,
        )
        self._search = Gaussian(box, library)

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        return self._search.ask()

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation; candidates that failed rank last."""
        self._search.tell(evaluations)


def _scored(folder: str, names: Sequence[str]) -> tuple[Genomes, list[float]]:
    """The genomes ``(n, dim)`` of the candidates that could be scored, in the stage that has such genes, and how they rank."""
    try:
        study = Study.read(Path(folder).expanduser())
    except StudyError as error:
        raise ConfigError(f"optimizer.study: {error}") from error
    with opened(study):
        known = {stage: [gene["name"] for gene in genes] for stage, genes in json.loads(study.get("stages") or "{}").items()}
        stage = next((stage for stage, of_stage in known.items() if of_stage == list(names)), None)
        if stage is None:
            raise ConfigError(f"optimizer.study: '{folder}' {_difference(next(iter(known.values()), []), names)}")
        found, fitness, violations = [], [], []
        for candidate in study.candidates():
            if candidate.stage != stage:
                continue
            if ":" in candidate.portion:  # the key of a part of a split
                raise ConfigError(
                    f"optimizer.study: '{folder}' asked other problems each generation, so that its candidates do not compare; "
                    "name a run with evaluation.batch=null"
                )
            evaluation = study.evaluation(candidate.recipe, candidate.portion)
            if evaluation is None:
                continue
            if len(evaluation.fitness) != 1:
                raise ConfigError(f"optimizer.study: '{folder}' has several objectives; name a run that had one")
            if math.isfinite(value := float(evaluation.fitness[0])):
                found.append(candidate.genome)
                fitness.append(value)
                violations.append(evaluation.violation)
    return np.stack(found) if found else np.empty((0, len(names))), ranked(fitness, violations)


def _difference(theirs: Sequence[str], ours: Sequence[str]) -> str:
    rest = "name a run with the same sources, method and granularity"
    if len(theirs) != len(ours):
        return f"searched {len(theirs)} genes, and this run has {len(ours)}; {rest}"
    place = next(index for index, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
    return f"searched a gene '{theirs[place]}' where this run has '{ours[place]}'; {rest}"
