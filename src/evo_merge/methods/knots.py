"""KnOTS (Stoica et al. 2024, https://arxiv.org/abs/2410.19735): task matrices in one basis, then TIES or DARE-TIES."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, Noise, Parameter
from evo_merge.methods.consensus import LAMBDA, ONE
from evo_merge.methods.entrywise import Form, merge_entries, numbers_of, rows_of
from evo_merge.methods.magnitudes import MagnitudeOrder, TaskVectors
from evo_merge.methods.noise import as_bits, entry_index
from evo_merge.methods.sparsify import by_chance, trimmed

THINNINGS = ("magnitude", "chance")


@dataclass(frozen=True, slots=True)
class Aligned:
    """Task matrices in a basis of what all of them write to; a tensor that is no matrix as it is.

    Attributes:
        basis: ``(rows, rank)``, orthonormal columns; ``None`` where the tensor is no matrix.
        vectors: ``(n_models, rank, columns)``: ``basis @ vectors[i]`` is the i-th task matrix.
        order: Of the magnitudes of ``vectors``.
    """

    basis: Tensor | None
    vectors: Tensor
    order: MagnitudeOrder


@dataclass(frozen=True, slots=True)
class Knots:
    """The base plus the TIES merge of task matrices that were brought into one basis before.

    The task matrices side by side, ``[d_1 … d_N] = U S [V_1 … V_N]^T``, have the basis U in common; what is thinned, put to
    the vote and averaged are the ``S V_i^T``. Made for LoRA sources, whose rank, and with it all this, is small: the basis has
    as many columns as the sum of their ranks. A plain weighted sum in that basis would be ``task_arithmetic``. Tensors that
    are no matrices are merged as they are.

    The authors trim over all tensors at once and take the plain mean of what agrees; here each tensor is trimmed by itself,
    and vote and mean are weighted, as in our ``ties``. Where singular values are equal, the basis is one of many.

    Attributes:
        thin: ``magnitude`` keeps the largest entries (KnOTS-TIES), ``chance`` keeps any and divides them by the density
            (KnOTS-DARE-TIES).
        normalize: Divide by the weights of the agreeing entries: the scale of the weights then has no effect.
        floor: Singular values up to here count as 0, as in the authors' code.
    """

    thin: str = "magnitude"
    normalize: bool = True
    floor: float = 1e-5

    needs_base: ClassVar[bool] = True
    n_sources: ClassVar[int | None] = None
    elementwise: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("weight", low=0.0, high=1.0, start=0.5),
        Parameter("density", low=0.0, high=1.0, start=0.5),
        LAMBDA,
    )

    def __post_init__(self) -> None:
        if self.thin not in THINNINGS:
            raise ValueError(f"thin must be one of {', '.join(THINNINGS)}, got '{self.thin}'")
        if not self.floor >= 0.0:
            raise ValueError(f"floor must be 0 or above, got {self.floor}")

    def prepare(self, tensors: AlignedTensors) -> Aligned:
        """The task matrices in their common basis."""
        vectors = tensors.task_vectors
        if vectors.dim() != 3 or vectors.numel() == 0:
            return Aligned(None, vectors, MagnitudeOrder())
        basis, aligned = _common_basis(vectors, self.floor)
        return Aligned(basis, aligned, MagnitudeOrder())

    def merge(
        self,
        tensors: AlignedTensors,
        state: Aligned,
        noise: Noise,
        *,
        weight: Tensor,
        density: Tensor,
        lambda_: Tensor = ONE,
    ) -> Tensor:
        """Merge one whole tensor; ``weight`` and ``density`` are ``(n_models,)``; a density of 0 drops the source."""
        rows = TaskVectors(tuple(vector.flatten() for vector in state.vectors), None, state.vectors.dtype)

        def bits(source: int, index: Tensor) -> Tensor:
            # The rank is at most the number of rows, so that the tensor's own noise is enough.
            return as_bits(noise(source).flatten()[index])

        by_size = self.thin == "magnitude"
        form = Form(task_vectors=False, thinning="largest" if by_size else "chance", vote=True, mean=self.normalize)
        thinned = trimmed(rows, density, state.order) if by_size else by_chance(density, "density")
        numbers = rows_of(numbers_of(weight, thinned, lambda_=float(lambda_)), rows.dtype)
        index = entry_index(0, rows.n_entries, tensors.sources.device)
        total = merge_entries(form, None, rows.sources, numbers, index, bits).reshape(state.vectors.shape[1:])
        assert tensors.base is not None
        return tensors.base + (total if state.basis is None else (state.basis @ total).to(tensors.base.dtype))


def _common_basis(vectors: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """``U`` and the ``S V_i^T`` of the SVD of the task matrices side by side, both ``float32``.

    Found from the eigenvectors of the smaller of the two products of that matrix with itself, in ``float64``: an order of
    magnitude faster than an SVD, and as exact down to singular values of 1e-8 of the largest.

    Args:
        vectors: ``(n_models, rows, columns)``.
        floor: Singular values up to here are left out.

    Returns:
        ``(rows, rank)`` and ``(n_models, rank, columns)``.
    """
    n_models, rows, columns = vectors.shape
    together = vectors.double().transpose(0, 1).reshape(rows, n_models * columns)
    if rows <= n_models * columns:
        values, left = torch.linalg.eigh(together @ together.T)
        basis = left[:, _kept(values, floor)]
        aligned = basis.T @ together
    else:
        values, right = torch.linalg.eigh(together.T @ together)
        kept = _kept(values, floor)
        singular = values[kept].sqrt()
        basis = together @ (right[:, kept] / singular)
        aligned = singular[:, None] * right[:, kept].T
    return basis.float(), aligned.reshape(-1, n_models, columns).transpose(0, 1).float().contiguous()


def _kept(eigenvalues: Tensor, floor: float) -> Tensor:
    """Which eigenvalues of a product with itself are those of singular values above the floor, and no rounding."""
    noise = len(eigenvalues) * torch.finfo(torch.float64).eps * eigenvalues[-1].clamp(min=0.0)
    return eigenvalues > noise.clamp(min=floor**2)
