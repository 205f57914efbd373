"""Which entries one task vector alone moves, and which several do (RAM, https://arxiv.org/abs/2601.13572)."""

import torch
from torch import Tensor

from evo_merge.methods.base import Parameter, per_model, sum_over_models

EPSILON = Parameter("epsilon", low=0.0, high=1e-3, start=1e-5, per_source=False, optional=True)


def moved(task_vectors: Tensor, epsilon: Tensor) -> Tensor:
    """Where each source moved the base by more than ``epsilon``: ``(n_models, *shape)`` ``bool``."""
    return task_vectors.abs() > float(epsilon)


def sum_of_moves(task_vectors: Tensor, where: Tensor, factor: Tensor) -> Tensor:
    """What one source alone moved times its factor, what several moved averaged over them.

    Args:
        task_vectors: ``(n_models, *shape)``.
        where: From ``moved``.
        factor: ``(n_models,)``.

    Returns:
        ``(*shape)``.
    """
    count = where.sum(dim=0)
    alone = per_model(factor, task_vectors) * task_vectors
    shared = task_vectors / count.clamp(min=1).to(task_vectors)
    return sum_over_models(torch.where(where, torch.where(count == 1, alone, shared), 0.0))
