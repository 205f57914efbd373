"""Model Breadcrumbs (Davari & Belilovsky 2023, https://arxiv.org/abs/2312.06795): without the largest and the smallest."""

from dataclasses import dataclass, field
from typing import ClassVar, cast

from torch import Tensor

from evo_merge.methods.base import LATER, Parameter
from evo_merge.methods.consensus import LAMBDA, ONE, divisor
from evo_merge.methods.entrywise import Bits, Entrywise, Form, Numbers, numbers_of, with_norms
from evo_merge.methods.magnitudes import MagnitudeOrder, TaskVectors, Thresholds
from evo_merge.methods.sparsify import banded, banded_over_model, check_rescale, check_trim, model_band


@dataclass(frozen=True, slots=True)
class Breadcrumbs(Entrywise):
    """The base plus the weighted sum of task vectors without their largest and smallest entries.

    ``gamma`` is the share of the largest entries that is dropped, ``density`` the share of all that is kept; 1 - ``gamma`` -
    ``density`` is the share of the smallest, the paper's ``beta``.

    Attributes:
        rescale: ``none``, as in the paper; ``norm`` multiplies what is kept so that its absolute values sum to what they did
            before, which mergekit offers.
        normalize: Divide the sum by the sum of the weights. A sum of 0 leaves it.
        trim: What is cut: each ``tensor`` by itself, as in the paper and mergekit; or, which is our own, a source's whole task
            vector, ``model``, as TIES' paper trims it. Tensors that moved far then lose more of their largest entries and fewer
            of their smallest. All floating tensors count, and where tensors differ in ``density`` or ``gamma``, each is cut
            where its own would cut the model.
    """

    rescale: str = "none"
    normalize: bool = False
    trim: str = field(default="tensor", metadata=LATER)

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    vote: ClassVar[bool] = False  # whether only what agrees in sign is summed
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("density", low=0.0, high=1.0, start=0.5),
        Parameter("gamma", low=0.0, high=0.2, start=0.01, optional=True),
        LAMBDA,
    )

    def __post_init__(self) -> None:
        check_rescale(self.rescale, ("norm", "none"))
        check_trim(self.trim)

    @property
    def form(self) -> Form:
        """A sum of task vectors of which a band of magnitudes is kept."""
        return Form(thinning="band", vote=self.vote, mean=self.vote and self.normalize)

    @property
    def over_model(self) -> bool:
        """As ``trim`` says."""
        return self.trim == "model"

    def model_shares(self, density: Tensor, **others: Tensor) -> list[set[float]]:
        """Down to the smallest kept entry, and of the dropped ones."""
        return [set(shares) for shares in model_band(density, others["gamma"])]

    def numbers(
        self,
        vectors: TaskVectors,
        order: Thresholds,
        bits: Bits,
        *,
        weight: Tensor,
        density: Tensor,
        gamma: Tensor,
        lambda_: Tensor = ONE,
    ) -> Numbers:
        """Of one tensor; ``weight``, ``density`` and ``gamma`` are ``(n_models,)``; density 0 drops a source."""
        share = divisor(weight, vote=self.vote, normalize=self.normalize)
        if self.over_model:
            thinned = banded_over_model(vectors, density, gamma, order)
        else:
            thinned = banded(vectors, density, gamma, cast(MagnitudeOrder, order))
        numbers = numbers_of(weight, thinned, divisor=share, lambda_=float(lambda_))
        return with_norms(self.form, vectors, numbers, bits) if self.rescale == "norm" else numbers
