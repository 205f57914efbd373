"""RAM (Reinforced Agent Merging, https://arxiv.org/abs/2601.13572): keep what one source learned, average what several did."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter
from evo_merge.methods.overlap import EPSILON, moved, sum_of_moves


@dataclass(frozen=True, slots=True)
class Ram:
    """The base plus what one source alone moved, and the mean of what several moved; ``epsilon`` is what counts as moved."""

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (EPSILON,)

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, epsilon: Tensor) -> Tensor:
        """Merge one tensor, or one part of it; ``epsilon`` is ``()``."""
        vectors = tensors.task_vectors
        assert tensors.base is not None
        return tensors.base + sum_of_moves(vectors, moved(vectors, epsilon), torch.ones(len(vectors)))
