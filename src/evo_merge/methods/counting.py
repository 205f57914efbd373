"""Order statistics of magnitudes by counting them, for as many entries as there may be.

One pass counts magnitudes in bins by the upper half of their bits, which order like the numbers; a threshold lies in one of the
bins, whose lower halves another pass counts. Both are exact and take as little room however many entries there are, and what
was counted is kept: a rank whose bin is known is a look-up.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

_LOWER_BITS = 15  # of the 31 of a float32 without its sign
_N_UPPER, _N_LOWER = 1 << 16, 1 << _LOWER_BITS
_KEPT = 256  # bins whose lower halves are kept, each of half a megabyte at most

# Goes through the magnitudes, some at a time, as the whole numbers that their bits are: each (n,) int32, not negative; the same
# whenever it is called.
Parts: TypeAlias = Callable[[], Iterator[Tensor]]


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


class CountedMagnitudes:
    """Finds the magnitudes of any ranks.

    Args:
        parts: The magnitudes.
        dtype: That all of them have a number in: with those of ``bfloat16`` there is nothing to count in the lower halves.
    """

    def __init__(self, parts: Parts, dtype: torch.dtype) -> None:
        self._parts, self._has_lower = parts, dtype != torch.bfloat16
        self._upper: Counts | None = None
        self._lower: dict[int, Counts] = {}  # by bin

    @property
    def n_entries(self) -> int:
        """Of all parts."""
        return self._counted.n_entries

    def of_ranks(self, ranks: Collection[int]) -> dict[int, tuple[float, int]]:
        """By rank, from 1 for the largest entry on, its magnitude, and its rank among the entries of that magnitude."""
        binned = {rank: self._counted.value_of(rank) for rank in ranks}
        if not self._has_lower:
            return {rank: (_as_float(value << _LOWER_BITS), among) for rank, (value, among) in binned.items()}
        if new := {value for value, _ in binned.values()} - self._lower.keys():
            if len(self._lower) > _KEPT:
                self._lower.clear()
                new = {value for value, _ in binned.values()}
            self._lower |= self._count_lower(sorted(new))
        found = {}
        for rank, (value, rank_in_bin) in binned.items():
            lower, among = self._lower[value].value_of(rank_in_bin)
            found[rank] = _as_float(value << _LOWER_BITS | lower), among
        return found

    @property
    def _counted(self) -> Counts:
        if self._upper is None:
            counts = torch.zeros(_N_UPPER, dtype=torch.int64)
            for bits in self._parts():
                counts = counts.to(bits.device)
                counts += torch.bincount(bits >> _LOWER_BITS, minlength=_N_UPPER)
            self._upper = Counts.of(counts)
        return self._upper

    def _count_lower(self, bins: Sequence[int]) -> dict[int, Counts]:
        """Of the entries of each bin, in one pass."""
        is_asked, rows = torch.zeros(_N_UPPER, dtype=torch.bool), torch.zeros(_N_UPPER, dtype=torch.int64)
        is_asked[list(bins)], rows[list(bins)] = True, torch.arange(len(bins))
        counts = torch.zeros(len(bins) * _N_LOWER, dtype=torch.int64)
        for bits in self._parts():
            is_asked, rows, counts = is_asked.to(bits.device), rows.to(bits.device), counts.to(bits.device)
            inside = _where(is_asked.index_select(0, bits >> _LOWER_BITS), bits)  # rows[...] would take twice as long
            row = rows.index_select(0, inside >> _LOWER_BITS)
            places = row * _N_LOWER + (inside & (_N_LOWER - 1))
            # Unlike bincount this makes no second table, which may be large.
            counts.index_add_(0, places, torch.ones_like(places))
        return {value: Counts.of(row) for value, row in zip(bins, counts.view(len(bins), -1), strict=True)}


def _where(is_meant: Tensor, values: Tensor) -> Tensor:
    """Those that are meant; by numpy, which takes a third of torch's time."""
    return torch.from_numpy(values.numpy()[is_meant.numpy()]) if values.is_cpu else values[is_meant]


def _as_float(bits: int) -> float:
    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))
