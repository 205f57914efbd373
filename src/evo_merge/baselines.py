"""Who is scored beside the search, so that every run has honest baselines: sources, and merges that nobody tuned."""

from collections.abc import Sequence

import numpy as np

from evo_merge.methods.base import MergeMethod, name_of
from evo_merge.methods.linear import Linear
from evo_merge.methods.task_arithmetic import TaskArithmetic
from evo_merge.methods.ties import Ties
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Recipe, Source
from evo_merge.spaces.base import Ingredients, MergeSpace
from evo_merge.spaces.data_flow import DataFlowSpace
from evo_merge.spaces.parameter import ParameterSpace
from evo_merge.study_records import Entrant
from evo_merge.tokenizer_rule import TokenizerRule


def start_of(space: MergeSpace) -> Recipe:
    """The recipe with every gene at its start."""
    return space.decode(np.asarray([gene.start for gene in space.genes], dtype=np.float64))


def entrants(space: MergeSpace, ingredients: Ingredients, seed: int) -> list[Entrant]:
    """The sources, and merges with settings fixed before the run.

    In parameter space those are the un-optimised merge of the space's method, with every gene at its start, the centre of its
    box, as published; and un-tuned merges by the plain methods: linear, and where there is a base also task arithmetic and
    TIES, with every parameter at 0.5. In data-flow space they are all layers stacked, as published, and linear where the models
    can be mixed. There the start is the first model itself.
    """
    if isinstance(space, DataFlowSpace):
        found = [Entrant("source", name, recipe) for name, recipe in space.singles().items()]
        found.append(Entrant("unoptimised", "layers stacked, un-optimised", space.stacked()))
    else:
        found = [
            Entrant("source", name, single_model(reference, ingredients.out_dtype, name, ingredients.tokenizer))
            for name, reference in ((source.name, source.reference) for source in ingredients.sources)
        ]
        start = start_of(space)
        assert isinstance(start, ParameterSpaceRecipe), "the other spaces are data-flow spaces"
        found.append(Entrant("unoptimised", f"{start.method}, un-optimised", start))
    return found + _plain_merges(ingredients, seed, {getattr(entrant.recipe, "method", "") for entrant in found[-1:]})


def single_model(
    reference: ModelReference, out_dtype: str, name: str = "model", tokenizer: TokenizerRule | None = None
) -> Recipe:
    """The recipe of a model as it is: the average of it alone, with the tokens that the run's mixtures have."""
    sources = (Source(name, reference),)
    return ParameterSpaceRecipe(
        base=None,
        sources=sources,
        method=name_of(Linear()),
        options={"normalize": True},
        parameters=(ParameterRule(("*",), {"weight": (1.0,)}),),
        seed=0,
        dtype="float32",
        out_dtype=out_dtype,
        tokenizer=None if tokenizer is None else tokenizer.among(None, sources),
    )


def _plain_merges(ingredients: Ingredients, seed: int, known: set[str]) -> list[Entrant]:
    if not ingredients.are_mixable:
        return []
    plain: Sequence[MergeMethod] = (Linear(), TaskArithmetic(), Ties())
    found = []
    for method in plain:
        if name_of(method) not in known and (ingredients.base is not None or not method.needs_base):
            box = ParameterSpace(ingredients, seed, method=method, granularity="model", bounds={})
            found.append(Entrant("baseline", f"{name_of(method)}, un-tuned", start_of(box)))
    return found
