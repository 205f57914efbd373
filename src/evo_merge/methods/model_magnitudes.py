"""The magnitudes of a whole task vector, over all tensors of a model: which entries are the largest of any number of them.

A task vector need not fit into memory; its entries are counted (``counting``).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from evo_merge.methods.counting import CountedMagnitudes
from evo_merge.methods.magnitudes import ALL_ENTRIES, EVERY_INDEX, NO_ENTRY, Boundary, TaskVectors, n_largest


class ModelMagnitudes:
    """The magnitudes of one source's task vector over all tensors.

    Args:
        tensors: Goes through the tensors, each as ``TaskVectors`` of this source alone, the same whenever it is called.
        dtype: Of the task vectors.
    """

    def __init__(self, tensors: Callable[[], Iterator[TaskVectors]], dtype: torch.dtype) -> None:
        def by_part() -> Iterator[Tensor]:
            for vectors in tensors():
                yield from vectors.magnitudes_by_part(0)

        self._counted = CountedMagnitudes(by_part, dtype)
        self._lock = Lock()

    def thresholds(self, density: Collection[float]) -> dict[float, Boundary]:
        """By density the boundary of its share of all entries (``n_largest``). May be called from several threads."""
        with self._lock:  # others wait for the pass that they would make
            n_entries = self._counted.n_entries
            kept = {share: n_largest(share, n_entries) for share in density}
            found = self._counted.of_ranks({n for n in kept.values() if 0 < n < n_entries})
        boundaries = {n: Boundary(magnitude, EVERY_INDEX) for n, (magnitude, _) in found.items()}
        return {share: boundaries.get(n, ALL_ENTRIES if n else NO_ENTRY) for share, n in kept.items()}


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
