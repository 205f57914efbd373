"""TIES-Merging (Yadav et al. 2023, https://arxiv.org/abs/2306.01708): trim, elect signs, merge what agrees."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import LATER, AlignedTensors, Noise, Parameter
from evo_merge.methods.consensus import LAMBDA, ONE, add_to_base
from evo_merge.methods.magnitudes import EQUALS, MagnitudeCounts, count_magnitudes
from evo_merge.methods.sparsify import check_rescale, keep_largest


@dataclass(frozen=True, slots=True)
class Ties:
    """Task vectors trimmed to their largest entries, averaged by weight where they agree in sign.

    We trim each tensor by itself and weight both the vote and the mean, as the peers do; the paper trims the whole task vector
    and takes the plain mean.

    Attributes:
        normalize: Divide by the weights of the agreeing entries: the scale of the weights then has no effect.
        rescale: ``none``, as in the paper; ``norm`` multiplies what is kept so that its absolute values sum to what they did
            before the trim, which mergekit offers.
        equals: What is kept of entries as large as the smallest kept one, which bfloat16 has many of: ``all``; the ``first`` of
            them, so that exactly as many are kept as the density says; or in ``sorted`` those that an unstable sort of torch
            puts in front, as mergekit does, which is slow and another choice on processors of another kind.
    """

    normalize: bool = True
    rescale: str = field(default="none", metadata=LATER)
    equals: str = field(default="all", metadata=LATER)

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("density", low=0.0, high=1.0, start=0.5),
        LAMBDA,
    )

    def __post_init__(self) -> None:
        check_rescale(self.rescale, ("norm", "none"))
        if self.equals not in EQUALS:
            raise ValueError(f"equals must be one of {', '.join(EQUALS)}, got '{self.equals}'")

    def prepare(self, tensors: AlignedTensors) -> MagnitudeCounts:
        """Counts of the task vectors' magnitudes, which make the trim's threshold a look-up."""
        return count_magnitudes(tensors.task_vectors)

    def merge(
        self,
        tensors: AlignedTensors,
        state: MagnitudeCounts,
        noise: Noise,
        *,
        weight: Tensor,
        density: Tensor,
        lambda_: Tensor = ONE,
    ) -> Tensor:
        """Merge one whole tensor; ``weight`` and ``density`` are ``(n_models,)``; a density of 0 drops the source."""
        vectors = keep_largest(tensors.task_vectors, density, state, self.rescale, self.equals)
        return add_to_base(tensors, vectors, weight, lambda_, vote=True, normalize=self.normalize)
