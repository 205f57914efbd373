"""The magnitudes of a whole task vector, over all tensors of a model: which entries are the largest of any number of them.

A task vector need not fit into memory. One pass over the tensors counts its magnitudes in bins by the upper half of their
bits, which order like the numbers; a threshold lies in one of the bins, whose lower halves another pass counts. Both are exact,
take as little room however large the model is, and are kept: a density whose bin is known is a look-up.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from evo_merge.methods.magnitudes import ALL_ENTRIES, NO_ENTRY, Boundary, TaskVectors, n_largest

_LOWER_BITS = 15  # of the 31 of a float32 without its sign
_N_UPPER, _N_LOWER = 1 << 16, 1 << _LOWER_BITS
_PIECE = 1 << 18  # entries looked at together, so that they stay in the processor's cache
_GPU_PIECE = 1 << 25
_EVERY_INDEX = -(1 << 31)  # entries of one magnitude stay or go together


@dataclass(frozen=True, slots=True)
class Counts:
    """How many entries have which value, from the largest value down.

    Attributes:
        values: ``(n_values,)`` ``int64``, those that some entry has.
        n_up_to: ``(n_values,)`` ``int64``, how many have the value or a larger one.
    """

    values: Tensor
    n_up_to: Tensor

    @classmethod
    def of(cls, counts: Tensor) -> "Counts":
        """From how many have the values 0, 1, …: ``(n,)``."""
        there = counts.nonzero().flatten().flip(0)
        return cls(there.cpu(), counts[there].cumsum(0).cpu())

    @property
    def n_entries(self) -> int:
        """Of all values."""
        return int(self.n_up_to[-1]) if len(self.n_up_to) else 0

    def value_of(self, rank: int) -> tuple[int, int]:
        """The value of the ``rank``-th largest entry, from 1 on, and its rank among those of that value."""
        place = int(torch.searchsorted(self.n_up_to, rank))
        return int(self.values[place]), rank - (int(self.n_up_to[place - 1]) if place else 0)


class ModelMagnitudes:
    """The magnitudes of one source's task vector over all tensors.

    Args:
        tensors: Goes through the tensors, each as ``TaskVectors`` of this source alone, the same whenever it is called.
    """

    def __init__(self, tensors: Callable[[], Iterator[TaskVectors]]) -> None:
        self._tensors = tensors
        self._lock = Lock()
        self._upper: Counts | None = None
        self._lower: dict[int, Counts] = {}  # by bin

    def thresholds(self, density: Collection[float]) -> dict[float, Boundary]:
        """By density the boundary of its share of all entries (``n_largest``). May be called from several threads."""
        with self._lock:  # others wait for the pass that they would make
            if self._upper is None:
                self._upper = self._count_upper()
            upper, found = self._upper, dict[float, Boundary]()
            kept = {share: n_largest(share, upper.n_entries) for share in density}
            ranks = {share: upper.value_of(n) for share, n in kept.items() if 0 < n < upper.n_entries}
            if new := {value for value, _ in ranks.values()} - self._lower.keys():
                self._lower |= self._count_lower(sorted(new))
            for share, n in kept.items():
                if share in ranks:
                    value, rank = ranks[share]
                    low, _ = self._lower[value].value_of(rank)
                    found[share] = Boundary(_as_float(value << _LOWER_BITS | low), _EVERY_INDEX)
                else:
                    found[share] = ALL_ENTRIES if n else NO_ENTRY
        return found

    def _count_upper(self) -> Counts:
        counts = torch.zeros(_N_UPPER, dtype=torch.int64)
        for bits in self._bits():
            counts = counts.to(bits.device)
            _count(counts, bits >> _LOWER_BITS)
        return Counts.of(counts)

    def _count_lower(self, bins: Sequence[int]) -> dict[int, Counts]:
        """Of the entries of each bin, in one pass."""
        rows = torch.full((_N_UPPER,), -1)
        rows[list(bins)] = torch.arange(len(bins))
        counts = torch.zeros(len(bins) * _N_LOWER, dtype=torch.int64)
        for bits in self._bits():
            rows, counts = rows.to(bits.device), counts.to(bits.device)
            # By places: to select with a mask, or by rows[...], takes twice as long.
            row = rows.index_select(0, bits >> _LOWER_BITS)
            inside = (row >= 0).nonzero().flatten()
            _count(counts, row[inside] * _N_LOWER + (bits[inside] & (_N_LOWER - 1)))
        return {value: Counts.of(row) for value, row in zip(bins, counts.view(len(bins), -1), strict=True)}

    def _bits(self) -> Iterator[Tensor]:
        """The magnitudes, some at a time, as the whole numbers that their bits are: ``(n,)`` ``int32``, not negative."""
        for tensor in self._tensors():
            (source,), base = tensor.sources, tensor.base
            size = _PIECE if source.device.type == "cpu" else _GPU_PIECE
            for start in range(0, tensor.n_entries, size):
                part = slice(start, start + size)
                piece = TaskVectors((source[part],), None if base is None else base[part], tensor.dtype)
                yield piece.magnitudes(0).view(torch.int32)


@dataclass(frozen=True, slots=True)
class ModelThresholds:
    """Thresholds over the whole model, which are the same for all tensors of one density.

    Attributes:
        found: Of each source by density.
    """

    found: tuple[Mapping[float, Boundary], ...]

    @classmethod
    def of(cls, sources: Sequence[ModelMagnitudes], densities: Sequence[Collection[float]]) -> "ModelThresholds":
        """Those of all densities that will be asked for, of each source in at most two passes; the sources side by side."""
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            return cls(tuple(threads.map(ModelMagnitudes.thresholds, sources, densities)))

    def thresholds(self, vectors: TaskVectors, density: Sequence[float]) -> list[Boundary]:
        """As ``Thresholds`` has it, of the entries of all tensors; of a density that was found."""
        return [found[share] for found, share in zip(self.found, density, strict=True)]


def _count(counts: Tensor, values: Tensor) -> None:
    """Add to ``(n,)`` counts how often each of the values 0 to n - 1 comes; whole numbers, so that no order matters."""
    counts.index_add_(0, values, torch.ones(values.numel(), dtype=torch.int64, device=values.device))


def _as_float(bits: int) -> float:
    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))
