"""How much memory a method takes for what it finds once and keeps (``prepare``), before any weight is read."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, MergeMethod, method_from_recipe
from evo_merge.models.pool import Pool
from evo_merge.recipe import ParameterSpaceRecipe, methods_of

_PROBE = 16  # rows and columns of the matrix of which it is tried out what a method keeps


def prepared_bytes(pool: Pool, recipe: ParameterSpaceRecipe) -> int:
    """About how many bytes a method keeps of its own for all matrices (``prepare``), as ``knots`` and ``wudi`` do.

    In proportion to what it keeps of a small matrix. What methods look up by magnitude is not counted: it is kept as far as
    there is room.
    """
    method = method_from_recipe(recipe.method, recipe.options, tuple(methods_of(recipe)))
    entries = sum(prod(shape) for shape in pool.leader.shapes.values() if len(shape) == 2)
    return round(_kept_an_entry(method, len(recipe.sources)) * entries)


def _kept_an_entry(method: MergeMethod, n_sources: int) -> float:
    values = torch.randn(n_sources + 1, _PROBE, _PROBE, generator=torch.Generator().manual_seed(0))
    base = values[-1] if method.needs_base else None
    state = method.prepare(AlignedTensors(values[:-1], base))
    n_bytes = sum(tensor.nbytes for tensor in _tensors(state))
    return n_bytes / _PROBE**2 if n_bytes > _PROBE * values.itemsize else 0.0  # a number a row or a source is nothing


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, tuple | list):
        for each in state:
            yield from _tensors(each)
    elif is_dataclass(state):
        for field in fields(state):
            yield from _tensors(getattr(state, field.name))
