"""How large the models are that wait between the candidates of a search, before any weight is read."""

from math import prod

import torch

from evo_merge.errors import EvoMergeError
from evo_merge.models.adapter_space import AdapterSpace
from evo_merge.models.pool import Pool
from evo_merge.models.residency import weight_bytes
from evo_merge.recipe import ParameterSpaceRecipe, methods_of


def waiting_bytes(pool: Pool, recipe: ParameterSpaceRecipe) -> int:
    """Bytes of the models: of adapters merged by their matrices these and their base, else all models as they are read.

    An adapter whose method needs whole tensors is as large as its base, for so it waits.
    """
    try:
        merged = AdapterSpace(pool, torch.device("cpu"), tuple(methods_of(recipe))).of(recipe)
    except EvoMergeError:
        return weight_bytes(pool)  # an adapter that is not here yet
    if merged is None:
        return weight_bytes(pool)
    base, adapters = merged.family.base, merged.family.adapters
    changes = [change for adapter in adapters for change in adapter.low_rank.values()]
    whole = sum(prod(shape) * base.dtypes[name].itemsize for name, shape in base.shapes.items())
    return whole + sum(change.a.nbytes + change.b.nbytes for change in changes)
