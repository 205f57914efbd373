"""Measures how mergeable a pool is in one pass over its weights, a few tensors in memory at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import prod, sqrt

import torch
from torch import Tensor

from evo_merge.mergeability import Mergeability, PairMeasure, SourceMeasure
from evo_merge.models.copies import are_equal, copies
from evo_merge.models.model import Model
from evo_merge.models.pool import Pool

_CPU = torch.device("cpu")
_CHUNK = 50_000  # entries; a few models' stay in the processor's cache, where rows a power of two apart would collide
_GPU_CHUNK = 4_000_000  # entries; below 2^24, up to which float32 counts exactly


def measure(pool: Pool, device: torch.device = _CPU) -> Mergeability:
    """Read every tensor of the base and the sources once and compare them; where there is no base, the sources alone.

    Arithmetic is float32 inside a chunk, and float64 over the chunks. Of shards or files of another layout a copy shows only
    here, so it is refused here.

    Args:
        pool: Models that ``refuse_unmixable`` lets through. Tensors that are not of floats are left out.
        device: Where the arithmetic runs.

    Raises:
        IncompatibleModelsError: Two sources have the same weights.
        ModelError: A tensor cannot be read, or is not finite.
    """
    leader, others = pool.models[0], pool.models[1:]
    sums = _Sums(len(others))
    same = dict.fromkeys(combinations(range(len(pool.sources)), 2), True)
    for name in leader.shapes:
        if not leader.dtypes[name].is_floating_point:
            continue
        tensors = [model.read(name).flatten() for model in pool.models]
        sources = tensors[-len(pool.sources) :]
        for i, j in [pair for pair, is_same in same.items() if is_same]:
            same[i, j] = are_equal(sources[i], sources[j])
        size = _CHUNK if device.type == "cpu" else _GPU_CHUNK
        for start in range(0, len(tensors[0]), size):
            chunk = [tensor[start : start + size].to(device, torch.float32) for tensor in tensors]
            sums.add(chunk, is_matrix=len(leader.shapes[name]) > 1)
    for (i, j), is_same in same.items():
        if is_same:
            raise copies(pool.sources[i], pool.sources[j])
    n_weights = sum(prod(shape) for name, shape in leader.shapes.items() if leader.dtypes[name].is_floating_point)
    names = [source.name for source in pool.sources]
    if pool.base is None:
        return Mergeability(None, None, n_weights, *_of_weights(sums, names))
    measured, pairs = _of_task_vectors(sums, names, n_weights)
    told = [
        replace(one, other_dtype=_other_dtype(source, pool.base)) for one, source in zip(measured, pool.sources, strict=True)
    ]
    return Mergeability(str(pool.base.reference), sqrt(sums.gram[0][0]), n_weights, tuple(told), pairs)


def _other_dtype(source: Model, base: Model) -> str | None:
    """Dtypes of a source and the base where a tensor is stored in two; ``None`` where differences are not of rounding."""
    if source.reference.adapter is not None and source.reference.base == base.reference:
        return None  # its tensors are the base's plus its own, added in float32
    pairs = {(source.dtypes[name], dtype) for name, dtype in base.dtypes.items() if name in base.shapes}
    odd = sorted(f"{_short(own)} beside {_short(of_base)}" for own, of_base in pairs if own != of_base)
    return ", ".join(odd) or None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass
class _Sums:
    """Sums over all entries of what a first model and the differences of ``n`` others from it have in common.

    Differences are exact where two models are near each other, as their norms and products are not; what is asked of the
    weights themselves follows from them.

    Attributes:
        gram: ``(1 + n, 1 + n)``, products of the first model (row 0) and the differences.
        of_vectors: ``(1 + n, 1 + n)``, the part of ``gram`` from tensors with less than two dimensions.
        magnitudes: ``(n, n)``, products of the magnitudes of the differences.
        signs: ``(n, n)``, entries where two differences agree in sign, less those where they do not.
        shared: ``(n, n)``, entries where neither is zero.
        totals: ``(n,)``, sums of the differences.
    """

    n: int
    gram: Tensor = field(init=False)
    of_vectors: Tensor = field(init=False)
    magnitudes: Tensor = field(init=False)
    signs: Tensor = field(init=False)
    shared: Tensor = field(init=False)
    totals: Tensor = field(init=False)

    def __post_init__(self) -> None:
        n = self.n
        self.gram, self.of_vectors = (torch.zeros(1 + n, 1 + n, dtype=torch.float64) for _ in range(2))
        self.magnitudes, self.signs, self.shared = (torch.zeros(n, n, dtype=torch.float64) for _ in range(3))
        self.totals = torch.zeros(n, dtype=torch.float64)

    def add(self, models: Sequence[Tensor], *, is_matrix: bool) -> None:
        """Take in a chunk of every model, each ``(n_entries,)`` in float32."""
        first, *others = models
        rows = torch.stack([first, *(other - first for other in others)])  # (1 + n, n_entries)
        differences = rows[1:]
        products = (rows @ rows.T).to(_CPU, torch.float64)
        self.gram += products
        if not is_matrix:
            self.of_vectors += products
        self.totals += differences.sum(dim=1).to(_CPU, torch.float64)
        signs = differences.sign()
        for table, matrix in ((self.magnitudes, differences.abs()), (self.signs, signs), (self.shared, signs.abs())):
            table += (matrix @ matrix.T).to(_CPU, torch.float64)

    def norm(self, i: int) -> float:
        """Of the weights of a model; 0 is the first."""
        return sqrt(max(_weight_product(self.gram, i, i), 0.0))

    def cosine(self, i: int, j: int) -> float:
        """Between the matrices of two models: vectors of norms are near one in all models, so that strangers agree in them."""
        of_matrices = self.gram - self.of_vectors
        squares = [max(_weight_product(of_matrices, k, k), 0.0) for k in (i, j)]
        return _bounded(_ratio(_weight_product(of_matrices, i, j), sqrt(squares[0] * squares[1]))) or 0.0

    def distance(self, i: int, j: int) -> float:
        """Norm of the difference of the weights of two models."""
        squares = [float(self.gram[k, k]) for k in (i, j) if k > 0]
        between = float(self.gram[i, j]) if i > 0 and j > 0 else 0.0
        return sqrt(max(sum(squares) - 2 * between, 0.0))


def _of_weights(sums: _Sums, names: Sequence[str]) -> tuple[tuple[SourceMeasure, ...], tuple[PairMeasure, ...]]:
    """Of a pool without a base, in which the first model is the first source."""
    sources = tuple(SourceMeasure(name, sums.norm(i)) for i, name in enumerate(names))
    pairs = tuple(PairMeasure(names[i], names[j], *_apart(sums, i, j)) for i, j in combinations(range(len(names)), 2))
    return sources, pairs


def _of_task_vectors(
    sums: _Sums, names: Sequence[str], n_weights: int
) -> tuple[tuple[SourceMeasure, ...], tuple[PairMeasure, ...]]:
    """Of a pool with a base, which is the first model, so that the differences are the task vectors."""
    base_norm = sums.norm(0)
    sources = []
    for i, name in enumerate(names, start=1):
        task_norm = sums.distance(i, 0)
        relative = _ratio(task_norm, base_norm)
        changed = float(sums.shared[i - 1, i - 1]) / n_weights
        sources.append(SourceMeasure(name, sums.norm(i), task_norm, relative, changed, sums.cosine(i, 0)))
    pairs = [_pair(sums, names, i, j, n_weights) for i, j in combinations(range(len(names)), 2)]
    return tuple(sources), tuple(pairs)


def _pair(sums: _Sums, names: Sequence[str], i: int, j: int, n_weights: int) -> PairMeasure:
    """Sources are counted from 0; of the models the first is the base."""
    gram, totals = sums.gram[1:, 1:], sums.totals
    product, squares = float(gram[i, j]), float(gram[i, i] * gram[j, j])
    # Pearson's correlation from raw moments; task vectors have means near zero, so little is lost in the differences.
    centred = product - float(totals[i] * totals[j]) / n_weights
    spreads = [float(gram[k, k]) - float(totals[k]) ** 2 / n_weights for k in (i, j)]
    shared, magnitude = float(sums.shared[i, j]), float(sums.magnitudes[i, j])
    conflict = _ratio((shared - float(sums.signs[i, j])) / 2, shared)
    weighted = _ratio((magnitude - product) / 2, magnitude)
    return PairMeasure(
        names[i],
        names[j],
        *_apart(sums, i + 1, j + 1),
        cosine=_bounded(_ratio(product, sqrt(squares))),
        kinship=_bounded(_ratio(centred, sqrt(max(spreads[0], 0.0) * max(spreads[1], 0.0)))),
        sign_conflict=conflict,
        weighted_conflict=None if weighted is None else min(max(weighted, 0.0), 1.0),
    )


def _apart(sums: _Sums, i: int, j: int) -> tuple[float, float]:
    """How far the weights of two models are from each other: relative distance, and cosine of the matrices."""
    return _ratio(sums.distance(i, j), (sums.norm(i) + sums.norm(j)) / 2) or 0.0, sums.cosine(i, j)


def _weight_product(gram: Tensor, i: int, j: int) -> float:
    """Scalar product of the weights of two models, from products of the first and the differences from it."""
    product = gram[0, 0] + sum(gram[0, k] for k in (i, j) if k > 0) + (gram[i, j] if i > 0 and j > 0 else 0.0)
    return float(product)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _bounded(cosine: float | None) -> float | None:
    """Rounding may carry a cosine past 1."""
    return None if cosine is None else min(max(cosine, -1.0), 1.0)
