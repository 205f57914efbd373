"""RegMean (Jin et al. 2023, https://arxiv.org/abs/2212.09849): the layer that answers each source's inputs as it would."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, divided_by_sum, per_model, sum_over_models
from evo_merge.methods.least_squares import nearest


@dataclass(frozen=True, slots=True)
class Regmean:
    """Linear layers by least squares on the sources' own inputs, everything else by the plain average.

    ``M = (sum_i w_i M_i G_i) (sum_i w_i G_i)^-1``, where ``G_i`` is the mean of ``x x^T`` over the inputs of source i, of kind
    ``gram`` (``python -m evo_merge.calibrate``), with its entries off the diagonal multiplied by ``off_diagonal``, the paper's
    alpha. Directions that no input has, of which the paper says nothing, get the plain average. Weights, of the inputs of a
    source against those of the others, are ours, and that is why we take their mean where the paper sums over them.

    Attributes:
        statistics: Folder of the statistics; there is no merge without.
        digest: Which statistics these are; filled in when a search begins.
        rtol: Directions with less than this share of the largest one's energy, each input in units of its own size, count as
            none; the statistics are ``float32``, so that less is rounding.
    """

    statistics: str | None = None
    digest: str | None = None
    rtol: float = 1e-6

    statistics_kind: ClassVar[str] = "gram"
    needs_base: ClassVar[bool] = False
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    makes_products: ClassVar[bool] = True  # of matrices with themselves, as wide as their inputs
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("off_diagonal", low=0.1, high=1.0, start=0.9, per_source=False, optional=True),
    )

    def __post_init__(self) -> None:
        if not 0.0 <= self.rtol < 1.0:
            raise ValueError(f"rtol must be from 0 to below 1, got {self.rtol}")

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find: the numbers of a recipe change every matrix that is solved with."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, weight: Tensor, off_diagonal: Tensor) -> Tensor:
        """Merge one whole tensor; ``weight`` is ``(n_models,)``, ``off_diagonal`` ``()``."""
        sources = tensors.sources.float()
        mean = divided_by_sum(sum_over_models(per_model(weight, sources) * sources), weight)
        if tensors.statistics is not None and sources.numel():
            share = float(off_diagonal)
            grams = [_shrunk(gram, share) * w for gram, w in zip(tensors.statistics, weight.tolist(), strict=True)]
            mean = nearest(mean, list(sources), grams, self.rtol).float()
        return mean.to(tensors.sources.dtype)


def _shrunk(gram: Tensor, share: float) -> Tensor:
    """The matrix in ``float64`` with its entries off the diagonal multiplied by ``share``."""
    gram = gram.double()
    return share * gram + (1.0 - share) * torch.diag(gram.diagonal())
