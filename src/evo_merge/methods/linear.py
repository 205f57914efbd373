"""Weighted average of the sources (model soups, Wortsman et al. 2022, https://arxiv.org/abs/2203.05482)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import LinearForm, Parameter, shares
from evo_merge.methods.consensus import divisor
from evo_merge.methods.entrywise import WHOLE, Bits, Entrywise, Form, Numbers, numbers_of
from evo_merge.methods.magnitudes import MagnitudeOrder, TaskVectors

_ROUNDING = 1e-12  # shares of 1 sum to 1 but for this


@dataclass(frozen=True, slots=True)
class Linear(Entrywise):
    """The sources, averaged by weight; summed in ``float32`` at least, as mergekit does.

    Attributes:
        normalize: Divide by the sum of the weights. A sum of 0 leaves the weighted sum.
    """

    normalize: bool = True

    needs_base: ClassVar[bool] = False
    n_sources: ClassVar[int | None] = None
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("weight", low=0.0, high=1.0, start=0.5),)

    @property
    def form(self) -> Form:
        """A sum of the sources themselves."""
        return Form(task_vectors=False)

    def numbers(self, vectors: TaskVectors, order: MagnitudeOrder, bits: Bits, *, weight: Tensor) -> Numbers:
        """Of one tensor; ``weight`` is ``(n_models,)``."""
        share = divisor(weight, vote=False, normalize=self.normalize)
        return numbers_of(weight, [WHOLE] * len(weight), divisor=share)

    def linear_form(self, *, weight: Tensor) -> LinearForm:
        """The weights, which the base gets as well: each source is the base plus its task vector."""
        parts = shares(weight) if self.normalize else tuple(weight.tolist())
        total = sum(parts)
        return LinearForm(1.0 if abs(total - 1.0) < _ROUNDING else total, parts)
