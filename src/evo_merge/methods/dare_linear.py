"""DARE (Yu et al. 2024, https://arxiv.org/abs/2311.03099) on top of task arithmetic."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, divided_by_sum, sum_over_models
from evo_merge.methods.sparsify import RESCALES, drop_and_rescale, weighted


@dataclass(frozen=True, slots=True)
class DareLinear:
    """The base plus the weighted sum of randomly thinned task vectors.

    Attributes:
        rescale: ``density`` divides survivors by the density, as the paper does; ``none`` leaves them.
        normalize: Divide the sum by the sum of the weights. A sum of 0 leaves it.
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
        """Merge one tensor, or one chunk of it; ``weight`` and ``density`` are ``(n_models,)``."""
        total = sum_over_models(weighted(drop_and_rescale(tensors.task_vectors, density, noise, self.rescale), weight))
        assert tensors.base is not None
        return tensors.base + (divided_by_sum(total, weight) if self.normalize else total)
