"""From thinned task vectors to a merge: weigh, vote, sum, normalise, scale (TIES, Yadav et al. 2023, steps 2 and 3).

All methods that add task vectors to a base are a way to thin them (``sparsify.py``) and this.
"""

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Parameter, divided_by_sum, per_model, sum_over_models

LAMBDA = Parameter("lambda", low=0.5, high=1.5, start=1.0, per_source=False, optional=True, searched=False)
ONE = torch.tensor(1.0, dtype=torch.float64)


def add_to_base(
    tensors: AlignedTensors, vectors: Tensor, weight: Tensor, lambda_: Tensor, *, vote: bool, normalize: bool
) -> Tensor:
    """The base plus lambda times the weighted sum of task vectors.

    Args:
        tensors: With the base ``(*shape)``.
        vectors: ``(n_models, *shape)``, task vectors that are thinned, and not yet weighted.
        weight: ``(n_models,)``.
        lambda_: ``()``, what the sum is multiplied by (Ilharco et al. 2023 and Yadav et al. 2023 call it so).
        vote: Sum only what has the sign of the sum of all, by weight.
        normalize: Divide by the sum of the weights, with a vote in each entry of those that went into it. A sum of 0 leaves
            the entry as it is.

    Returns:
        ``(*shape)``.
    """
    weighted = per_model(weight, vectors) * vectors
    if vote:
        agreeing = agree_in_sign(weighted)
        total = sum_over_models(torch.where(agreeing, weighted, 0.0))
        total = mean_over_weights(total, weight, agreeing) if normalize else total
    else:
        total = sum_over_models(weighted)
        total = divided_by_sum(total, weight) if normalize else total
    if float(lambda_) != 1.0:
        total = total * float(lambda_)
    assert tensors.base is not None
    return tensors.base + total


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
