"""The order of a task vector's magnitudes, found once a run, so that the largest entries of any number are a look-up."""

from dataclasses import dataclass

import torch
from torch import Tensor

EQUALS = ("all", "first", "sorted")  # which entries stay of those as large as the smallest kept one
_SHIFT = 19  # an fp32 magnitude has 31 bits; its upper 12 name one of 4096 bins, 16 a power of two
_N_BINS = 1 << (31 - _SHIFT)


@dataclass(frozen=True, slots=True)
class MagnitudeCounts:
    """How many entries of each source fall into each bin of magnitude, which makes a density's threshold a look-up.

    Attributes:
        at_least: ``(n_models, n_bins + 1)`` ``int64``: entries in this bin or above.
    """

    at_least: Tensor


def count_magnitudes(task_vectors: Tensor) -> MagnitudeCounts:
    """Count the magnitudes of ``(n_models, *shape)`` once a run."""
    rows = []
    for vector in task_vectors:
        counts = torch.bincount(_bins(vector).flatten(), minlength=_N_BINS)
        rows.append(torch.cat([counts.flip(0).cumsum(0).flip(0), counts.new_zeros(1)]))
    return MagnitudeCounts(torch.stack(rows))


def largest(vector: Tensor, n_kept: int, at_least: Tensor, equals: str) -> Tensor:
    """Where the ``n_kept`` largest magnitudes are.

    Args:
        vector: ``(*shape)``, a whole tensor.
        n_kept: From 0 to the number of entries.
        at_least: The source's row of ``MagnitudeCounts.at_least``.
        equals: Which entries stay of those as large as the smallest kept one: ``all``, so that the result does not depend on
            their order and may be a few more; the ``first`` or the ``last`` of them, so that exactly ``n_kept`` stay; or, in
            ``sorted``, those that torch's unstable sort puts in front, which is another choice on processors of another kind.

    Returns:
        ``(*shape)`` ``bool``.
    """
    if n_kept <= 0:
        return torch.zeros_like(vector, dtype=torch.bool)
    if n_kept >= vector.numel():
        return torch.ones_like(vector, dtype=torch.bool)
    magnitudes = vector.float().abs()
    threshold = _threshold(magnitudes, n_kept, at_least)
    if equals == "all":
        return magnitudes >= threshold
    if equals == "sorted":
        kept = magnitudes >= threshold
        return kept if int(kept.sum()) == n_kept else _sorted_first(magnitudes, n_kept)
    kept = magnitudes > threshold
    equal = (magnitudes == threshold).flatten().nonzero().flatten()
    n_equal = n_kept - int(kept.sum())  # at least 1
    kept.view(-1)[equal[:n_equal] if equals == "first" else equal[-n_equal:]] = True
    return kept


def _sorted_first(magnitudes: Tensor, n_kept: int) -> Tensor:
    kept = torch.zeros(magnitudes.numel(), dtype=torch.bool, device=magnitudes.device)
    kept[magnitudes.flatten().argsort(descending=True)[:n_kept]] = True
    return kept.view(magnitudes.shape)


def _bins(vector: Tensor) -> Tensor:
    # The bits of a non-negative float32 order like the number itself.
    return vector.float().abs().view(torch.int32) >> _SHIFT


def _threshold(magnitudes: Tensor, n_kept: int, at_least: Tensor) -> Tensor:
    """The ``n_kept``-th largest magnitude, exactly."""
    # The last bin with at least n_kept entries in it or above holds the threshold; only its entries need a selection.
    place = int((at_least >= n_kept).sum()) - 1
    inside = magnitudes[_bins(magnitudes) == place]
    return torch.topk(inside, n_kept - int(at_least[place + 1])).values[-1]
