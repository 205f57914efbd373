"""Spherical interpolation between two models (Shoemake 1985), on each tensor as one vector."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter

_PARALLEL = 0.9995  # above this cosine the arc is a straight line in floating point; the peers' threshold
_NO_LENGTH = 1e-8


@dataclass(frozen=True, slots=True)
class Slerp:
    """From the first source (``t`` = 0) to the second (``t`` = 1), along the arc between their directions.

    Where the two point the same way, or against each other, it is the straight line. Computed in ``float32`` at least.
    """

    needs_base: ClassVar[bool] = False
    n_sources: ClassVar[int | None] = 2
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("t", low=0.0, high=1.0, start=0.5, per_source=False),)

    def prepare(self, tensors: AlignedTensors) -> Tensor:
        """The cosine between the two tensors, ``()``."""
        first, second = tensors.sources.double().reshape(2, tensors.sources[0].numel())
        lengths = first.norm(), second.norm()
        scale = math.prod(float(length) if length > _NO_LENGTH else 1.0 for length in lengths)
        cosine: Tensor = (first @ second / scale).clamp(-1.0, 1.0)
        return cosine

    def merge(self, tensors: AlignedTensors, state: Tensor, noise: Noise, *, t: Tensor) -> Tensor:
        """Merge one whole tensor; ``t`` is ``()``. The tensors' lengths are interpolated too, as they are not normalised."""
        first, second = tensors.sources.float()
        share, cosine = float(t), float(state)
        angle = math.acos(cosine)
        if abs(cosine) > _PARALLEL or math.sin(angle) == 0.0:
            merged = torch.add((1.0 - share) * first, share * second)
        else:
            a, b = math.sin((1.0 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)
            merged = torch.add(a * first, b * second)
        return merged.to(tensors.sources.dtype)
