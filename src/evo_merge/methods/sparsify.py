"""Thinning task vectors: by chance (DARE, DELLA) and by magnitude (TIES' trim, breadcrumbs)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from evo_merge.methods.base import Noise
from evo_merge.methods.entrywise import DROPPED, NO_NORM, Thinned
from evo_merge.methods.magnitudes import MagnitudeOrder, TaskVectors, Thresholds, largest, n_largest

# What happens to the entries that are kept: divided by their probability of being kept (the papers), multiplied so that their
# absolute values sum to what they did before (mergekit), or nothing.
RESCALES = ("density", "norm", "none")
TRIMS = ("tensor", "model")  # of what the largest entries are kept, or dropped
_SHORT = 1 << 15


def check_rescale(rescale: str, choices: tuple[str, ...] = RESCALES) -> None:
    """Raise ``ValueError`` where there is no such choice."""
    if rescale not in choices:
        raise ValueError(f"rescale must be one of {', '.join(choices)}, got '{rescale}'")


def check_trim(trim: str) -> None:
    """Raise ``ValueError`` where there is no such choice."""
    if trim not in TRIMS:
        raise ValueError(f"trim must be one of {', '.join(TRIMS)}, got '{trim}'")


def by_chance(density: Tensor, rescale: str) -> list[Thinned]:
    """Keep each entry with probability ``density`` and divide the kept ones by it (DARE, Yu et al. 2024, equation 4).

    What survives 0.3 survives 0.5.

    Args:
        density: ``(n_models,)`` in [0, 1]; 0 drops a source, 1 leaves it as it is.
        rescale: One of ``RESCALES``; ``norm`` is left to ``with_norms``.
    """
    return [
        DROPPED if share <= 0.0 else Thinned(factor=1.0 / share if rescale == "density" else 1.0, share=min(share, 1.0))
        for share in density.tolist()
    ]


def trimmed(vectors: TaskVectors, density: Tensor, order: Thresholds) -> list[Thinned]:
    """Keep the ``max(1, int(density * n))`` largest entries of each source (TIES, Yadav et al. 2023, step 1).

    A density of 0 keeps nothing, one of 1 everything; of entries as large as the smallest kept one all are kept.

    Args:
        vectors: Of the whole tensor.
        density: ``(n_models,)`` in [0, 1].
        order: Of the same tensor, whose n entries are then counted, or of the whole model.
    """
    kept = density.tolist()
    lows = order.thresholds(vectors, kept)
    return [DROPPED if share <= 0.0 else Thinned(low=low) for share, low in zip(kept, lows, strict=True)]


def banded(vectors: TaskVectors, density: Tensor, gamma: Tensor, order: MagnitudeOrder) -> list[Thinned]:
    """Drop the ``int(gamma * n)`` largest entries, keep the next ``int(density * n)`` (Model Breadcrumbs, Davari & Belilovsky).

    Where both together are more than there are, fewer of the largest are dropped.

    Args:
        vectors: Of the whole tensor.
        density: ``(n_models,)`` in [0, 1]; at 1 nothing is dropped.
        gamma: ``(n_models,)`` in [0, 1].
        order: Of the same tensor.
    """
    n = vectors.n_entries
    kept = [n if share >= 1.0 else int(share * n) for share in density.tolist()]
    upper = [min(n, n_kept + int(share * n)) for n_kept, share in zip(kept, gamma.tolist(), strict=True)]
    lows = order.boundaries(vectors, upper, exact=True)
    highs = order.boundaries(vectors, [n_upper - n_kept for n_upper, n_kept in zip(upper, kept, strict=True)], exact=True)
    return [
        DROPPED if n_kept == 0 else Thinned(low=low, high=high) for n_kept, low, high in zip(kept, lows, highs, strict=True)
    ]


def model_band(density: Tensor, gamma: Tensor) -> list[tuple[float, float]]:
    """Of each source the shares of a model's largest entries down to the smallest kept one, and of those that are dropped.

    Where both together are more than there are, fewer of the largest are dropped, as ``banded`` has it.
    """
    dropped = [max(0.0, min(top, 1.0 - share)) for share, top in zip(density.tolist(), gamma.tolist(), strict=True)]
    return [(min(1.0, share + top), top) for share, top in zip(density.tolist(), dropped, strict=True)]


def banded_over_model(vectors: TaskVectors, density: Tensor, gamma: Tensor, order: Thresholds) -> list[Thinned]:
    """As ``banded``, cut where the whole task vector has its boundaries; all entries of one magnitude stay or go together.

    Args:
        vectors: Of a tensor.
        density: ``(n_models,)`` in [0, 1].
        gamma: ``(n_models,)`` in [0, 1]; above 0 at least the very largest is dropped.
        order: Of the whole model.
    """
    kept, dropped = zip(*model_band(density, gamma), strict=True)
    bounds = zip(order.thresholds(vectors, kept), order.thresholds(vectors, dropped), strict=True)
    return [
        DROPPED if share <= 0.0 else Thinned(low=low, high=high)
        for share, (low, high) in zip(density.tolist(), bounds, strict=True)
    ]


def keep_largest(task_vectors: Tensor, density: Tensor, rescale: str, equals: str) -> Tensor:
    """As ``trimmed``, where it matters which of equal entries are kept.

    Args:
        task_vectors: ``(n_models, *shape)``, whole tensors.
        density: ``(n_models,)`` in [0, 1].
        rescale: ``norm`` or ``none``.
        equals: What happens to entries as large as the smallest kept one, see ``largest``.

    Returns:
        ``(n_models, *shape)``.
    """

    def thin(source: int, vector: Tensor, share: float) -> Tensor:
        return torch.where(largest(vector, n_largest(share, vector.numel()), equals), vector, 0.0)

    return _thinned(task_vectors, density, rescale, thin)


def rank_magnitudes(task_vectors: Tensor) -> Tensor:
    """For each entry how many of its row have a smaller magnitude: ``(n_models, *shape)``, in as few bits as it takes.

    Rows run along the second dimension of a source's tensor, as in mergekit; a tensor with one dimension or none is one row.
    """
    rows = task_vectors.unsqueeze(1) if task_vectors.dim() == 1 else task_vectors
    dim = min(2, rows.dim() - 1)
    length = rows.shape[dim]
    order = rows.float().abs().argsort(dim=dim, stable=True)
    dtype = torch.int16 if length <= _SHORT else torch.int32
    places = torch.arange(length, dtype=dtype, device=rows.device).view(-1, *(1 for _ in rows.shape[dim + 1 :]))
    ranks = torch.empty(order.shape, dtype=dtype, device=rows.device).scatter_(dim, order, places.expand_as(order))
    return ranks.view(task_vectors.shape)


def drop_by_rank(task_vectors: Tensor, density: Tensor, epsilon: Tensor, ranks: Tensor, noise: Noise, rescale: str) -> Tensor:
    """Keep larger entries more often (MagPrune, DELLA, Deep et al. 2024, https://arxiv.org/abs/2406.11617, section 3.1).

    Along a row the probability rises evenly with the rank of the magnitude, from ``density - epsilon`` to
    ``density + epsilon``. Where that would leave [0, 1] we take a smaller epsilon, so that the density holds; mergekit refuses.

    Args:
        task_vectors: ``(n_models, *shape)``, whole tensors.
        density: ``(n_models,)`` in [0, 1]; 0 drops a source, 1 leaves it as it is.
        epsilon: ``(n_models,)``, at least 0.
        ranks: From ``rank_magnitudes`` of the same tensors.
        noise: Chance of each source's entries.
        rescale: One of ``RESCALES``; ``density`` divides each entry by its own probability.

    Returns:
        ``(n_models, *shape)``.
    """
    spread = epsilon.tolist()
    shape = task_vectors.shape[1:]
    length = shape[min(1, len(shape) - 1)] if shape else 1

    def thin(source: int, vector: Tensor, share: float) -> Tensor:
        reach = min(spread[source], share, 1.0 - share) if length > 1 else 0.0
        probability = (share - reach) + ranks[source].float() * (2.0 * reach / max(1, length - 1))
        survivors = torch.where(noise(source) < probability, vector, 0.0)
        # What is never kept is divided by anything but 0.
        return survivors / probability.clamp(min=NO_NORM).to(vector) if rescale == "density" else survivors

    return _thinned(task_vectors, density, rescale, thin)


def _thinned(task_vectors: Tensor, density: Tensor, rescale: str, thin: Callable[[int, Tensor, float], Tensor]) -> Tensor:
    """Each source's vector thinned; a density of 1 leaves it as it is, one of 0 nothing of it."""
    kept = []
    for source, (vector, share) in enumerate(zip(task_vectors, density.tolist(), strict=True)):
        if share >= 1.0 or vector.numel() == 0:
            kept.append(vector)
        elif share <= 0.0:
            kept.append(torch.zeros_like(vector))
        else:
            thinned = thin(source, vector, share)
            kept.append(_with_norm_of(vector, thinned) if rescale == "norm" else thinned)
    return torch.stack(kept)


def _with_norm_of(vector: Tensor, thinned: Tensor) -> Tensor:
    """The thinned vector, multiplied so that its absolute values sum to those of the vector; not where a sum is almost 0."""
    before, after = float(vector.abs().sum()), float(thinned.abs().sum())
    if math.inf in (before, after):  # float16 ends at 65504
        before, after = (float(each.abs().sum(dtype=torch.float32)) for each in (vector, thinned))
    return thinned if before < NO_NORM or after < NO_NORM else thinned * (before / after)
