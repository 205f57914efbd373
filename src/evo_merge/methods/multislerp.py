"""Spherical interpolation of any number of models, in one step about their mean direction (mergekit's ``multislerp``)."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.errors import UnusableCandidateError
from evo_merge.methods.base import AlignedTensors, Noise, Parameter, as_vectors, per_model, sum_over_models


@dataclass(frozen=True, slots=True)
class Multislerp:
    """The mean of the sources' directions on the sphere, approached once from their weighted mean; lengths are averaged.

    Each tensor is one vector. Of two that point against each other it is the weighted sum; more that cancel each other have no
    mean direction. Computed in ``float32`` at least.

    Attributes:
        task_vectors: Interpolate what the sources add to a base, instead of the sources themselves.
        normalize: Divide the weights by their sum.
        eps: A length below which a vector has no direction.
    """

    task_vectors: bool = False
    normalize: bool = True
    eps: float = 1e-8

    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("weight", low=0.0, high=1.0, start=0.5),)

    @property
    def needs_base(self) -> bool:
        """Where task vectors are interpolated."""
        return self.task_vectors

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, weight: Tensor) -> Tensor:
        """Merge one whole tensor; ``weight`` is ``(n_models,)``.

        Raises:
            UnusableCandidateError: Weights that sum to 0, or directions that cancel each other.
        """
        vectors = (tensors.task_vectors if self.task_vectors else tensors.sources).float()
        merged = self._mean(vectors, self._shares(weight)).to(tensors.sources.dtype) if len(vectors) > 1 else vectors[0].clone()
        merged = merged.to(tensors.sources.dtype)
        return merged if tensors.base is None or not self.task_vectors else tensors.base + merged

    def _shares(self, weight: Tensor) -> Tensor:
        total = float(weight.sum())
        if self.normalize and abs(total) < self.eps:
            raise UnusableCandidateError("multislerp divides the weights by their sum, which is 0")
        return weight / total if self.normalize else weight

    def _mean(self, vectors: Tensor, shares: Tensor) -> Tensor:
        lengths = as_vectors(vectors).norm(dim=1)
        if bool((lengths < self.eps).all()):
            return sum_over_models(per_model(shares, vectors) * vectors)  # nothing to turn
        directions = vectors / per_model(lengths + self.eps, vectors)
        middle = sum_over_models(per_model(shares, directions) * directions)
        length = float(middle.norm())
        if length < self.eps:
            if len(vectors) == 2:
                return sum_over_models(per_model(shares, vectors) * vectors)
            raise UnusableCandidateError("multislerp finds no mean direction: the weighted directions of the sources sum to 0")
        middle = middle / length
        along = as_vectors(directions * middle).sum(dim=1)
        tangent = sum_over_models(per_model(shares, directions) * (directions - per_model(along, directions) * middle))
        angle = float(tangent.norm()) + self.eps
        turned = middle * math.cos(angle) + tangent * (math.sin(angle) / angle)
        return turned * float((shares.to(lengths) * lengths).sum())
