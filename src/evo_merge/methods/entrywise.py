"""Merges that look at every entry by itself once a few numbers are known of its tensor: one function, for parts and compilers.

All of them are a weighted sum of vectors that are thinned or not, with a vote or not. Whatever needs the whole tensor (a
threshold, a norm) is found before, and is among the numbers.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, MergeMethod, Noise
from evo_merge.methods.bitmasks import float_bits, reaches, where
from evo_merge.methods.consensus import sum_agreeing
from evo_merge.methods.magnitudes import ALL_ENTRIES, NO_ENTRY, Boundary, MagnitudeOrder, TaskVectors
from evo_merge.methods.noise import as_bits, below, bits_below, entry_index
from evo_merge.methods.parts import parts

NO_NORM = 1e-7  # mergekit's threshold, below which norms are not matched

# What a merge must know of one tensor beside its entries, (n_models, 9) float64, in which every int32 is exact: of each source
# a ``Row``. One table, because each tensor more that a compiled function takes costs as much as merging a small one.
Numbers: TypeAlias = Tensor

Bits: TypeAlias = Callable[[int, Tensor], Tensor]  # bits(source, index) is random bits of these entries, (n,) int32


class Row(NamedTuple):
    """What a merge must know of one source's tensor: a number each, or ``()``."""

    weight: Tensor | float
    factor: Tensor | float  # of what is kept
    n_below: Tensor | int  # see ``bits_below``
    low: Tensor | float  # the magnitude from which on entries are kept, as ``bitmasks.reaches`` takes it
    low_index: Tensor | int  # and, among those of that magnitude, the place
    high: Tensor | float  # from which on they are dropped again
    high_index: Tensor | int
    reciprocal: Tensor | float  # what the sum of all sources is multiplied by, the same for all
    lambda_: Tensor | float  # and this


_FACTOR = Row._fields.index("factor")
_WHOLE_NUMBERS = ("n_below", "low_index", "high_index")


@dataclass(frozen=True, slots=True)
class Form:
    """What is done to each entry, as a method's options have it. Each form is compiled once.

    Attributes:
        task_vectors: Whether what is summed is source minus base, and is added to the base.
        thinning: ``none``; by ``chance``; only the ``largest`` entries; or a ``band`` of them, without the very largest.
        vote: Sum only what has the sign of the sum of all.
        mean: After a vote, divide each entry by the weights that went into it.
    """

    task_vectors: bool = True
    thinning: str = "none"
    vote: bool = False
    mean: bool = False


@dataclass(frozen=True, slots=True)
class Thinned:
    """How one source's vector is thinned: what of it stays, and what that is multiplied by."""

    factor: float = 1.0
    share: float = 1.0
    low: Boundary = ALL_ENTRIES
    high: Boundary = NO_ENTRY


WHOLE = Thinned()
DROPPED = Thinned(factor=0.0, share=0.0, low=NO_ENTRY)


def numbers_of(weight: Tensor, thinned: Sequence[Thinned], *, divisor: float = 1.0, lambda_: float = 1.0) -> Numbers:
    """``Numbers`` of one tensor.

    Args:
        weight: ``(n_models,)``.
        thinned: One a source.
        divisor: The sum is divided by it.
        lambda_: And multiplied by it.
    """
    # Times the reciprocal: a GPU divides by a number so, and the CPU must come to the same bits.
    shared = (1.0 / divisor, lambda_)
    rows = [
        Row(value, t.factor, bits_below(t.share), t.low.magnitude, t.low.index, t.high.magnitude, t.high.index, *shared)
        for value, t in zip(weight.tolist(), thinned, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def rows_of(numbers: Numbers, dtype: torch.dtype) -> list[Row]:
    """The rows as Python's numbers, the weights rounded to the dtype that sources are merged in."""
    rounded = numbers[:, 0].to(dtype).tolist()
    rows = []
    for weight, (_, factor, n_below, low, low_index, high, high_index, *shared) in zip(rounded, numbers.tolist(), strict=True):
        bounds = float_bits(low), int(low_index), float_bits(high), int(high_index)
        rows.append(Row(weight, factor, int(n_below), *bounds, *shared))
    return rows


def traced_rows(numbers: Numbers) -> list[Row]:
    """The rows as tensors, for a compiler: each ``()``, ``int32`` or ``float32``."""
    types = [torch.int32 if name in _WHOLE_NUMBERS else torch.float32 for name in Row._fields]
    return [Row(*(number.to(dtype) for number, dtype in zip(row, types, strict=True))) for row in numbers]


def merge_entries(
    form: Form, base: Tensor | None, sources: Sequence[Tensor], rows: Sequence[Row], index: Tensor, bits: Bits
) -> Tensor:
    """Merge a tensor, or any part of it; everything on one device.

    Args:
        form: What is done.
        base: ``(n,)``, in the dtype of the arithmetic; ``None`` where the form has no task vectors.
        sources: Of each model ``(n,)``.
        rows: Of each model, of the whole tensor.
        index: ``(n,)`` ``int32``, the places of the entries in their tensor.
        bits: Asked where the form thins by chance.

    Returns:
        ``(n,)``.
    """
    weighted = []
    for k, (source, row) in enumerate(zip(sources, rows, strict=True)):
        vector = source.clone() if base is None else source - base
        if form.thinning != "none":
            vector = _times(where(_kept(form, vector, row, index, partial(bits, k)), vector), row.factor)
        weighted.append(_times(vector, row.weight))
    total = sum_agreeing(weighted, [row.weight for row in rows], vote=form.vote, mean=form.mean)
    total = _times(_times(total, rows[0].reciprocal), rows[0].lambda_)
    return total if base is None else total.add_(base)


def _times(values: Tensor, factor: Tensor | float) -> Tensor:
    """In place: the less memory a part takes, the nearer it is."""
    return values if isinstance(factor, float) and factor == 1.0 else values.mul_(factor)


def _kept(form: Form, vector: Tensor, row: Row, index: Tensor, bits: Callable[[Tensor], Tensor]) -> Tensor:
    """Where a source's entries are kept: a mask (``bitmasks``)."""
    if form.thinning == "chance":
        return below(bits(index), row.n_below)
    if form.thinning == "largest":
        return reaches(vector, row.low)
    # Exact numbers: a bfloat16 task vector has so many equal entries that all of them might be outliers together.
    return reaches(vector, row.low, index, row.low_index) & ~reaches(vector, row.high, index, row.high_index)


def with_norms(form: Form, vectors: TaskVectors, numbers: Numbers, bits: Bits) -> Numbers:
    """Numbers whose factors make the absolute values of what is kept sum to those of the whole vector, as mergekit has it.

    Not where a sum is almost 0, nor where a vector is dropped.
    """
    device = vectors.sources[0].device
    rows = {k: row for k, row in enumerate(rows_of(numbers, vectors.dtype)) if row.factor != 0.0}
    sums = {k: [0.0, 0.0] for k in rows}  # of the whole vector, and of what is kept
    for part in parts(vectors.n_entries, device):
        some, index = vectors.part(part), entry_index(part.start, part.stop - part.start, device)
        for k, row in rows.items():
            vector = some.whole(k)
            kept = where(_kept(form, vector, row, index, partial(bits, k)), vector)
            sums[k] = [total + _sum_of_magnitudes(each) for total, each in zip(sums[k], (vector, kept), strict=True)]
    matched = numbers.clone()
    for k, totals in sums.items():
        rounded = torch.tensor(totals, dtype=vectors.dtype).tolist()
        whole, kept_of_it = totals if math.inf in rounded else rounded  # float16 ends at 65504
        matched[k, _FACTOR] = 1.0 if min(whole, kept_of_it) < NO_NORM else whole / kept_of_it
    return matched


def _sum_of_magnitudes(vector: Tensor) -> float:
    magnitudes = vector.abs().float()
    # numpy sums in the same order on any number of threads.
    return float(magnitudes.numpy().sum() if magnitudes.is_cpu else magnitudes.sum(dtype=torch.float64))


class Entrywise(ABC):
    """A merge method that has a form: of a tensor it finds the numbers. With what is here it is a ``MergeMethod``.

    Attributes:
        merge_whole: As ``merge``, where an option needs the whole tensor at once after all and ``form`` is ``None``; methods
            that always have a form lack it.
        numbers: What must be known of one tensor, on the CPU. Called as ``numbers(vectors, order, bits, **parameters)``: the
            whole tensor of every model, the order of its magnitudes, chance of all entries, and what ``merge`` takes.
    """

    __slots__ = ()
    numbers: Callable[..., Numbers]
    merge_whole: Callable[..., Tensor]
    elementwise: ClassVar[bool] = False  # a tensor is cut only after its numbers are found

    @property
    @abstractmethod
    def form(self) -> Form | None:
        """What is done to each entry; ``None`` where that takes the whole tensor."""

    @property
    def over_model(self) -> bool:
        """Whether ``numbers`` asks for thresholds of the whole model, so that its ``order`` is ``ModelThresholds``."""
        return False

    def model_shares(self, density: Tensor, **others: Tensor) -> list[set[float]]:
        """Of each source the shares of the model's entries whose thresholds ``numbers`` asks for, where ``over_model``."""
        return [{share} for share in density.tolist()]

    def prepare(self, tensors: AlignedTensors) -> MagnitudeOrder:
        """The order of the task vectors' magnitudes, which makes thresholds look-ups."""
        return MagnitudeOrder()

    def merge(self, tensors: AlignedTensors, state: MagnitudeOrder, noise: Noise, **parameters: Tensor) -> Tensor:
        """Merge one whole tensor, as ``MergeMethod.merge``."""
        form = self.form
        if form is None:
            return self.merge_whole(tensors, state, noise, **parameters)
        sources = tuple(source.flatten().to(arithmetic(form, source.dtype)) for source in tensors.sources)
        base = tensors.base.flatten() if form.task_vectors and tensors.base is not None else None
        vectors = TaskVectors(sources, base, tensors.sources.dtype)

        drawn: dict[int, Tensor] = {}

        def bits(source: int, index: Tensor) -> Tensor:
            if source not in drawn:
                drawn[source] = as_bits(noise(source).flatten())
            return drawn[source][index]

        numbers = self.numbers(vectors, state, bits, **parameters)
        index = entry_index(0, vectors.n_entries, sources[0].device)
        merged = merge_entries(form, base, sources, rows_of(numbers, sources[0].dtype), index, bits)
        return merged.reshape(tensors.sources.shape[1:]).to(tensors.sources.dtype)


def form_of(method: MergeMethod) -> Form | None:
    """The form of a method that may be merged by it; ``None`` of all others, such as one that has a ``merge`` of its own."""
    return method.form if isinstance(method, Entrywise) and type(method).merge is Entrywise.merge else None


def arithmetic(form: Form, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sources are merged that are read in a recipe's: averages take ``float32`` at least, as in mergekit."""
    return dtype if form.task_vectors else torch.promote_types(dtype, torch.float32)
