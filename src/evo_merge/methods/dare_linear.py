"""DARE (Yu et al. 2024, https://arxiv.org/abs/2311.03099) on top of task arithmetic."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter
from evo_merge.methods.consensus import LAMBDA, ONE, add_to_base
from evo_merge.methods.sparsify import check_rescale, drop_and_rescale


@dataclass(frozen=True, slots=True)
class DareLinear:
    """The base plus the weighted sum of randomly thinned task vectors.

    Attributes:
        rescale: ``density`` divides survivors by the density, as the paper does; ``norm`` multiplies them so that their
            absolute values sum to what they did before, as mergekit does (a tensor is not cut then); ``none`` leaves them.
        normalize: Divide the sum by the sum of the weights. A sum of 0 leaves it.
    """

    rescale: str = "density"
    normalize: bool = False

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("density", low=0.0, high=1.0, start=0.5),
        LAMBDA,
    )

    def __post_init__(self) -> None:
        check_rescale(self.rescale)

    @property
    def elementwise(self) -> bool:
        """Not where a sum over the tensor is needed."""
        return self.rescale != "norm"

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(
        self, tensors: AlignedTensors, state: None, noise: Noise, *, weight: Tensor, density: Tensor, lambda_: Tensor = ONE
    ) -> Tensor:
        """Merge one tensor, or a chunk of it; ``weight`` and ``density`` are ``(n_models,)``; density 0 drops a source."""
        vectors = drop_and_rescale(tensors.task_vectors, density, noise, self.rescale)
        return add_to_base(tensors, vectors, weight, lambda_, vote=False, normalize=self.normalize)
