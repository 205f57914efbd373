"""DARE (Yu et al. 2024, https://arxiv.org/abs/2311.03099), then TIES' vote (Yadav et al. 2023, https://arxiv.org/abs/2306.01708)."""

from dataclasses import dataclass
from typing import ClassVar

from evo_merge.methods.dare_linear import DareLinear


@dataclass(frozen=True, slots=True)
class DareTies(DareLinear):
    """``dare_linear``, summed where the task vectors agree in sign: the method of the published evolved models.

    Attributes:
        rescale: As for ``dare_linear``.
        normalize: Divide by the weights of the agreeing entries, instead of summing them.
    """

    vote: ClassVar[bool] = True
