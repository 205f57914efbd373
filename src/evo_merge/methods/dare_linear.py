"""DARE (Yu et al. 2024, https://arxiv.org/abs/2311.03099) on top of task arithmetic."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import Parameter
from evo_merge.methods.consensus import LAMBDA, ONE, divisor
from evo_merge.methods.entrywise import Bits, Entrywise, Form, Numbers, numbers_of, with_norms
from evo_merge.methods.magnitudes import MagnitudeOrder, TaskVectors
from evo_merge.methods.sparsify import by_chance, check_rescale


@dataclass(frozen=True, slots=True)
class DareLinear(Entrywise):
    """The base plus the weighted sum of randomly thinned task vectors.

    Attributes:
        rescale: ``density`` divides survivors by the density, as the paper does; ``norm`` multiplies them so that their
            absolute values sum to what they did before, as mergekit does; ``none`` leaves them.
        normalize: Divide the sum by the sum of the weights. A sum of 0 leaves it.
    """

    rescale: str = "density"
    normalize: bool = False

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    vote: ClassVar[bool] = False  # whether only what agrees in sign is summed
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("density", low=0.0, high=1.0, start=0.5),
        LAMBDA,
    )

    def __post_init__(self) -> None:
        check_rescale(self.rescale)

    @property
    def form(self) -> Form:
        """A sum of task vectors thinned by chance."""
        return Form(thinning="chance", vote=self.vote, mean=self.vote and self.normalize)

    def numbers(
        self, vectors: TaskVectors, order: MagnitudeOrder, bits: Bits, *, weight: Tensor, density: Tensor, lambda_: Tensor = ONE
    ) -> Numbers:
        """Of one tensor; ``weight`` and ``density`` are ``(n_models,)``, ``lambda_`` ``()``; density 0 drops a source."""
        share = divisor(weight, vote=self.vote, normalize=self.normalize)
        numbers = numbers_of(weight, by_chance(density, self.rescale), divisor=share, lambda_=float(lambda_))
        return with_norms(self.form, vectors, numbers, bits) if self.rescale == "norm" else numbers
