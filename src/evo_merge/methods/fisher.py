"""Fisher-weighted averaging (Matena & Raffel 2022, https://arxiv.org/abs/2111.09832): each entry by how much it matters."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter, divided_by_sum, per_model, sum_over_models


@dataclass(frozen=True, slots=True)
class Fisher:
    """The sources, averaged entry by entry with weight times diagonal Fisher information.

    The Fisher information is of kind ``fisher`` (``python -m evo_merge.calibrate``), scaled so that its mean over each source
    is 1; the authors divide it by its norm, to the same end.

    Attributes:
        statistics: Folder of the statistics; there is no merge without.
        digest: Which statistics these are; filled in when a search begins.
        floor: The least information that an entry counts with, as a share of the mean: entries that matter to no source
            become the plain average. The authors have 1e-6, of the information as they scale it.
    """

    statistics: str | None = None
    digest: str | None = None
    floor: float = 1e-6

    statistics_kind: ClassVar[str] = "fisher"
    needs_base: ClassVar[bool] = False
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("weight", low=0.0, high=1.0, start=0.5),)

    def __post_init__(self) -> None:
        if not self.floor > 0.0:
            raise ValueError(f"floor must be above 0, got {self.floor}")

    def prepare(self, tensors: AlignedTensors) -> None:
        """Nothing to find."""

    def merge(self, tensors: AlignedTensors, state: None, noise: Noise, *, weight: Tensor) -> Tensor:
        """Merge one tensor, or one part of it; ``weight`` is ``(n_models,)``."""
        sources = tensors.sources.float()
        shares = per_model(weight, sources)
        if tensors.statistics is None:
            return divided_by_sum(sum_over_models(shares * sources), weight).to(tensors.sources.dtype)
        shares = shares * torch.stack(tensors.statistics).clamp(min=self.floor)
        total = sum_over_models(shares)
        merged = sum_over_models(shares * sources) / torch.where(total == 0, 1.0, total)
        return merged.to(tensors.sources.dtype)
