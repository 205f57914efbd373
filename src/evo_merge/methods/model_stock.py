"""Model Stock (Jang et al. 2024, https://arxiv.org/abs/2403.19522): towards the mean, as far as the angles say."""

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, as_vectors, sum_over_models
from evo_merge.methods.consensus import ONE

_NO_DIVISOR = 1e-6


@dataclass(frozen=True, slots=True)
class ModelStock:
    """Between the base and the mean of the sources, by ``N cos / (1 + (N - 1) cos)`` (equation 5 of the paper for N sources).

    ``cos`` is the mean cosine between the task vectors. Like mergekit we do not clamp the share: task vectors that point away
    from each other, which the paper does not treat, give a negative one. ``lambda``, which neither has, multiplies it.

    Attributes:
        filter_wise: An angle for every row of a matrix, instead of one for a tensor.
        norm_floor: The least product of two lengths that a cosine is divided by. mergekit has 1e-6, with which tensors that
            tuning hardly moved, such as norms, stay the base's; 0 is the paper.
    """

    filter_wise: bool = False
    norm_floor: float = 0.0

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    min_sources: ClassVar[int] = 2
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("lambda", low=0.0, high=1.5, start=1.0, per_source=False, optional=True),
    )

    def prepare(self, tensors: AlignedTensors) -> Tensor:
        """The share of the mean: ``(rows, 1)``, with one row where angles are not taken by row."""
        vectors = self._rows(tensors.task_vectors).double()  # (n_models, rows, row)
        cosines = []
        for first, second in combinations(vectors, 2):
            product = (first * second).sum(dim=-1, keepdim=True)
            lengths = (first.norm(dim=-1, keepdim=True) * second.norm(dim=-1, keepdim=True)).clamp(min=self.norm_floor)
            cosines.append(torch.where(lengths > 0, product / lengths, 0.0).clamp(-1.0, 1.0))
        cosine, n = torch.stack(cosines).mean(dim=0), len(vectors)
        divisor = 1.0 + (n - 1) * cosine
        return torch.where(divisor.abs() < _NO_DIVISOR, 0.0, n * cosine / divisor)

    def merge(self, tensors: AlignedTensors, state: Tensor, noise: Noise, *, lambda_: Tensor = ONE) -> Tensor:
        """Merge one whole tensor; ``lambda_`` is ``()``."""
        sources, base = self._rows(tensors.sources), tensors.base
        assert base is not None
        share = (state * lambda_).to(sources)
        mean = sum_over_models(sources) / len(sources)
        return (share * mean + (1.0 - share) * base.reshape(mean.shape)).reshape(base.shape)

    def _rows(self, values: Tensor) -> Tensor:
        by_row = self.filter_wise and values.dim() > 2
        return values.flatten(2) if by_row else as_vectors(values).unsqueeze(1)
