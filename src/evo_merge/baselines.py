"""Who is scored beside the search, so that every run has honest baselines: sources, and merges that nobody tuned."""

from collections.abc import Sequence

import numpy as np

from evo_merge.methods.base import MergeMethod, name_of
from evo_merge.methods.linear import Linear
from evo_merge.methods.task_arithmetic import TaskArithmetic
from evo_merge.methods.ties import Ties
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Recipe, Source
from evo_merge.spaces.base import Ingredients, MergeSpace
from evo_merge.spaces.parameter import ParameterSpace
from evo_merge.study import Entrant


def entrants(space: MergeSpace, ingredients: Ingredients, seed: int) -> list[Entrant]:
    """The sources, the un-optimised merge of the space's method, and un-tuned merges by the plain methods.

    Un-optimised means every gene at its start, the centre of its box, as published; the plain methods are linear, and where
    there is a base also task arithmetic and TIES, with every parameter at 0.5.
    """
    found = [
        Entrant("source", source.name, single_model(source.reference, ingredients.out_dtype, source.name))
        for source in ingredients.sources
    ]
    start = space.decode(np.asarray([gene.start for gene in space.genes], dtype=np.float64))
    found.append(Entrant("unoptimised", f"{start.method}, un-optimised", start))
    plain: Sequence[MergeMethod] = (Linear(), TaskArithmetic(), Ties())
    for method in plain:
        if name_of(method) == start.method or (method.needs_base and ingredients.base is None):
            continue
        box = ParameterSpace(ingredients, seed, method=method, granularity="model", bounds={})
        recipe = box.decode(np.asarray([gene.start for gene in box.genes], dtype=np.float64))
        found.append(Entrant("baseline", f"{name_of(method)}, un-tuned", recipe))
    return found


def single_model(reference: ModelReference, out_dtype: str, name: str = "model") -> Recipe:
    """The recipe of a model as it is: the average of it alone."""
    return ParameterSpaceRecipe(
        base=None,
        sources=(Source(name, reference),),
        method=name_of(Linear()),
        options={"normalize": True},
        parameters=(ParameterRule(("*",), {"weight": (1.0,)}),),
        seed=0,
        dtype="float32",
        out_dtype=out_dtype,
    )
