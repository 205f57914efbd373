"""WUDI-Merging (Cheng et al. 2025, https://arxiv.org/abs/2503.08099): the merge that disturbs each task least, without data."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, per_model, sum_over_models
from evo_merge.methods.consensus import LAMBDA
from evo_merge.methods.iso_c import WEIGHT
from evo_merge.methods.least_squares import shares_of


@dataclass(frozen=True, slots=True)
class Wudi:
    """The base plus the task matrix that minimises ``sum_i ||(M - d_i) d_i^T||_F^2 / ||d_i||_F^2``.

    The rows of a task matrix span the inputs that its training saw, so that this is small where the merged layer does to each
    task's inputs what that task's own layer does. The authors take 300 steps of Adam from the sum of the d_i; the loss is a
    quadratic, and we take its minimiser, once a run: ``M = (sum_i c_i d_i d_i^T d_i) (sum_i c_i d_i^T d_i)^+`` with
    ``c_i = 1 / ||d_i||_F^2``. It is the one of least norm, as Adam's start lies in the same rows. Tensors that are no matrices
    get the mean of the task vectors, where the authors' code keeps the base's.

    A weight, which is ours, multiplies a source's task matrix before all this. The division by the norm takes it out of
    everything but the target, so that the minimiser is linear in the weights. With weight 0 the merge does on that source's
    inputs what the base does, which is not the merge without the source.

    Attributes:
        rtol: Directions of the inputs with less than this share of the largest one's energy count as none, and keep the base.
    """

    rtol: float = 1e-6

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    makes_products: ClassVar[bool] = True  # of matrices with themselves, as wide as their inputs
    parameters: ClassVar[tuple[Parameter, ...]] = (WEIGHT, LAMBDA)

    def __post_init__(self) -> None:
        if not 0.0 <= self.rtol < 1.0:
            raise ValueError(f"rtol must be from 0 to below 1, got {self.rtol}")

    def prepare(self, tensors: AlignedTensors) -> Tensor | None:
        """What each source adds to the minimiser: ``(n_models, rows, columns)``; ``None`` where the tensor is no matrix."""
        vectors = tensors.task_vectors.float()
        if vectors.dim() != 3 or vectors.numel() == 0:
            return None
        grams = []
        for vector in vectors.double():
            energy = float(vector.square().sum())
            grams.append(vector.T @ vector / (energy or 1.0))
        return torch.stack(shares_of(list(vectors), grams, self.rtol)).float()

    def merge(self, tensors: AlignedTensors, state: Tensor | None, noise: Noise, *, weight: Tensor, lambda_: Tensor) -> Tensor:
        """Merge one whole tensor; ``weight`` is ``(n_models,)``, ``lambda_`` ``()``."""
        vectors = tensors.task_vectors.float()
        if state is None:
            total = sum_over_models(per_model(weight, vectors) * vectors) / len(vectors)
        else:
            total = sum_over_models(per_model(weight, state) * state)
        assert tensors.base is not None
        return tensors.base + (total * float(lambda_)).to(tensors.base.dtype)
