"""Model Breadcrumbs (Davari & Belilovsky 2023, https://arxiv.org/abs/2312.06795): without the largest and the smallest."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import Parameter
from evo_merge.methods.consensus import LAMBDA, ONE, divisor
from evo_merge.methods.entrywise import Bits, Entrywise, Form, Numbers, numbers_of, with_norms
from evo_merge.methods.magnitudes import MagnitudeOrder, TaskVectors
from evo_merge.methods.sparsify import banded, check_rescale


@dataclass(frozen=True, slots=True)
class Breadcrumbs(Entrywise):
    """The base plus the weighted sum of task vectors without their largest and smallest entries.

    ``gamma`` is the share of the largest entries that is dropped, ``density`` the share of all that is kept; 1 - ``gamma`` -
    ``density`` is the share of the smallest, the paper's ``beta``. Each tensor is cut by itself, as in the paper.

    Attributes:
        rescale: ``none``, as in the paper; ``norm`` multiplies what is kept so that its absolute values sum to what they did
            before, which mergekit offers.
        normalize: Divide the sum by the sum of the weights. A sum of 0 leaves it.
    """

    rescale: str = "none"
    normalize: bool = False

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    vote: ClassVar[bool] = False  # whether only what agrees in sign is summed
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("density", low=0.0, high=1.0, start=0.5),
        Parameter("gamma", low=0.0, high=0.2, start=0.01, optional=True),
        LAMBDA,
    )

    def __post_init__(self) -> None:
        check_rescale(self.rescale, ("norm", "none"))

    @property
    def form(self) -> Form:
        """A sum of task vectors of which a band of magnitudes is kept."""
        return Form(thinning="band", vote=self.vote, mean=self.vote and self.normalize)

    def numbers(
        self,
        vectors: TaskVectors,
        order: MagnitudeOrder,
        bits: Bits,
        *,
        weight: Tensor,
        density: Tensor,
        gamma: Tensor,
        lambda_: Tensor = ONE,
    ) -> Numbers:
        """Of one tensor; ``weight``, ``density`` and ``gamma`` are ``(n_models,)``; density 0 drops a source."""
        share = divisor(weight, vote=self.vote, normalize=self.normalize)
        numbers = numbers_of(weight, banded(vectors, density, gamma, order), divisor=share, lambda_=float(lambda_))
        return with_norms(self.form, vectors, numbers, bits) if self.rescale == "norm" else numbers
