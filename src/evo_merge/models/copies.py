"""Whether a pool has one model twice."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from evo_merge.errors import ConfigError
from evo_merge.models.pool import Model, StoredModel


def refuse_copies(sources: Sequence[Model]) -> None:
    """Refuse two sources that are one model under two names; no weight is read where there is no suspicion.

    Suspicion is one reference, or one fingerprint. A fingerprint samples the ends of a file, where two models that were tuned
    in a few layers may agree, so it is confirmed on the tensors.

    Raises:
        ConfigError: There are two, and they are named.
    """
    for first, second in combinations(sources, 2):
        if first.reference == second.reference:
            raise copies(first, second, "the same reference")
        are_here = _can_be_read(first) and _can_be_read(second)
        if are_here and first.fingerprint == second.fingerprint and _have_equal_weights(first, second):
            raise copies(first, second, "all tensors are equal")


def copies(first: Model, second: Model, reason: str) -> ConfigError:
    """What is said of two copies."""
    return ConfigError(
        f"models.sources: '{first.name}' ({first.reference}) and '{second.name}' ({second.reference}) are copies of one model "
        f"({reason}), which would count twice in every merge; drop one, or leave one out of models.use"
    )


def _can_be_read(model: Model) -> bool:
    """Whether its weights are on this machine; for a plan they may be left on the hub."""
    return not (isinstance(model, StoredModel) and model.files.hub is not None)


def are_equal(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors hold the same numbers, in whatever precision each is stored."""
    if first.dtype != second.dtype:
        first, second = first.to(torch.float32), second.to(torch.float32)
    return torch.equal(first, second)


def _have_equal_weights(first: Model, second: Model) -> bool:
    if first.shapes != second.shapes:
        return False
    return all(are_equal(first.read(name), second.read(name)) for name in first.shapes)
