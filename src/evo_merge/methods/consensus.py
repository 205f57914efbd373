"""From thinned task vectors to a merge: weigh, vote, sum, normalise, scale (TIES, Yadav et al. 2023, steps 2 and 3).

All methods that add task vectors to a base are a way to thin them (``sparsify.py``) and this.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from evo_merge.methods.base import NO_SHARE, AlignedTensors, Parameter, sum_over_models
from evo_merge.methods.bitmasks import either, is_negative, is_not_zero, is_positive, is_zero, where

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
    weights: list[Tensor | float] = list(weight.to(vectors))
    weighted = [weight * vector for weight, vector in zip(weights, vectors, strict=True)]
    total = sum_agreeing(weighted, weights, vote=vote, mean=normalize) * (1.0 / divisor(weight, vote=vote, normalize=normalize))
    assert tensors.base is not None
    return tensors.base + total * float(lambda_)


def divisor(weight: Tensor, *, vote: bool, normalize: bool) -> float:
    """What a weighted sum is divided by to normalise it: with a vote nothing, as that divides each entry by its own weights."""
    share = 1.0 if vote or not normalize else float(weight.sum())
    return 1.0 if abs(share) < NO_SHARE else share


def sum_agreeing(weighted: Sequence[Tensor], weight: Sequence[Tensor | float], *, vote: bool, mean: bool) -> Tensor:
    """Sum weighted vectors, with a vote only what has the sign that the sum of all has.

    Args:
        weighted: Of each model ``(*shape)``.
        weight: Of each model a number, or one ``()``.
        vote: A sum of 0 counts as positive, an entry of 0 never agrees.
        mean: After a vote, divide each entry by the weights that went into it; where these sum to 0 it stays as it is.

    Returns:
        ``(*shape)``.
    """
    total = sum_over_models(weighted)
    if not vote:
        return total
    positive = is_positive(total)
    if not mean:
        above = sum_over_models([vector.clamp(min=0.0) for vector in weighted])
        below = sum_over_models([vector.clamp(max=0.0) for vector in weighted])
        return either(positive, above, below)
    # Source after source, so that no more is in the processor's cache than one needs.
    dtype, wide = total.dtype, torch.promote_types(total.dtype, torch.float32)
    agreed, share = torch.zeros_like(total, dtype=wide), torch.zeros_like(total, dtype=wide)
    for vector, each in zip(weighted, weight, strict=True):
        agreeing = where(positive ^ is_negative(vector), vector)
        agreed += agreeing
        share += where(is_not_zero(agreeing), torch.as_tensor(each, dtype=vector.dtype, device=vector.device))
    share = share.to(dtype)
    return agreed.to(dtype) / (share + where(is_zero(share), torch.ones((), dtype=dtype, device=share.device)))


def agree_in_sign(vectors: Tensor) -> Tensor:
    """Where each source has the sign that the sum of all has; a sum of 0 counts as positive, an entry of 0 never agrees.

    Args:
        vectors: ``(n_models, *shape)``, already weighted: the vote is by weight.

    Returns:
        ``(n_models, *shape)`` ``bool``.
    """
    positive = sum_over_models(vectors) >= 0
    return torch.where(positive, vectors > 0, vectors < 0)
