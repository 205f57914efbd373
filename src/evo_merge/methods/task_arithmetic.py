"""Task arithmetic (Ilharco et al. 2023, https://arxiv.org/abs/2212.04089)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import AlignedTensors, LinearForm, Noise, Parameter, shares
from evo_merge.methods.consensus import LAMBDA, ONE, add_to_base


@dataclass(frozen=True, slots=True)
class TaskArithmetic:
    """The base plus the weighted sum of the task vectors.

    Attributes:
        normalize: Divide the sum by the sum of the weights. A sum of 0 leaves it.
    """

    normalize: bool = False

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("weight", low=0.0, high=1.0, start=0.5), LAMBDA)

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, weight: Tensor, lambda_: Tensor = ONE) -> Tensor:
        """Merge one tensor, or one chunk of it; ``weight`` is ``(n_models,)``, ``lambda_`` ``()``."""
        return add_to_base(tensors, tensors.task_vectors, weight, lambda_, vote=False, normalize=self.normalize)

    def linear_form(self, *, weight: Tensor, lambda_: Tensor = ONE) -> LinearForm:
        """The weights times lambda, on the base as it is."""
        parts = shares(weight) if self.normalize else weight.tolist()
        return LinearForm(1.0, tuple(part * float(lambda_) for part in parts))
