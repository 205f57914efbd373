"""Weighted average of the sources (model soups, Wortsman et al. 2022, https://arxiv.org/abs/2203.05482)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import (
    AlignedTensors,
    LinearForm,
    Noise,
    Parameter,
    divided_by_sum,
    per_model,
    shares,
    sum_over_models,
)

_ROUNDING = 1e-12  # shares of 1 sum to 1 but for this


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

    def linear_form(self, *, weight: Tensor) -> LinearForm:
        """The weights, which the base gets as well: each source is the base plus its task vector."""
        parts = shares(weight) if self.normalize else tuple(weight.tolist())
        total = sum(parts)
        return LinearForm(1.0 if abs(total - 1.0) < _ROUNDING else total, parts)
