"""Averages of matrices weighted by matrices: the linear map that does best what each source's does on that source's inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pseudo_inverse(gram: Tensor, rtol: float) -> Tensor:
    """The Moore-Penrose inverse of a symmetric positive semi-definite matrix, in ``float64``.

    Args:
        gram: ``(d, d)``.
        rtol: Eigenvalues at most this share of the largest count as 0; of them the inverse has none.

    Returns:
        ``(d, d)`` ``float64``.
    """
    values, vectors = torch.linalg.eigh(gram.double())  # ascending
    largest = float(values[-1].clamp(min=0.0)) if len(values) else 0.0
    inverse = torch.where(values > rtol * largest, 1.0 / values, 0.0)
    found: Tensor = (vectors * inverse) @ vectors.T
    return found


def shares_of(matrices: Sequence[Tensor], grams: Sequence[Tensor], rtol: float) -> list[Tensor]:
    """What each source adds to the matrix ``M`` that minimises ``sum_i tr((M - M_i) G_i (M - M_i)^T)``.

    That is ``M = (sum_i M_i G_i) (sum_i G_i)^+``, the one of least norm where there are several (the closed form of
    RegMean, Jin et al. 2023, for weights stored as ``(out, in)``). It is linear in the ``M_i``, so that they may be weighted
    afterwards.

    Args:
        matrices: ``M_i``, each ``(out, in)``.
        grams: ``G_i``, each ``(in, in)``, symmetric and positive semi-definite.
        rtol: As in ``pseudo_inverse``.

    Returns:
        ``M_i G_i (sum_j G_j)^+`` of each source, ``(out, in)`` ``float64``; their sum is ``M``.
    """
    total = torch.stack([gram.double() for gram in grams]).sum(dim=0)
    inverse = pseudo_inverse(total, rtol)
    return [matrix.double() @ (gram.double() @ inverse) for matrix, gram in zip(matrices, grams, strict=True)]


def nearest(start: Tensor, matrices: Sequence[Tensor], grams: Sequence[Tensor], rtol: float) -> Tensor:
    """Of the matrices that minimise what ``shares_of`` does, the one nearest to ``start``, ``(out, in)`` ``float64``.

    Where the sum of the ``G_i`` can be inverted that is the only one; in directions that it says nothing of it is ``start``.
    Near is measured in the units of each column: of a language model's inputs some are a thousand times larger than others,
    and what is small beside those is no rounding.

    Args:
        start: ``(out, in)``.
        matrices: ``M_i``, as in ``shares_of``.
        grams: ``G_i``, as in ``shares_of``.
        rtol: As in ``pseudo_inverse``, of the sum of the ``G_i`` scaled so that its diagonal is 1.
    """
    total = torch.stack(list(grams)).double().sum(dim=0)
    wanted = torch.zeros_like(start, dtype=torch.float64)
    for matrix, gram in zip(matrices, grams, strict=True):
        wanted += (matrix.double() - start.double()) @ gram.double()
    sizes = total.diagonal().clamp(min=0.0).sqrt()
    units = torch.where(sizes > 0.0, 1.0 / sizes, 0.0)  # what is always 0 has no direction
    return start.double() + _divided(wanted * units, units[:, None] * total * units, rtol) * units


def _divided(wanted: Tensor, gram: Tensor, rtol: float) -> Tensor:
    """``wanted @ gram^+``: by Cholesky's factor, ten times faster than eigenvectors, where the matrix is safely positive."""
    factor, failed = torch.linalg.cholesky_ex(gram)
    if int(failed) == 0 and float(factor.diagonal().square().min()) > rtol:
        return torch.cholesky_solve(wanted.T, factor).T
    return wanted @ pseudo_inverse(gram, rtol)
