"""One model as it is, or with tensors multiplied: what a stack of layers (a data-flow recipe) goes through in mergekit."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter


@dataclass(frozen=True, slots=True)
class Passthrough:
    """The source, times ``scale``.

    Layers are stacked by a data-flow recipe, which may be the source.
    """

    needs_base: ClassVar[bool] = False
    n_sources: ClassVar[int | None] = 1
    elementwise: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("scale", low=0.5, high=1.5, start=1.0, per_source=False, optional=True),
    )

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, scale: Tensor) -> Tensor:
        """Merge one tensor, or one part of it; ``scale`` is ``()``."""
        return tensors.sources[0] * float(scale)
