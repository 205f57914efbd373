"""Task singular vectors, TSV-Merge (Gargiulo et al. 2025, https://arxiv.org/abs/2412.00081): low rank, without interference."""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, per_model, sum_over_models
from evo_merge.methods.consensus import LAMBDA
from evo_merge.methods.iso_c import WEIGHT

_Factors: TypeAlias = tuple[Tensor, Tensor, Tensor]  # (rows, r), (n_models, r / n_models), (r, columns)


@dataclass(frozen=True, slots=True)
class Tsv:
    """The base plus task matrices of a low rank each, whose singular vectors are made orthogonal to those of the others.

    Of N sources each keeps an N-th of its singular values, the largest; the vectors of all are set side by side and replaced by
    the orthogonal matrix nearest to them (Procrustes). Tensors that are no matrices get the mean of the task vectors. The
    paper's factor alpha is ``lambda``; weights, which multiply a source's singular values, are ours.
    """

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (WEIGHT, LAMBDA)

    def prepare(self, tensors: AlignedTensors) -> _Factors | None:
        """The orthogonal factors and each source's singular values; ``None`` where the tensor is no matrix."""
        vectors = tensors.task_vectors.float()
        if vectors.dim() != 3 or vectors.numel() == 0:
            return None
        n_kept = max(1, min(vectors.shape[1:]) // len(vectors))
        left, values, right = torch.linalg.svd(vectors, full_matrices=False)
        lefts = torch.cat([matrix[:, :n_kept] for matrix in left], dim=1)
        rights = torch.cat([matrix[:n_kept] for matrix in right], dim=0)
        return _nearest_orthogonal(lefts), values[:, :n_kept], _nearest_orthogonal(rights)

    def merge(
        self, tensors: AlignedTensors, state: _Factors | None, noise: Noise, *, weight: Tensor, lambda_: Tensor
    ) -> Tensor:
        """Merge one whole tensor; ``weight`` is ``(n_models,)``, ``lambda_`` ``()``."""
        if state is None:
            vectors = tensors.task_vectors.float()
            total = sum_over_models(per_model(weight, vectors) * vectors) / len(vectors)
        else:
            left, values, right = state
            total = (left * (per_model(weight, values) * values).flatten()) @ right
        assert tensors.base is not None
        return tensors.base + (total * float(lambda_)).to(tensors.base.dtype)


def _nearest_orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with all singular values 1 that is nearest (Schoenemann 1966)."""
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    nearest: Tensor = left @ right
    return nearest
