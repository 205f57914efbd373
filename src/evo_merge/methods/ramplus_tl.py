"""RAM+ (Reinforced Agent Merging, https://arxiv.org/abs/2601.13572): what one source alone learned is made larger."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, as_vectors
from evo_merge.methods.overlap import EPSILON, moved, sum_of_moves


@dataclass(frozen=True, slots=True)
class RamplusTl:
    """RAM, with a source's own moves times ``1 + r min(rho, alpha)``, ``rho`` its number of shared moves over that of its own.

    Each tensor is counted by itself, as in mergekit ("tensor-local"); the paper counts over the whole model.
    """

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("r", low=0.0, high=1.0, start=0.1, per_source=False, optional=True),
        Parameter("alpha", low=0.0, high=1.0, start=0.2, per_source=False, optional=True),
        EPSILON,
    )

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, r: Tensor, alpha: Tensor, epsilon: Tensor) -> Tensor:
        """Merge one whole tensor; all parameters are ``()``."""
        vectors = tensors.task_vectors
        where = moved(vectors, epsilon)
        count = where.sum(dim=0)
        n_shared = as_vectors(where & (count > 1)).sum(dim=1)
        n_own = as_vectors(where & (count == 1)).sum(dim=1)
        # A source without moves of its own has none to make larger, so that any divisor but 0 will do.
        rho = n_shared.double() / n_own.double().clamp(min=1e-5)
        assert tensors.base is not None
        return tensors.base + sum_of_moves(vectors, where, 1.0 + float(r) * rho.clamp(max=float(alpha)))
