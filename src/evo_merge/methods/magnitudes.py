"""The order of a task vector's magnitudes: which entries are the largest of any number of them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy
import torch
from torch import Tensor

from evo_merge.methods.bitmasks import float_bits, magnitude_bits
from evo_merge.methods.counting import CountedMagnitudes
from evo_merge.methods.parts import parts

EQUALS = ("all", "first", "sorted")  # which entries stay of those as large as the smallest kept one
# A selection takes about a twelfth of a sort; whoever asks a third time goes on asking.
_SELECTIONS = 2
_INT32 = 1 << 31
_COUNTED = 1 << 18  # entries from which on counting is quicker than selecting
_SIDE_BY_SIDE = 1 << 18  # entries of a vector for which starting a thread is nothing
ORDER_BYTES = 4  # an entry of a sorted order
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Boundary:
    """The smallest of the largest entries: those are the ones with a larger magnitude, or with its own and no smaller index.

    Attributes:
        magnitude: As ``float32`` has it.
        index: In the flattened tensor.
    """

    magnitude: float
    index: int


EVERY_INDEX = -(1 << 31)  # entries of one magnitude stay or go together
ALL_ENTRIES = Boundary(0.0, EVERY_INDEX)
NO_ENTRY = Boundary(float("inf"), 0)


@dataclass(frozen=True, slots=True)
class TaskVectors:
    """One tensor of every model as it waits, flattened, from which task vectors are made when and where they are looked at.

    Attributes:
        sources: Each ``(n_entries,)``, in the dtype it is stored in.
        base: ``(n_entries,)``; ``None`` where the sources themselves are merged.
        dtype: Of the arithmetic.
    """

    sources: tuple[Tensor, ...]
    base: Tensor | None
    dtype: torch.dtype

    @property
    def n_entries(self) -> int:
        """Of each tensor."""
        return self.sources[0].numel()

    def part(self, part: slice) -> "TaskVectors":
        """Only some of the entries, in the same memory."""
        return TaskVectors(
            tuple(source[part] for source in self.sources), None if self.base is None else self.base[part], self.dtype
        )

    def whole(self, source: int) -> Tensor:
        """A source's vector, ``(n_entries,)``."""
        vector = self.sources[source].to(self.dtype)
        return vector if self.base is None else vector - self.base.to(self.dtype)

    def magnitudes(self, source: int) -> Tensor:
        """Of a source's vector, ``(n_entries,)`` ``float32``; nobody else's, and made with two of its size in memory."""
        vector = self.sources[source].to(self.dtype, copy=True)
        if self.base is not None:
            vector -= self.base.to(self.dtype)
        return vector.float().abs_()

    def magnitudes_by_part(self, source: int) -> Iterator[Tensor]:
        """Of a source's vector, some at a time, as ``counting`` takes them."""
        for part in parts(self.n_entries, self.sources[0].device):
            yield magnitude_bits(self.part(part).whole(source))

    def magnitude(self, source: int, index: int) -> float:
        """Of one entry."""
        vector = self.sources[source][index].to(self.dtype)
        return abs(float(vector if self.base is None else vector - self.base[index].to(self.dtype)))


class Thresholds(Protocol):
    """Finds from which magnitude on the entries of a tensor's task vectors are kept."""

    def thresholds(self, vectors: TaskVectors, density: Sequence[float]) -> list[Boundary]:
        """Of each source's vector the boundary of the share of entries to keep; all of one magnitude stay or go together.

        Args:
            vectors: Of the whole tensor.
            density: Of each source the share, see ``n_largest``.
        """


def n_largest(density: float, n_entries: int) -> int:
    """How many of so many entries a density keeps: the whole part of its share, but at least one above density 0."""
    return 0 if density <= 0.0 else max(1, int(density * n_entries))


class MagnitudeOrder:
    """Finds boundaries in the magnitudes of one tensor's task vectors: at first by selection, then in a sorted order.

    The order takes ``ORDER_BYTES`` an entry, and makes a boundary of any number of entries a look-up.
    """

    def __init__(self, of_sources: Sequence["SourceOrder"] = ()) -> None:
        self._of_sources = list(of_sources)

    def thresholds(self, vectors: TaskVectors, density: Sequence[float]) -> list[Boundary]:
        """As ``Thresholds`` has it, of the entries of this tensor."""
        return self.boundaries(vectors, [n_largest(share, vectors.n_entries) for share in density], exact=False)

    def boundaries(self, vectors: TaskVectors, n_kept: Sequence[int], *, exact: bool) -> list[Boundary]:
        """Of each source's vector the boundary of so many largest entries, of equal ones the last.

        Args:
            vectors: The same whenever it is asked.
            n_kept: Of each source how many.
            exact: Whether the index is looked at. In tensors beyond what ``int32`` can count it is not found: all entries of
                one magnitude stay or go together.
        """
        orders = self._of_sources = self._of_sources or [SourceOrder() for _ in n_kept]

        def boundary(source: int) -> Boundary:
            n = n_kept[source]
            if not 0 < n < vectors.n_entries:
                return NO_ENTRY if n <= 0 else ALL_ENTRIES
            order = orders[source].ascending(vectors, source)
            return _selected(vectors, source, n, exact=exact) if order is None else _looked_up(vectors, source, n, order)

        if any(order.is_sorted_next for order in orders):
            return _of_each(vectors, boundary)
        return [boundary(source) for source in range(len(n_kept))]


class SourceOrder:
    """The order of one source's magnitudes in one tensor, which other sources beside it do not change."""

    def __init__(self) -> None:
        self._asked = 0
        self._order: Tensor | None = None

    @property
    def is_sorted_next(self) -> bool:
        """Whether it is sorted when it is asked for next."""
        return self._order is None and self._asked >= _SELECTIONS

    def ascending(self, vectors: TaskVectors, source: int) -> Tensor | None:
        """Indices from the smallest magnitude to the largest; ``None`` the first times, when selecting is quicker."""
        self._asked += 1
        if self._order is None and self._asked > _SELECTIONS:
            self._order = _ascending(vectors.magnitudes(source))
        return self._order


def _of_each(vectors: TaskVectors, find: Callable[[int], _T]) -> list[_T]:
    """What is found of each source, side by side where that pays: numpy lets go of Python while it sorts."""
    sources = range(len(vectors.sources))
    if vectors.n_entries < _SIDE_BY_SIDE or torch.get_num_threads() == 1 or not vectors.sources[0].is_cpu:
        return [find(source) for source in sources]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return list(threads.map(find, sources))


def largest(vector: Tensor, n_kept: int, equals: str) -> Tensor:
    """Where the ``n_kept`` largest magnitudes are.

    Args:
        vector: ``(*shape)``, a whole tensor.
        n_kept: From 0 to the number of entries.
        equals: Which entries stay of those as large as the smallest kept one: ``all``, so that the result does not depend on
            their order and may be a few more; the ``first`` of them, so that exactly ``n_kept`` stay; or, in ``sorted``, those
            that torch's unstable sort puts in front, which is another choice on processors of another kind.

    Returns:
        ``(*shape)`` ``bool``.
    """
    if n_kept <= 0:
        return torch.zeros_like(vector, dtype=torch.bool)
    if n_kept >= vector.numel():
        return torch.ones_like(vector, dtype=torch.bool)
    magnitudes = vector.float().abs()
    if equals == "sorted" and vector.dtype == torch.bfloat16:  # next to none of its magnitudes has one entry only
        return _sorted_first(magnitudes, n_kept)
    threshold = _threshold(magnitudes.flatten().clone(), n_kept)
    if equals == "all":
        return magnitudes >= threshold
    if equals == "sorted":
        kept = magnitudes >= threshold
        return kept if int(kept.sum()) == n_kept else _sorted_first(magnitudes, n_kept)
    kept = magnitudes > threshold
    equal = (magnitudes == threshold).flatten().nonzero().flatten()
    kept.view(-1)[equal[: n_kept - int(kept.sum())]] = True
    return kept


def _sorted_first(magnitudes: Tensor, n_kept: int) -> Tensor:
    kept = torch.zeros(magnitudes.numel(), dtype=torch.bool, device=magnitudes.device)
    kept[magnitudes.flatten().argsort(descending=True)[:n_kept]] = True
    return kept.view(magnitudes.shape)


def _looked_up(vectors: TaskVectors, source: int, n_kept: int, ascending: Tensor) -> Boundary:
    index = int(ascending[vectors.n_entries - n_kept])
    return Boundary(vectors.magnitude(source, index), index if vectors.n_entries < _INT32 else EVERY_INDEX)


def _selected(vectors: TaskVectors, source: int, n_kept: int, *, exact: bool) -> Boundary:
    n, on_cpu = vectors.n_entries, vectors.sources[0].is_cpu
    if n < _COUNTED or not on_cpu:
        magnitudes = vectors.magnitudes(source)
        threshold = _threshold(magnitudes.clone() if exact else magnitudes, n_kept)
        if not exact or n >= _INT32:
            return Boundary(threshold, EVERY_INDEX)
        n_equal = n_kept - int((magnitudes > threshold).sum())  # at least 1
        return Boundary(threshold, int((magnitudes == threshold).nonzero()[-n_equal]))
    counted = CountedMagnitudes(partial(vectors.magnitudes_by_part, source), vectors.dtype)
    threshold, n_equal = counted.of_ranks([n_kept])[n_kept]
    has_place = exact and n < _INT32
    return Boundary(threshold, _place_from_end(vectors, source, float_bits(threshold), n_equal) if has_place else EVERY_INDEX)


def _place_from_end(vectors: TaskVectors, source: int, bits: int, n: int) -> int:
    """Where the ``n``-th last entry is of those with the magnitude of these bits."""
    end, passed = vectors.n_entries, 0
    for part in reversed(list(parts(end, torch.device("cpu")))):
        places = numpy.flatnonzero((magnitude_bits(vectors.part(part).whole(source)) == bits).numpy())
        if passed + len(places) >= n:
            return int(part.start + places[passed - n])
        passed += len(places)
    raise ValueError(f"fewer than {n} entries have that magnitude")


def _threshold(magnitudes: Tensor, n_kept: int) -> float:
    """The ``n_kept``-th largest of ``(n,)`` ``float32`` magnitudes, which are put in another order."""
    place = magnitudes.numel() - n_kept
    if not magnitudes.is_cpu:
        return float(magnitudes.kthvalue(place + 1).values)
    values = magnitudes.numpy()  # numpy selects with vector instructions, torch does not
    values.partition(place)
    return float(values[place])


def _ascending(magnitudes: Tensor) -> Tensor:
    """Indices of ``(n,)`` ``float32`` magnitudes from the smallest to the largest, equal ones in their order; on the CPU."""
    if not magnitudes.is_cpu:
        return magnitudes.argsort(stable=True).to(torch.int32).cpu()
    n = magnitudes.numel()
    if n >= _INT32:
        return magnitudes.argsort(stable=True)
    # The bits of a non-negative float order like the number; with the index below them, equal ones keep their order, and
    # numpy sorts whole numbers with vector instructions.
    keys = magnitudes.numpy().view(numpy.uint32).astype(numpy.uint64)
    keys <<= numpy.uint64(32)
    keys |= numpy.arange(n, dtype=numpy.uint64)
    keys.sort()
    return torch.from_numpy(keys.astype(numpy.uint32).view(numpy.int32))
