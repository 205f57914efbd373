"""SCE of FuseChat (Wan et al. 2024, https://arxiv.org/abs/2408.07990): select, calculate, erase."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, as_vectors, per_model, sum_over_models
from evo_merge.methods.consensus import ONE, agree_in_sign

_NO_SHARE = 1e-6


@dataclass(frozen=True, slots=True)
class Sce:
    """Entries on which the sources differ most, averaged where they agree in sign, by the mean square of each task vector.

    ``select_topk`` is the share of entries that is kept, of those whose variance is not 0.

    Attributes:
        energy_floor: Sum of the mean squares below which all sources weigh alike. mergekit has 1e-6, which small fine-tunings
            do not reach; 0 is the paper.
    """

    energy_floor: float = 0.0

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("select_topk", low=0.05, high=1.0, start=1.0, per_source=False, optional=True),
    )

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, select_topk: Tensor = ONE) -> Tensor:
        """Merge one whole tensor; ``select_topk`` is ``()``, from 0 to 1."""
        vectors = _most_varied(tensors.task_vectors, float(select_topk))
        agreeing = agree_in_sign(vectors)
        shares = per_model(self._shares(vectors), vectors)
        total = sum_over_models(torch.where(agreeing, shares * vectors, 0.0))
        divisor = sum_over_models(torch.where(agreeing, shares.expand_as(vectors), 0.0))
        assert tensors.base is not None
        return tensors.base + total / divisor.clamp(min=_NO_SHARE)

    def _shares(self, vectors: Tensor) -> Tensor:
        energy = as_vectors(vectors.float().square()).mean(dim=1) if vectors[0].numel() else vectors.new_zeros(len(vectors))
        total = energy.sum()
        return torch.full_like(energy, 1.0 / len(vectors)) if total <= self.energy_floor else energy / total


def _most_varied(vectors: Tensor, share: float) -> Tensor:
    """The entries with the largest variance over the models; 0 elsewhere."""
    if share >= 1.0 or vectors[0].numel() == 0:
        return vectors
    variance = vectors.float().var(dim=0, unbiased=False)
    n_kept = int(int(variance.count_nonzero()) * share)
    kept = torch.zeros(variance.numel(), dtype=torch.bool, device=vectors.device)
    kept[variance.flatten().topk(n_kept).indices] = True
    return torch.where(kept.reshape(variance.shape), vectors, 0.0)
