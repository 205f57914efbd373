"""Spherical interpolation weighted like an average: of tensors or of their rows, of models or of task vectors (mergekit's)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter

_NO_SHARE = 1e-6  # weights that sum to less go halfway
_NO_LENGTH = 1e-7
_NO_ANGLE = 1e-16  # of the squared sine, below which the arc is a straight line


@dataclass(frozen=True, slots=True)
class Nuslerp:
    """From the first source to the second along the arc between them, by the second's share of the two weights.

    Unlike ``slerp`` it follows the arc of small angles too. Vectors that point the same way, or against each other, are mixed
    along the straight line. mergekit computes in the dtype of the arithmetic, we in ``float32`` at least.

    Attributes:
        task_vectors: Interpolate what the sources add to a base, instead of the sources themselves.
        flatten: Each tensor is one vector; else each of its rows or columns.
        row_wise: Of a matrix as stored, ``(out, in)``, interpolate what runs along the first dimension instead of the last, as
            mergekit calls it. It goes with ``flatten: false``.
    """

    task_vectors: bool = False
    flatten: bool = True
    row_wise: bool = False

    n_sources: ClassVar[int | None] = 2
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("weight", low=0.0, high=1.0, start=0.5),)

    @property
    def needs_base(self) -> bool:
        """Where task vectors are interpolated."""
        return self.task_vectors

    def prepare(self, tensors: AlignedTensors) -> Tensor:
        """The cosine between the two, of each pair of vectors: ``(*shape)`` with a size of 1 where a vector runs."""
        first, second = self._vectors(tensors).double()
        lengths = [vector.norm(dim=self._dim(vector), keepdim=True).clamp(min=_NO_LENGTH) for vector in (first, second)]
        product = (first * second).sum(dim=self._dim(first), keepdim=True)
        cosine: Tensor = (product / (lengths[0] * lengths[1])).clamp(-1.0, 1.0)
        return cosine

    def merge(self, tensors: AlignedTensors, state: Tensor, noise: Noise, *, weight: Tensor) -> Tensor:
        """Merge one whole tensor; ``weight`` is ``(2,)``; weights that sum to 0 go halfway."""
        first, second = self._vectors(tensors)
        total = float(weight.sum())
        share = 0.5 if abs(total) < _NO_SHARE else float(weight[1]) / total
        angle, sine = torch.acos(state), torch.sin(torch.acos(state))
        straight = 1.0 - state * state <= _NO_ANGLE
        sine = torch.where(straight, 1.0, sine)
        a = torch.where(straight, 1.0 - share, torch.sin((1.0 - share) * angle) / sine)
        b = torch.where(straight, share, torch.sin(share * angle) / sine)
        merged: Tensor = (
            (a.to(first) * first + b.to(second) * second).reshape(tensors.sources.shape[1:]).to(tensors.sources.dtype)
        )
        return merged if tensors.base is None or not self.task_vectors else tensors.base + merged

    def _vectors(self, tensors: AlignedTensors) -> Tensor:
        vectors = (tensors.task_vectors if self.task_vectors else tensors.sources).float()
        one_vector = self.flatten or vectors.dim() < 3
        return vectors.reshape(2, vectors[0].numel()) if one_vector else vectors

    def _dim(self, vector: Tensor) -> int:
        return 0 if self.row_wise else -1
