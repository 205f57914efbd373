"""The Karcher mean of the models' directions (Karcher 1977; Grove & Karcher 1973), for any number of models."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.errors import UnusableCandidateError
from evo_merge.methods.base import AlignedTensors, Noise, Parameter, as_vectors


@dataclass(frozen=True, slots=True)
class Karcher:
    """The direction with the least squared angles to those of the sources, times their mean length; each tensor is one vector.

    mergekit weighs all sources alike, which is what equal weights do here. It begins at the mean direction, and where that is
    none, because the sources point against each other, at the first source. Computed in ``float32`` at least.

    Attributes:
        max_iter: Steps towards the mean.
        tol: Angle below which a step is the last, and length below which a source has no direction.
    """

    max_iter: int = 10
    tol: float = 1e-5

    needs_base: ClassVar[bool] = False
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("weight", low=0.0, high=1.0, start=0.5, optional=True),)

    def __post_init__(self) -> None:
        if self.max_iter < 1:
            raise ValueError(f"max_iter must be at least 1, got {self.max_iter}")
        if not 0.0 < self.tol < math.inf:
            raise ValueError(f"tol must be above 0 and finite, got {self.tol}")

    def prepare(self, tensors: AlignedTensors) -> Tensor:
        """The length of each source, ``(n_models,)`` ``float64``."""
        lengths: Tensor = as_vectors(tensors.sources).double().norm(dim=1)
        return lengths

    def merge(self, tensors: AlignedTensors, state: Tensor, noise: Noise, *, weight: Tensor) -> Tensor:
        """Merge one whole tensor; ``weight`` is ``(n_models,)``.

        Raises:
            UnusableCandidateError: Weights that sum to 0.
        """
        if len(tensors.sources) == 1:
            return tensors.sources[0].clone()
        shares, lengths = _shares(weight.tolist()), state.tolist()
        directed = [i for i, length in enumerate(lengths) if length > self.tol]
        if not directed:
            return torch.zeros_like(tensors.sources[0])
        units = [tensors.sources[i].float().flatten() / lengths[i] for i in directed]
        total = sum(shares[i] for i in directed)
        mean = self._mean(units, [shares[i] / total if total else 1.0 / len(directed) for i in directed])
        length = sum(share * each for share, each in zip(shares, lengths, strict=True))
        merged: Tensor = length * mean
        return merged.to(tensors.sources.dtype).reshape(tensors.sources.shape[1:])

    def _mean(self, units: list[Tensor], shares: list[float]) -> Tensor:
        mean = torch.stack([share * unit for share, unit in zip(shares, units, strict=True)]).sum(dim=0)
        length = float(mean.norm())
        mean = units[0].clone() if length < self.tol else mean / length
        for _ in range(self.max_iter):
            step = torch.zeros_like(mean)
            for share, unit in zip(shares, units, strict=True):
                cosine = max(-1.0, min(1.0, float(mean @ unit)))
                angle = math.acos(cosine)
                if angle >= self.tol and math.sin(angle) > 0.0:
                    step += (share * angle / math.sin(angle)) * (unit - cosine * mean)
            length = float(step.norm())
            if length < self.tol:
                break
            mean = math.cos(length) * mean + (math.sin(length) / length) * step
            mean /= mean.norm()
        return mean


def _shares(weight: list[float]) -> list[float]:
    total = sum(weight)
    if abs(total) < 1e-8:
        raise UnusableCandidateError("karcher divides the weights by their sum, which is 0")
    return [each / total for each in weight]
