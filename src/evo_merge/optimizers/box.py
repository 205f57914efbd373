"""The box that genomes live in, and its map to the coordinates in which optimizers step.

One step size suits all genes there: a gene with both bounds fills [0, 1], one without is counted in spans from its start.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene, Genomes

# Optimizers that take every kind of genes: those that learn, and those that do not.
EVERY_KIND = ("catcma", "ga", "map_elites", "natural_niches", "nevergrad", "nsga2", "nsga3")
EVERY_KIND_BLIND = ("random", "sobol")


class Box:
    """Genes of the kinds that an optimizer takes; raises ``ConfigError`` for others.

    Attributes:
        start: ``(dim,)``, the genes' starts in coordinates.
        bounds: ``(dim, 2)``, lowest and highest coordinate; infinite where a gene has no bound.
        sides: ``(dim, 2)``, lowest and highest value; where a gene lacks a bound, its span around its start stands for the box.
    """

    def __init__(self, genes: Sequence[Gene], optimizer: str, kinds: Sequence[str] = ("real",)) -> None:
        if odd := [gene for gene in genes if gene.kind not in kinds]:
            # Rounding a choice would make neighbours of strangers, so that one is for binary genes alone.
            margin = "cmaes_margin, which takes binary ones too, or " if all(gene.kind == "binary" for gene in odd) else ""
            raise ConfigError(
                f"optimizer={optimizer} moves {' and '.join(kinds)} genes only, and '{odd[0].name}' is {odd[0].kind}; "
                f"choose optimizer={margin}{', '.join(EVERY_KIND[:-1])} or {EVERY_KIND[-1]}, which take every kind, "
                f"or {' or '.join(EVERY_KIND_BLIND)}, which do too and learn nothing"
            )
        self._genes = tuple(genes)
        self._low = np.asarray([gene.low for gene in genes], dtype=np.float64)
        self._high = np.asarray([gene.high for gene in genes], dtype=np.float64)
        start = np.asarray([gene.start for gene in genes], dtype=np.float64)
        span = np.asarray([gene.span for gene in genes], dtype=np.float64)
        bounded = np.isfinite(self._low) & np.isfinite(self._high)
        self._origin = np.where(bounded, self._low, start)
        self._scale = np.where(bounded, self._high - self._low, span)
        self.sides = np.stack(
            [
                np.where(bounded, self._low, np.maximum(self._low, start - span / 2)),
                np.where(bounded, self._high, np.minimum(self._high, start + span / 2)),
            ],
            axis=1,
        )
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
            return np.array(self.start)
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

    def points(self, genomes: Genomes) -> Genomes:
        """Genomes ``(n, dim)`` to coordinates; outside ``bounds`` where the genomes are outside the box."""
        return np.asarray((genomes - self._origin) / self._scale, dtype=np.float64)

    def uniform(self, rng: np.random.Generator, size: int) -> Genomes:
        """``(size, dim)`` genomes of ``sides``, every value of a gene as likely as another."""
        return self.spread(rng.uniform(size=(size, self.dim)))

    def spread(self, shares: Genomes) -> Genomes:
        """Shares ``(n, dim)`` in [0, 1) of ``sides`` to genomes; the values of a binary or choice gene have equal shares."""
        whole = np.asarray([gene.kind != "real" for gene in self._genes], dtype=bool)
        low, high = self.sides.T
        genomes = low + shares * (high - low + whole)  # n values of a choice share n whole widths
        return np.asarray(np.clip(np.where(whole, np.floor(genomes), genomes), low, high), dtype=np.float64)
