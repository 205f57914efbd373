"""Model Breadcrumbs (Davari & Belilovsky 2023, https://arxiv.org/abs/2312.06795): without the largest and the smallest."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter
from evo_merge.methods.consensus import LAMBDA, ONE, add_to_base
from evo_merge.methods.magnitudes import MagnitudeCounts, count_magnitudes
from evo_merge.methods.sparsify import check_rescale, keep_middle


@dataclass(frozen=True, slots=True)
class Breadcrumbs:
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
    elementwise: ClassVar[bool] = False
    vote: ClassVar[bool] = False  # whether only what agrees in sign is summed
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("density", low=0.0, high=1.0, start=0.5),
        Parameter("gamma", low=0.0, high=0.2, start=0.01, optional=True),
        LAMBDA,
    )

    def __post_init__(self) -> None:
        check_rescale(self.rescale, ("norm", "none"))

    def prepare(self, tensors: AlignedTensors) -> MagnitudeCounts:
        """Counts of the task vectors' magnitudes, which make both thresholds look-ups."""
        return count_magnitudes(tensors.task_vectors)

    def merge(
        self,
        tensors: AlignedTensors,
        state: MagnitudeCounts,
        noise: Noise,
        *,
        weight: Tensor,
        density: Tensor,
        gamma: Tensor,
        lambda_: Tensor = ONE,
    ) -> Tensor:
        """Merge one whole tensor; ``weight``, ``density`` and ``gamma`` are ``(n_models,)``; density 0 drops a source."""
        vectors = keep_middle(tensors.task_vectors, density, gamma, state, self.rescale)
        return add_to_base(tensors, vectors, weight, lambda_, vote=self.vote, normalize=self.normalize)
