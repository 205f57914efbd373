"""Arcee Fusion (mergekit's): take over the entries of another model that matter, and leave the rest the base's."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter


@dataclass(frozen=True, slots=True)
class ArceeFusion:
    """The source's entries whose importance exceeds the median by ``spread`` interquartile ranges; the base's elsewhere.

    An entry's importance is the size of its change, times the Kullback-Leibler divergence between the softmax of its row in
    both models. mergekit takes the quartiles of tensors of more than a million entries from a sample of them; ours are exact.
    """

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = 1
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("spread", low=0.0, high=3.0, start=1.5, per_source=False, optional=True),
    )

    def prepare(self, tensors: AlignedTensors) -> tuple[float, float]:
        """Median and interquartile range of the importance."""
        importance = _importance(tensors).flatten()
        if importance.numel() == 0:
            return 0.0, 0.0
        first, middle, third = (
            float(importance.kthvalue(int(share * (importance.numel() - 1)) + 1).values) for share in (0.25, 0.5, 0.75)
        )
        return middle, third - first

    def merge(self, tensors: AlignedTensors, state: tuple[float, float], noise: Noise, *, spread: Tensor) -> Tensor:
        """Merge one whole tensor; ``spread`` is ``()``."""
        (vector,), base = tensors.task_vectors, tensors.base
        assert base is not None
        middle, quartiles = state
        return base + torch.where(_importance(tensors) >= middle + float(spread) * quartiles, vector, 0.0)


def _importance(tensors: AlignedTensors) -> Tensor:
    (vector,), base = tensors.task_vectors, tensors.base
    assert base is not None
    ours, theirs = (torch.softmax(values, dim=-1) + 1e-8 for values in (tensors.sources[0], base))
    importance: Tensor = vector.abs() * (ours * torch.log(ours / theirs)).sum(dim=-1, keepdim=True)
    return importance
