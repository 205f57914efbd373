"""DELLA (Deep et al. 2024, https://arxiv.org/abs/2406.11617)'s thinning on top of task arithmetic."""

from dataclasses import dataclass
from typing import ClassVar

from evo_merge.methods.della import Della


@dataclass(frozen=True, slots=True)
class DellaLinear(Della):
    """``della`` without the vote: the base plus the weighted sum of the thinned task vectors.

    Attributes:
        rescale: As for ``della``.
        normalize: Divide the sum by the sum of the weights. A sum of 0 leaves it.
    """

    normalize: bool = False

    vote: ClassVar[bool] = False
