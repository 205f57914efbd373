"""The box that genomes live in, and its map to the coordinates in which optimizers step.

One step size suits all genes there: a gene with both bounds fills [0, 1], one without is counted in spans from its start.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene, Genomes


class Box:
    """Genes of the kinds that an optimizer takes; raises ``ConfigError`` for others.

    Attributes:
        start: ``(dim,)``, the genes' starts in coordinates.
        bounds: ``(dim, 2)``, lowest and highest coordinate; infinite where a gene has no bound.
    """

    def __init__(self, genes: Sequence[Gene], optimizer: str, kinds: Sequence[str] = ("real",)) -> None:
        if odd := [gene for gene in genes if gene.kind not in kinds]:
            raise ConfigError(
                f"optimizer={optimizer} moves {' and '.join(kinds)} genes only, and '{odd[0].name}' is {odd[0].kind}; "
                "choose optimizer=catcma, which takes every kind"
            )
        self._genes = tuple(genes)
        self._low = np.asarray([gene.low for gene in genes], dtype=np.float64)
        self._high = np.asarray([gene.high for gene in genes], dtype=np.float64)
        start = np.asarray([gene.start for gene in genes], dtype=np.float64)
        span = np.asarray([gene.span for gene in genes], dtype=np.float64)
        bounded = np.isfinite(self._low) & np.isfinite(self._high)
        self._origin = np.where(bounded, self._low, start)
        self._scale = np.where(bounded, self._high - self._low, span)
        self._bounded = bounded
        self.start = (start - self._origin) / self._scale
        self.bounds = np.stack([(end - self._origin) / self._scale for end in (self._low, self._high)], axis=1)

    @property
    def dim(self) -> int:
        """How many genes there are."""
        return len(self._genes)

    def mean(self, value: float | None) -> NDArray[np.float64]:
        """Coordinates ``(dim,)`` of a search's first mean: every gene at ``value``, or at its own start for ``None``.

        Raises:
            ConfigError: ``value`` lies outside a gene's bounds.
        """
        if value is None:
            return self.start.copy()
        for gene in self._genes:
            if not gene.low <= value <= gene.high:
                raise ConfigError(
                    f"optimizer.mean is {value}, outside [{gene.low}, {gene.high}] of '{gene.name}'; "
                    "optimizer.mean=null begins where each gene starts"
                )
        return np.asarray((value - self._origin) / self._scale, dtype=np.float64)

    def genomes(self, points: Genomes) -> Genomes:
        """Coordinates ``(n, dim)`` to the box; rounding never leaves it."""
        return np.asarray(np.clip(self._origin + points * self._scale, self._low, self._high), dtype=np.float64)

    def uniform(self, rng: np.random.Generator, size: int) -> Genomes:
        """``(size, dim)`` genomes, every value of a gene as likely as another.

        Where a real gene lacks a bound, its span around its start stands for the box.
        """
        draws = rng.uniform(size=(size, self.dim))
        start = np.asarray([gene.start for gene in self._genes])
        half = np.asarray([gene.span for gene in self._genes]) / 2
        whole = np.asarray([gene.kind != "real" for gene in self._genes], dtype=bool)
        low = np.where(self._bounded, self._low, np.maximum(self._low, start - half))
        high = np.where(self._bounded, self._high, np.minimum(self._high, start + half))
        genomes = low + draws * (high - low + whole)  # n values of a choice share n whole widths
        return np.asarray(np.clip(np.where(whole, np.floor(genomes), genomes), low, high), dtype=np.float64)
