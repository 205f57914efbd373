"""A small study of a run that is over, as another run may begin from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.genome import Gene, Genomes
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Portion


def write_study(
    folder: Path,
    stages: Mapping[str, Sequence[Gene]],
    genomes: Genomes,
    fitness: Sequence[float] | Sequence[Sequence[float]],
    violations: Sequence[float] | None = None,
    asked: tuple[int, ...] | None = None,
) -> None:
    """Candidates of the first stage with their fitness, one number or one an objective; minus infinity is one that failed.

    ``asked`` are the positions of the problems that they were asked, ``None`` is all.
    """
    folder.mkdir()
    search = Portion("search", asked)
    recipes = [_recipe(number) for number in range(len(genomes))]
    with opened(Study.create(folder)) as study:
        study.set("stages", json.dumps({name: [asdict(gene) for gene in genes] for name, genes in stages.items()}))
        study.record_generation(next(iter(stages)), 0, search, list(genomes), recipes)
        for recipe, values, violation in zip(recipes, fitness, violations or [0.0] * len(recipes), strict=True):
            study.record_evaluation(recipe, search, _evaluation(np.atleast_1d(values), violation))


def _evaluation(fitness: NDArray[np.float64], violation: float) -> Evaluation:
    names = ("score", "second", "third")[: len(fitness)]
    if fitness[0] == -np.inf:
        return failed(names, len(names), "weights are not finite")
    return Evaluation(names, len(names), fitness[None], ("",), violation=violation)


def _recipe(number: int) -> ParameterSpaceRecipe:
    return ParameterSpaceRecipe(
        base=None,
        sources=(Source("a", ModelReference("./a")), Source("b", ModelReference("./b"))),
        method="linear",
        options={},
        parameters=(ParameterRule(("*",), {"weight": (float(number), 1.0)}),),
        seed=1,
        dtype="float32",
        out_dtype="float32",
    )
