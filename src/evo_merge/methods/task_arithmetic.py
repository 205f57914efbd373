"""Task arithmetic (Ilharco et al. 2023, https://arxiv.org/abs/2212.04089)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import LinearForm, Parameter, shares
from evo_merge.methods.consensus import LAMBDA, ONE, divisor
from evo_merge.methods.entrywise import WHOLE, Bits, Entrywise, Form, Numbers, numbers_of
from evo_merge.methods.magnitudes import MagnitudeOrder, TaskVectors


@dataclass(frozen=True, slots=True)
class TaskArithmetic(Entrywise):
    """The base plus the weighted sum of the task vectors.

    Attributes:
        normalize: Divide the sum by the sum of the weights. A sum of 0 leaves it.
    """

    normalize: bool = False

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("weight", low=0.0, high=1.0, start=0.5), LAMBDA)

    @property
    def form(self) -> Form:
        """A sum of task vectors."""
        return Form()

    def numbers(
        self, vectors: TaskVectors, order: MagnitudeOrder, bits: Bits, *, weight: Tensor, lambda_: Tensor = ONE
    ) -> Numbers:
        """Of one tensor; ``weight`` is ``(n_models,)``, ``lambda_`` ``()``."""
        share = divisor(weight, vote=False, normalize=self.normalize)
        return numbers_of(weight, [WHOLE] * len(weight), divisor=share, lambda_=float(lambda_))

    def linear_form(self, *, weight: Tensor, lambda_: Tensor = ONE) -> LinearForm:
        """The weights times lambda, on the base as it is."""
        parts = shares(weight) if self.normalize else weight.tolist()
        return LinearForm(1.0, tuple(part * float(lambda_) for part in parts))
