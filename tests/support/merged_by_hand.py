"""Merges of one tensor, written down from the papers and from mergekit 0.1.5, without any of the package's methods."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def average(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Model soups: the mean by weight."""
    return added(weights, tensors) / sum(weights)


def added(weights: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    """The weighted sum."""
    total = torch.zeros_like(tensors[0])
    for weight, tensor in zip(weights, tensors, strict=True):
        total = total + weight * tensor
    return total


def arc(first: Tensor, second: Tensor, t: float) -> Tensor:
    """Slerp (Shoemake 1985) of the flattened tensors; almost parallel ones are mixed evenly."""
    u, v = first.flatten().double(), second.flatten().double()
    cosine = float(u @ v / (u.norm() * v.norm()))
    if abs(cosine) > 0.9995:
        return (1 - t) * first + t * second
    angle = math.acos(cosine)
    mixed = (math.sin((1 - t) * angle) * u + math.sin(t * angle) * v) / math.sin(angle)
    return mixed.view(first.shape).float()


def voted(vectors: Sequence[Tensor], weights: Sequence[float], *, normalize: bool) -> Tensor:
    """TIES, steps 2 and 3: what has the sign of the weighted sum is added, and divided by the weights that went in."""
    weighted = [weight * vector for weight, vector in zip(weights, vectors, strict=True)]
    sign = torch.where(sum(weighted) >= 0, 1.0, -1.0)
    total, share = torch.zeros_like(vectors[0]), torch.zeros_like(vectors[0])
    for weight, vector in zip(weights, weighted, strict=True):
        agrees = torch.sign(vector) == sign
        total = total + torch.where(agrees, vector, 0.0)
        share = share + weight * agrees
    return total / torch.where(share == 0, 1.0, share) if normalize else total


def trimmed(vector: Tensor, density: float) -> Tensor:
    """TIES, step 1: the largest entries of one tensor."""
    kept = torch.zeros(vector.numel())
    kept[vector.flatten().abs().topk(int(density * vector.numel())).indices] = 1.0
    return vector * kept.view(vector.shape)


def without_ends(vector: Tensor, density: float, gamma: float) -> Tensor:
    """Model Breadcrumbs: the largest are left out, then of the next ones as many kept as the density says."""
    n = vector.numel()
    order = vector.flatten().abs().argsort(descending=True)
    n_outliers = int(gamma * n)
    kept = torch.zeros(n)
    kept[order[n_outliers : n_outliers + int(density * n)]] = 1.0
    return vector * kept.view(vector.shape)


def dropped(vector: Tensor, chance: Tensor, density: float | Tensor) -> Tensor:
    """DARE with mergekit's rescale: an entry stays where its chance is below the density; the sum of magnitudes stays.

    Of a small tensor nothing may be left, and then there is nothing to rescale.
    """
    kept = torch.where(chance.view(vector.shape) < density, vector, 0.0)
    return kept * (vector.abs().sum() / kept.abs().sum()) if kept.any() else kept


def probabilities_by_rank(vector: Tensor, density: float, epsilon: float) -> Tensor:
    """MagPrune of DELLA: along a row from ``density - epsilon`` for the smallest to ``density + epsilon`` for the largest."""
    rank = vector.abs().argsort(dim=-1).argsort(dim=-1).float()
    return density - epsilon + 2 * epsilon * rank / (vector.shape[-1] - 1)


def stock(base: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """Model Stock, equations 7 and 8: between the base and the mean, by the mean angle of the task vectors."""
    vectors = [(source - base).flatten().double() for source in sources]
    n = len(vectors)
    cosines = [float(u @ v / (u.norm() * v.norm())) for i, u in enumerate(vectors) for v in vectors[i + 1 :]]
    cosine = sum(cosines) / len(cosines)
    t = n * cosine / (1 + (n - 1) * cosine)
    return t * sum(sources) / n + (1 - t) * base
