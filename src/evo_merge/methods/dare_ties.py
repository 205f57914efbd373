"""DARE (Yu et al. 2024, https://arxiv.org/abs/2311.03099), then TIES' vote (Yadav et al. 2023, https://arxiv.org/abs/2306.01708)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, sum_over_models
from evo_merge.methods.consensus import agree_in_sign, mean_over_weights
from evo_merge.methods.sparsify import RESCALES, drop_and_rescale, weighted


@dataclass(frozen=True, slots=True)
class DareTies:
    """Randomly thinned task vectors, summed where they agree in sign: the method of the published evolved models.

    Attributes:
        rescale: ``density`` divides survivors by the density, as the paper does; ``none`` leaves them.
        normalize: Divide by the weights of the agreeing entries, instead of summing them.
    """

    rescale: str = "density"
    normalize: bool = False

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("density", low=0.0, high=1.0, start=0.5),
    )

    def __post_init__(self) -> None:
        if self.rescale not in RESCALES:
            raise ValueError(f"rescale must be one of {', '.join(RESCALES)}, got '{self.rescale}'")

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, weight: Tensor, density: Tensor) -> Tensor:
        """Merge one tensor, or one chunk of it; ``weight`` and ``density`` are ``(n_models,)``; density 0 drops a source."""
        vectors = weighted(drop_and_rescale(tensors.task_vectors, density, noise, self.rescale), weight)
        agreeing = agree_in_sign(vectors)
        total = sum_over_models(torch.where(agreeing, vectors, 0.0))
        assert tensors.base is not None
        return tensors.base + (mean_over_weights(total, weight, agreeing) if self.normalize else total)
