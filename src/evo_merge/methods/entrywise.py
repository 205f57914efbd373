"""Merges that look at every entry by itself once a few numbers are known of its tensor: one function, for chunks and compilers.

All of them are a weighted sum of vectors that are thinned or not, with a vote or not. Whatever needs the whole tensor (a
threshold, a norm) is found before, and is among the numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from evo_merge.methods.base import AlignedTensors, MergeMethod, Noise
from evo_merge.methods.consensus import sum_agreeing
from evo_merge.methods.magnitudes import ALL_ENTRIES, NO_ENTRY, Boundary, MagnitudeOrder, TaskVectors
from evo_merge.methods.noise import as_bits, below_share, entry_index, share_of_bits

_NO_NORM = 1e-7  # mergekit's threshold, below which norms are not matched
_WEIGHT, _FACTOR, _SHARE, _LOW, _LOW_INDEX, _HIGH, _HIGH_INDEX, _RECIPROCAL, _LAMBDA = range(9)

# What a merge must know of one tensor beside its entries, (n_models, 9) float64, in which every int32 is exact. One table,
# because each tensor more that a compiled function takes costs as much as merging a small one. Of each source: its weight, the
# factor of what is kept, the share of bits (``share_of_bits``), the magnitude and the index from which on entries are kept, and
# those from which on they are dropped again; then, the same for all, the two numbers that the sum is multiplied by.
Numbers: TypeAlias = Tensor

Bits: TypeAlias = Callable[[int], Tensor]  # bits(source) is random bits, (n,) int32, of the source in that place


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
        (value, t.factor, share_of_bits(t.share), t.low.magnitude, t.low.index, t.high.magnitude, t.high.index, *shared)
        for value, t in zip(weight.tolist(), thinned, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def merge_entries(
    form: Form, base: Tensor | None, sources: Sequence[Tensor], numbers: Numbers, index: Tensor, bits: Bits
) -> Tensor:
    """Merge a tensor, or any part of it; everything on one device.

    Args:
        form: What is done.
        base: ``(n,)``, in the dtype of the arithmetic; ``None`` where the form has no task vectors.
        sources: Of each model ``(n,)``.
        numbers: Of the whole tensor.
        index: ``(n,)`` ``int32``, the places of the entries in their tensor.
        bits: Asked where the form thins by chance.

    Returns:
        ``(n,)``.
    """
    weight = [numbers[k, _WEIGHT].to(source) for k, source in enumerate(sources)]
    weighted = []
    for k, source in enumerate(sources):
        vector = source if base is None else source - base
        if form.thinning != "none":
            # A product: torch chooses between numbers several times as slowly as it multiplies.
            vector = _kept(form, k, vector, numbers, index, bits) * vector * numbers[k, _FACTOR].to(torch.float32)
        weighted.append(weight[k] * vector)
    total = sum_agreeing(weighted, weight, vote=form.vote, mean=form.mean)
    total = total * numbers[0, _RECIPROCAL].to(torch.float32) * numbers[0, _LAMBDA].to(torch.float32)
    return total if base is None else base + total


def _kept(form: Form, k: int, vector: Tensor, numbers: Numbers, index: Tensor, bits: Bits) -> Tensor:
    """Where a source's entries are kept."""
    low, low_index, high, high_index = (numbers[k, column] for column in (_LOW, _LOW_INDEX, _HIGH, _HIGH_INDEX))
    if form.thinning == "chance":
        return below_share(bits(k), numbers[k, _SHARE].to(torch.int32))
    magnitude = vector.float().abs()
    if form.thinning == "largest":
        return magnitude >= low.to(torch.float32)
    # Exact numbers: a bfloat16 task vector has so many equal entries that all of them might be outliers together.
    kept = _beyond(magnitude, index, low, low_index)
    return kept & ~_beyond(magnitude, index, high, high_index)


def _beyond(magnitude: Tensor, index: Tensor, boundary: Tensor, place: Tensor) -> Tensor:
    bound = boundary.to(torch.float32)
    return (magnitude > bound) | ((magnitude == bound) & (index >= place.to(torch.int32)))


def with_norms(form: Form, vectors: TaskVectors, numbers: Numbers, bits: Bits) -> Numbers:
    """Numbers whose factors make the absolute values of what is kept sum to those of the whole vector, as mergekit has it.

    Not where a sum is almost 0, nor where a vector is dropped.
    """
    matched, device = numbers.clone(), vectors.sources[0].device
    index, there = entry_index(0, vectors.n_entries, device), numbers.to(device)
    for k in range(len(vectors.sources)):
        if float(numbers[k, _FACTOR]) == 0.0:
            continue
        vector = vectors.whole(k)
        kept = _kept(form, k, vector, there, index, bits) * vector
        before, after = float(vector.abs().sum()), float(kept.abs().sum())
        matched[k, _FACTOR] = 1.0 if min(before, after) < _NO_NORM else before / after
    return matched


class Entrywise:
    """A merge method that has a form: of a tensor it finds the numbers. With what is here it is a ``MergeMethod``.

    Where an option needs the whole tensor at once after all, ``form`` is ``None``, and ``merge_whole`` is there.

    Attributes:
        numbers: What must be known of one tensor, on the CPU. Called as ``numbers(vectors, order, bits, **parameters)``: the
            whole tensor of every model, the order of its magnitudes, chance of all entries, and what ``merge`` takes.
    """

    __slots__ = ()
    numbers: Callable[..., Numbers]
    elementwise: ClassVar[bool] = False  # a tensor is cut only after its numbers are found

    @property
    def form(self) -> Form | None:
        """What is done to each entry."""
        raise NotImplementedError

    @property
    def over_model(self) -> bool:
        """Whether ``numbers`` asks for thresholds of the whole model, so that its ``order`` is ``ModelThresholds``."""
        return False

    def prepare(self, tensors: AlignedTensors) -> MagnitudeOrder:
        """The order of the task vectors' magnitudes, which makes thresholds look-ups."""
        return MagnitudeOrder()

    def merge_whole(self, tensors: AlignedTensors, state: MagnitudeOrder, noise: Noise, **parameters: Tensor) -> Tensor:
        """As ``merge``, of a method without a form."""
        raise NotImplementedError

    def merge(self, tensors: AlignedTensors, state: MagnitudeOrder, noise: Noise, **parameters: Tensor) -> Tensor:
        """Merge one whole tensor, as ``MergeMethod.merge``."""
        form = self.form
        if form is None:
            return self.merge_whole(tensors, state, noise, **parameters)
        sources = tuple(source.flatten().to(arithmetic(form, source.dtype)) for source in tensors.sources)
        base = tensors.base.flatten() if form.task_vectors and tensors.base is not None else None
        vectors = TaskVectors(sources, base, tensors.sources.dtype)

        def bits(source: int) -> Tensor:
            return as_bits(noise(source).flatten())

        numbers = self.numbers(vectors, state, bits, **parameters)
        index = entry_index(0, vectors.n_entries, sources[0].device)
        merged = merge_entries(form, base, sources, numbers, index, bits)
        return merged.reshape(tensors.sources.shape[1:]).to(tensors.sources.dtype)


def form_of(method: MergeMethod) -> Form | None:
    """The form of a method that may be merged by it; ``None`` of all others, such as one that has a ``merge`` of its own."""
    return method.form if isinstance(method, Entrywise) and type(method).merge is Entrywise.merge else None


def arithmetic(form: Form, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sources are merged that are read in a recipe's: averages take ``float32`` at least, as in mergekit."""
    return dtype if form.task_vectors else torch.promote_types(dtype, torch.float32)
