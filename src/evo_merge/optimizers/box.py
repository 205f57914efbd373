"""The box that genomes live in, and its map to the unit cube in which optimizers work."""

from collections.abc import Sequence

import numpy as np

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene, Genomes


class Box:
    """A finite box of real genes; raises ``ConfigError`` for others."""

    def __init__(self, genes: Sequence[Gene], optimizer: str) -> None:
        if odd := [gene for gene in genes if gene.kind != "real"]:
            raise ConfigError(f"optimizer={optimizer} moves real genes only, and '{odd[0].name}' is {odd[0].kind}")
        self._low = np.asarray([gene.low for gene in genes], dtype=np.float64)
        self._high = np.asarray([gene.high for gene in genes], dtype=np.float64)
        if not np.isfinite([self._low, self._high]).all():
            raise ConfigError(f"optimizer={optimizer} needs bounds for every gene; set merge.bounds")
        self.start = (np.asarray([gene.start for gene in genes]) - self._low) / (self._high - self._low)

    @property
    def dim(self) -> int:
        """How many genes there are."""
        return len(self._low)

    def from_unit(self, points: Genomes) -> Genomes:
        """``(n, dim)`` in [0, 1] to the box; rounding never leaves it."""
        return np.clip(self._low + points * (self._high - self._low), self._low, self._high)
