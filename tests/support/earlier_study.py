"""A small study of a run that is over, as another run may begin from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.genome import Gene, Genomes
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Portion


def write_study(folder: Path, stages: Mapping[str, Sequence[Gene]], genomes: Genomes, fitness: Sequence[float]) -> None:
    """Candidates of the first stage with their fitness; minus infinity is one that failed."""
    folder.mkdir()
    search = Portion("search")
    recipes = [_recipe(number) for number in range(len(genomes))]
    with opened(Study.create(folder)) as study:
        study.set("stages", json.dumps({name: [asdict(gene) for gene in genes] for name, genes in stages.items()}))
        study.record_generation(next(iter(stages)), 0, search, list(genomes), recipes)
        for recipe, value in zip(recipes, fitness, strict=True):
            study.record_evaluation(recipe, search, _evaluation(value))


def _evaluation(fitness: float) -> Evaluation:
    if fitness == -np.inf:
        return failed(("score",), 1, "weights are not finite")
    return Evaluation(("score",), 1, np.array([[fitness]]), ("",))


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
