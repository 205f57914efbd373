"""Model Breadcrumbs (Davari & Belilovsky 2023, https://arxiv.org/abs/2312.06795), then TIES' vote (Yadav et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

from evo_merge.methods.breadcrumbs import Breadcrumbs


@dataclass(frozen=True, slots=True)
class BreadcrumbsTies(Breadcrumbs):
    """``breadcrumbs``, summed where the task vectors agree in sign.

    Attributes:
        rescale: As for ``breadcrumbs``.
        normalize: Divide by the weights of the agreeing entries, instead of summing them.
        trim: As for ``breadcrumbs``.
    """

    vote: ClassVar[bool] = True
