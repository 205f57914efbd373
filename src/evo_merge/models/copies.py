"""Whether two models are one."""

import torch
from torch import Tensor

from evo_merge.errors import IncompatibleModelsError
from evo_merge.models.checks.kinds import COPIES
from evo_merge.models.model import Model


def are_copies(first: Model, second: Model, *, by_ends: bool) -> bool:
    """Whether all tensors of two models hold the same numbers.

    Args:
        first: One model.
        second: The other.
        by_ends: Read no weights unless the fingerprints are equal. A fingerprint samples the ends of a file, where two models
            that were tuned in a few layers may agree, so it proves nothing.
    """
    if (by_ends and first.fingerprint != second.fingerprint) or first.shapes != second.shapes:
        return False
    return all(are_equal(first.read(name), second.read(name)) for name in first.shapes)


def copies_text(first: Model, second: Model, reason: str) -> str:
    """What is said of two copies."""
    return (
        f"'{first.name}' ({first.reference}) and '{second.name}' ({second.reference}) are copies of one model ({reason}), "
        "which would count twice in every merge"
    )


def copies(first: Model, second: Model) -> IncompatibleModelsError:
    """What a pass over all weights raises of two copies."""
    return IncompatibleModelsError(f"{copies_text(first, second, 'all tensors are equal')}; {COPIES.mend}")


def are_equal(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors hold the same numbers, in whatever precision each is stored."""
    if first.dtype != second.dtype:
        first, second = first.to(torch.float32), second.to(torch.float32)
    return torch.equal(first, second)
