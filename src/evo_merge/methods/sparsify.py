"""Thinning task vectors: by chance (DARE) and by magnitude (TIES' trim)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_merge.methods.base import Noise, per_model

RESCALES = ("density", "none")
_SHIFT = 19  # an fp32 magnitude has 31 bits; its upper 12 name one of 4096 bins, 16 a power of two
_N_BINS = 1 << (31 - _SHIFT)


def drop_and_rescale(task_vectors: Tensor, density: Tensor, noise: Noise, rescale: str) -> Tensor:
    """Keep each entry with probability ``density`` and divide the kept ones by it (DARE, Yu et al. 2024, equation 4).

    An entry is kept where its noise is below the density, so what survives 0.3 survives 0.5.

    Args:
        task_vectors: ``(n_models, *shape)``.
        density: ``(n_models,)`` in [0, 1]; 0 drops a source.
        noise: Chance of each source's entries.
        rescale: ``density`` divides survivors by the density, as the paper does; ``none`` leaves them.

    Returns:
        ``(n_models, *shape)``.
    """
    kept = []
    for source, (vector, share) in enumerate(zip(task_vectors, density.tolist(), strict=True)):
        if share >= 1.0:
            kept.append(vector)
            continue
        survivors = torch.where(noise(source) < share, vector, 0.0)
        # Times the reciprocal: a GPU divides by a number so, and the CPU must come to the same bits.
        kept.append(survivors * (1.0 / share) if rescale == "density" and share > 0.0 else survivors)
    return torch.stack(kept)


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


def keep_largest(task_vectors: Tensor, density: Tensor, counts: MagnitudeCounts) -> Tensor:
    """Keep the ``max(1, int(density * n))`` largest entries of each source's tensor (TIES, Yadav et al. 2023, step 1).

    Entries as large as the smallest kept one are all kept, so that the result does not depend on a sort's order. A density of
    0 keeps nothing, one of 1 everything.

    Args:
        task_vectors: ``(n_models, *shape)``, whole tensors.
        density: ``(n_models,)`` in [0, 1].
        counts: From ``count_magnitudes`` of the same tensors.

    Returns:
        ``(n_models, *shape)``.
    """
    kept = []
    for vector, share, at_least in zip(task_vectors, density.tolist(), counts.at_least, strict=True):
        if share >= 1.0 or vector.numel() == 0:
            kept.append(vector)
        elif share <= 0.0:
            kept.append(torch.zeros_like(vector))
        else:
            n_kept = max(1, int(share * vector.numel()))
            kept.append(torch.where(vector.float().abs() >= _threshold(vector, n_kept, at_least), vector, 0.0))
    return torch.stack(kept)


def weighted(task_vectors: Tensor, weight: Tensor) -> Tensor:
    """Each source's task vector times its weight, ``(n_models, *shape)``."""
    return per_model(weight, task_vectors) * task_vectors


def _bins(vector: Tensor) -> Tensor:
    # The bits of a non-negative float32 order like the number itself.
    return vector.float().abs().view(torch.int32) >> _SHIFT


def _threshold(vector: Tensor, n_kept: int, at_least: Tensor) -> Tensor:
    """The magnitude of the ``n_kept``-th largest entry, exactly."""
    # The last bin with at least n_kept entries in it or above holds the threshold; only its entries need a selection.
    place = int((at_least >= n_kept).sum()) - 1
    inside = vector.float().abs()[_bins(vector) == place]
    return torch.topk(inside, n_kept - int(at_least[place + 1])).values[-1]
