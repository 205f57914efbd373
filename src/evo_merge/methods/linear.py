"""Weighted average of the sources (model soups, Wortsman et al. 2022, https://arxiv.org/abs/2203.05482)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, divided_by_sum, per_model, sum_over_models


@dataclass(frozen=True, slots=True)
class Linear:
    """The sources, averaged by weight; summed in ``float32`` at least, as mergekit does.

    Attributes:
        normalize: Divide by the sum of the weights. A sum of 0 leaves the weighted sum.
    """

    normalize: bool = True

    needs_base: ClassVar[bool] = False
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("weight", low=0.0, high=1.0, start=0.5),)

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, weight: Tensor) -> Tensor:
        """Merge one tensor, or one chunk of it; ``weight`` is ``(n_models,)``."""
        sources = tensors.sources.float()
        total = sum_over_models(per_model(weight, sources) * sources)
        return (divided_by_sum(total, weight) if self.normalize else total).to(tensors.sources.dtype)
