"""Iso-C (Marczak et al. 2025, https://arxiv.org/abs/2502.04959): the sum of the task vectors, with a flat spectrum."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, per_model, sum_over_models
from evo_merge.methods.consensus import LAMBDA

WEIGHT = Parameter("weight", low=0.0, high=1.5, start=1.0, optional=True)  # papers that have none sum as if all were 1


@dataclass(frozen=True, slots=True)
class IsoC:
    """The base plus the sum of the task matrices, all of whose singular values are replaced by their mean.

    Tensors that are no matrices get the mean of the task vectors, as in the authors' code. The paper's factor alpha is
    ``lambda``; weights are ours. Computed in ``float32`` at least.
    """

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (WEIGHT, LAMBDA)

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, weight: Tensor, lambda_: Tensor) -> Tensor:
        """Merge one whole tensor; ``weight`` is ``(n_models,)``, ``lambda_`` ``()``."""
        vectors = tensors.task_vectors.float()
        total = sum_over_models(per_model(weight, vectors) * vectors)
        if total.dim() != 2:
            total = total / len(vectors)
        elif total.numel():
            left, values, right = torch.linalg.svd(total, full_matrices=False)
            total = values.mean() * (left @ right)
        assert tensors.base is not None
        return tensors.base + (total * float(lambda_)).to(tensors.base.dtype)
