"""Settling signs between task vectors (TIES, Yadav et al. 2023, steps 2 and 3)."""

import torch
from torch import Tensor

from evo_merge.methods.base import per_model, sum_over_models


def agree_in_sign(vectors: Tensor) -> Tensor:
    """Where each source has the sign that the sum of all has; a sum of 0 counts as positive, an entry of 0 never agrees.

    Args:
        vectors: ``(n_models, *shape)``, already weighted: the vote is by weight.

    Returns:
        ``(n_models, *shape)`` ``bool``.
    """
    positive = sum_over_models(vectors) >= 0
    return torch.where(positive, vectors > 0, vectors < 0)


def mean_over_weights(total: Tensor, weight: Tensor, counted: Tensor) -> Tensor:
    """Divide a weighted sum by the weights that went into each entry; entries where these sum to 0 stay as they are.

    Args:
        total: ``(*shape)``.
        weight: ``(n_models,)``.
        counted: ``(n_models, *shape)`` ``bool``, which sources went into an entry.
    """
    share = sum_over_models(torch.where(counted, per_model(weight, total.expand_as(counted)), 0.0))
    return total / torch.where(share == 0, 1.0, share)
