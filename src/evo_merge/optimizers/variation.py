"""Children of two parents: what the optimizers that keep an archive propose."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene, Genome, Genomes
from evo_merge.optimizers.box import Box

KINDS = ("real", "binary", "choice")


class Variation:
    """First candidates, and children of two parents, inside the box.

    A child lies between its parents, and is mutated. The noise on a real gene is a share of the box, and a share of what its
    parents differ by, so that steps are wide as long as the archive is, and become small with it: the reason of Iso+LineDD
    (Vassiliades and Mouret 2018, https://arxiv.org/abs/1804.03906), but gene by gene. Of the genes of other kinds one a child
    turns to another value, on average.

    Args:
        genes: Of every kind.
        seed: Of all draws.
        optimizer: Named where a gene is refused.
        mutation_sigma: Standard deviation of the noise, as a share of a gene's box, or of its span where it has none.
        mutation_spread: What is added to it, as a share of the distance of the parents in that gene. With both 0 nothing is
            mutated, genes of other kinds included.

    Attributes:
        rng: For what else the optimizer draws.
    """

    def __init__(
        self, genes: Sequence[Gene], seed: int, optimizer: str, *, mutation_sigma: float, mutation_spread: float
    ) -> None:
        for name, value in {"mutation_sigma": mutation_sigma, "mutation_spread": mutation_spread}.items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"optimizer.{name} must be 0 or a number above it, got {value}")
        self._box = Box(genes, optimizer, KINDS)
        self._sigma, self._spread = mutation_sigma, mutation_spread
        self._low = np.asarray([gene.low for gene in genes], dtype=np.float64)
        self._high = np.asarray([gene.high for gene in genes], dtype=np.float64)
        self._real = np.asarray([gene.kind == "real" for gene in genes], dtype=bool)
        self._start = np.asarray([gene.start for gene in genes], dtype=np.float64)
        lengths = [gene.high - gene.low for gene in genes]
        self._lengths = np.asarray(
            [length if np.isfinite(length) else gene.span for length, gene in zip(lengths, genes, strict=True)]
        )
        self.rng = np.random.default_rng(seed)

    @property
    def dim(self) -> int:
        """How many genes there are."""
        return len(self._start)

    def uniform(self, size: int) -> Genomes:
        """``(size, dim)`` genomes, every value of a gene as likely as another."""
        return self._box.uniform(self.rng, size)

    def first(self, size: int) -> Genomes:
        """``(size, dim)``: every gene at its start, the un-optimised merge, and uniform draws."""
        genomes = self.uniform(size)
        if size > 1:
            genomes[0] = self._start
        return genomes

    def child(self, a: Genome, b: Genome, share: ArrayLike) -> Genome:
        """A child ``(dim,)`` of two parents.

        Args:
            a: First parent.
            b: Second parent.
            share: Of ``b`` in each gene before the mutation, one number or ``(dim,)``. Real genes are interpolated; a binary or
                choice gene, which has nothing in between, is that of ``b`` with this probability.
        """
        shares: NDArray[np.float64] = np.broadcast_to(np.asarray(share, dtype=np.float64), a.shape)
        inherited = np.where(self.rng.random(self.dim) < shares, b, a)
        blended = np.where(self._real, a + shares * (b - a), inherited)
        mutated = blended
        if self._sigma or self._spread:
            noise = self.rng.standard_normal(self.dim) * (self._sigma * self._lengths + self._spread * np.abs(b - a))
            mutated = np.where(self._real, blended + noise, self._turned(blended))
        return np.asarray(np.clip(mutated, self._low, self._high), dtype=np.float64)

    def _turned(self, genome: Genome) -> Genome:
        """With each binary and choice gene at another of its values, with a probability of one over their number."""
        low = np.where(self._real, 0.0, self._low)  # a real gene's may be infinite
        n_values = np.where(self._real, 2.0, self._high - self._low + 1)
        steps = 1 + np.floor(self.rng.random(self.dim) * (n_values - 1))
        turns = self.rng.random(self.dim) * (~self._real).sum() < 1
        return np.asarray(np.where(turns, low + (genome - low + steps) % n_values, genome), dtype=np.float64)


def refuse_batches(optimizer: str) -> None:
    """Raise ``ConfigError``: an archive compares candidates of all generations, so all have to be asked the same."""
    raise ConfigError(
        f"optimizer={optimizer} compares the candidates of all generations, so all must be asked the same problems; "
        "set evaluation.batch=null"
    )
