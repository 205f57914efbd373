"""DELLA (Deep et al. 2024, https://arxiv.org/abs/2406.11617): thin by rank, elect signs, merge what agrees."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter
from evo_merge.methods.consensus import LAMBDA, ONE, add_to_base
from evo_merge.methods.sparsify import check_rescale, drop_by_rank, rank_magnitudes


@dataclass(frozen=True, slots=True)
class Della:
    """Task vectors thinned by chance, larger entries kept more often, averaged by weight where they agree in sign.

    Attributes:
        rescale: ``density`` divides each survivor by its own probability, as the paper does; ``norm`` multiplies all of them so
            that their absolute values sum to what they did before, as mergekit does; ``none`` leaves them.
        normalize: Divide by the weights of the agreeing entries.
    """

    rescale: str = "density"
    normalize: bool = True

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    vote: ClassVar[bool] = True  # whether only what agrees in sign is summed
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("density", low=0.0, high=1.0, start=0.5),
        Parameter("epsilon", low=0.0, high=0.3, start=0.15, optional=True),
        LAMBDA,
    )

    def __post_init__(self) -> None:
        check_rescale(self.rescale)

    def prepare(self, tensors: AlignedTensors) -> Tensor:
        """The rank of every entry's magnitude in its row, ``(n_models, *shape)``."""
        return rank_magnitudes(tensors.task_vectors)

    def merge(
        self,
        tensors: AlignedTensors,
        state: Tensor,
        noise: Noise,
        *,
        weight: Tensor,
        density: Tensor,
        epsilon: Tensor,
        lambda_: Tensor = ONE,
    ) -> Tensor:
        """Merge one whole tensor; ``weight``, ``density`` and ``epsilon`` are ``(n_models,)``; density 0 drops a source."""
        vectors = drop_by_rank(tensors.task_vectors, density, epsilon, state, noise, self.rescale)
        return add_to_base(tensors, vectors, weight, lambda_, vote=self.vote, normalize=self.normalize)
