"""TIES-Merging (Yadav et al. 2023, https://arxiv.org/abs/2306.01708): trim, elect signs, merge what agrees."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from evo_merge.methods.base import LATER, AlignedTensors, Noise, Parameter
from evo_merge.methods.consensus import LAMBDA, ONE, add_to_base
from evo_merge.methods.entrywise import Bits, Entrywise, Form, Numbers, numbers_of, with_norms
from evo_merge.methods.magnitudes import EQUALS, MagnitudeOrder, TaskVectors, Thresholds
from evo_merge.methods.sparsify import check_rescale, check_trim, keep_largest, trimmed


@dataclass(frozen=True, slots=True)
class Ties(Entrywise):
    """Task vectors trimmed to their largest entries, averaged by weight where they agree in sign.

    We weight both the vote and the mean, as the peers do; the paper takes the plain mean.

    Attributes:
        normalize: Divide by the weights of the agreeing entries: the scale of the weights then has no effect.
        rescale: ``none``, as in the paper; ``norm`` multiplies what is kept so that its absolute values sum to what they did
            before the trim, in each tensor, whatever is trimmed; mergekit offers it.
        equals: What is kept of entries as large as the smallest kept one, which bfloat16 has many of: ``all``; the ``first`` of
            them, so that exactly as many are kept as the density says; or in ``sorted`` those that an unstable sort of torch
            puts in front, as mergekit does, which is slow and another choice on processors of another kind.
        trim: Of what the largest entries are kept: of each ``tensor``, as the peers do, so that each keeps its density; or of a
            source's whole task vector, ``model``, as in the paper, so that tensors that moved far keep more. All entries of
            the floating tensors count, and where tensors differ in density, each is cut where its own would cut the model.
            The authors' code keeps one entry more than the density says.
    """

    normalize: bool = True
    rescale: str = field(default="none", metadata=LATER)
    equals: str = field(default="all", metadata=LATER)
    trim: str = field(default="tensor", metadata=LATER)

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("density", low=0.0, high=1.0, start=0.5),
        LAMBDA,
    )

    def __post_init__(self) -> None:
        check_rescale(self.rescale, ("norm", "none"))
        if self.equals not in EQUALS:
            raise ValueError(f"equals must be one of {', '.join(EQUALS)}, got '{self.equals}'")
        check_trim(self.trim)
        if self.trim == "model" and self.equals != "all":
            raise ValueError(f"trim: model keeps all of equal entries, got equals: {self.equals}; leave that out")

    @property
    def form(self) -> Form | None:
        """A vote of trimmed task vectors; which of equal entries are the first ones does not show in an entry itself."""
        return Form(thinning="largest", vote=True, mean=self.normalize) if self.equals == "all" else None

    @property
    def over_model(self) -> bool:
        """As ``trim`` says."""
        return self.trim == "model"

    def numbers(
        self,
        vectors: TaskVectors,
        order: Thresholds,
        bits: Bits,
        *,
        weight: Tensor,
        density: Tensor,
        lambda_: Tensor = ONE,
    ) -> Numbers:
        """Of one tensor; ``weight`` and ``density`` are ``(n_models,)``, ``lambda_`` ``()``; density 0 drops a source."""
        form = Form(thinning="largest")
        numbers = numbers_of(weight, trimmed(vectors, density, order), lambda_=float(lambda_))
        return with_norms(form, vectors, numbers, bits) if self.rescale == "norm" else numbers

    def merge_whole(self, tensors: AlignedTensors, state: MagnitudeOrder, noise: Noise, **parameters: Tensor) -> Tensor:
        """Merge one whole tensor where it matters which of equal entries are kept; see ``numbers``."""
        vectors = keep_largest(tensors.task_vectors, parameters["density"], self.rescale, self.equals)
        lambda_ = parameters.get("lambda_", ONE)
        return add_to_base(tensors, vectors, parameters["weight"], lambda_, vote=True, normalize=self.normalize)
