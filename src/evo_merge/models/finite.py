"""Whether weights are numbers: looked at on every way in and out, so it must cost no more than reading them."""

import torch
from torch import Tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether there is no NaN and no infinity among the entries; whole numbers always are finite.

    By the smallest and the largest entry, which are NaN where any is. A sum would be of another dtype, for which torch
    converts the whole tensor: 20 times slower, and twice the memory of a tensor in bfloat16.
    """
    return not tensor.is_floating_point() or bool(torch.isfinite(greatest(tensor)))


def greatest(tensor: Tensor) -> Tensor:
    """The greatest magnitude among the entries, ``()``, 0 of none: finite only where all of them are."""
    return torch.stack(torch.aminmax(tensor)).abs().max() if tensor.numel() else tensor.new_zeros(())
