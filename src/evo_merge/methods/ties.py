"""TIES-Merging (Yadav et al. 2023, https://arxiv.org/abs/2306.01708): trim, elect signs, merge what agrees."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, sum_over_models
from evo_merge.methods.consensus import agree_in_sign, mean_over_weights
from evo_merge.methods.sparsify import MagnitudeCounts, count_magnitudes, keep_largest, weighted


@dataclass(frozen=True, slots=True)
class Ties:
    """Task vectors trimmed to their largest entries, averaged by weight where they agree in sign.

    We trim each tensor by itself and weight both the vote and the mean, as the peers do; the paper trims the whole task vector
    and takes the plain mean.

    Attributes:
        normalize: Divide by the weights of the agreeing entries: the scale of the weights then has no effect.
    """

    normalize: bool = True

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("density", low=0.0, high=1.0, start=0.5),
    )

    def prepare(self, tensors: AlignedTensors) -> MagnitudeCounts:
        """Counts of the task vectors' magnitudes, which make the trim's threshold a look-up."""
        return count_magnitudes(tensors.task_vectors)

    def merge(
        self, tensors: AlignedTensors, state: MagnitudeCounts, noise: Noise, *, weight: Tensor, density: Tensor
    ) -> Tensor:
        """Merge one whole tensor; ``weight`` and ``density`` are ``(n_models,)``; a density of 0 drops the source."""
        vectors = weighted(keep_largest(tensors.task_vectors, density, state), weight)
        agreeing = agree_in_sign(vectors)
        total = sum_over_models(torch.where(agreeing, vectors, 0.0))
        assert tensors.base is not None
        return tensors.base + (mean_over_weights(total, weight, agreeing) if self.normalize else total)
