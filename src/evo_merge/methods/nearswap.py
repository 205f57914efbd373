"""Near swap (alchemonaut's method, as in mergekit): take over the other model's weights where they are near the base's."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter

_NO_DIFFERENCE = 1e-6


@dataclass(frozen=True, slots=True)
class Nearswap:
    """Base and source mixed entry by entry: the source's share is ``t`` over their distance, and 1 at most."""

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = 1
    elementwise: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("t", low=0.0, high=0.01, start=0.001, per_source=False),)

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, t: Tensor) -> Tensor:
        """Merge one tensor, or one part of it; ``t`` is ``()``, in units of the weights."""
        (source,), base = tensors.sources, tensors.base
        assert base is not None
        share = (float(t) / (base - source).abs().clamp(min=_NO_DIFFERENCE)).clamp(0.0, 1.0)
        merged: Tensor = share * source + (1.0 - share) * base
        return merged
