"""MAP-Elites (Mouret and Clune 2015, https://arxiv.org/abs/1504.04909) over scores, plain or cyclic.

The cyclic variant is CycleQD's (Kuroki et al. 2025, https://arxiv.org/abs/2410.14735): an archive a task, in which this task's
score is the quality and the others' are the axes; each generation takes its parents from the next archive, and every candidate
may enter all of them. Crossover and the choice of parents follow its published code, on genomes in place of task vectors; its
mutation by singular vectors of the weights is left out, its Gaussian one is here of the genes.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genome, Genomes
from evo_merge.niches import Niche, ScoreBins
from evo_merge.optimizers.base import fitness_matrix
from evo_merge.optimizers.variation import KINDS, Variation, refuse_batches

log = logging.getLogger(__name__)
Cell: TypeAlias = tuple[int, ...]
_LEAST_WEIGHT = 0.5  # of the worst of an archive as a parent; CycleQD's ``min_base``


@dataclass(frozen=True, slots=True)
class _Elite:
    genome: Genome
    fitness: NDArray[np.float64]  # (n_objectives,)
    violation: float


class MapElites:
    """Keeps the best candidate of every cell of a grid of scores, and breeds from all of them. Takes every kind of genes.

    The first generation is every gene at its start and uniform draws. With one objective there are no axes: the grid is a
    single cell, which then keeps its ``n_bins`` best candidates.

    Args:
        genes: The box.
        seed: Decides every proposal.
        population_size: Candidates a generation.
        n_random: Uniform draws before the first children, rounded up to whole generations.
        quality: Number of the objective that candidates of a cell compete by, from 0, the others being the axes; ``None``
            takes each in turn, with an archive of its own.
        n_bins: Of every axis.
        score_range: From where to where the bins of an axis go, ``[low, high]``, or a list of one such pair an objective.
        parent_pressure: How much more often good parents are chosen: in quality and on every axis the best of the archive has
            ``0.5 + parent_pressure`` times the weight where the worst has 0.5. 0 chooses uniformly, CycleQD has 0.8.
        crossover_std: A child is the mean of its parents with weights drawn from N(1, crossover_std).
        mutation_sigma: Share of the box that a child is mutated by; see ``Variation``.
        mutation_spread: Share of its parents' distance that a child is mutated by.

    Raises:
        ConfigError: A range that is none.
        ValueError: A number that cannot be.
    """

    kinds: ClassVar[tuple[str, ...]] = KINDS
    takes_several: ClassVar[bool] = True
    needs_box: ClassVar[bool] = False

    def __init__(
        self,
        genes: Sequence[Gene],
        seed: int,
        *,
        population_size: int,
        n_random: int,
        quality: int | None,
        n_bins: int,
        score_range: Sequence[float | Sequence[float]],
        parent_pressure: float,
        crossover_std: float,
        mutation_sigma: float,
        mutation_spread: float,
    ) -> None:
        for name, value in {"population_size": population_size, "n_random": n_random, "n_bins": n_bins}.items():
            if value < 1:
                raise ValueError(f"optimizer.{name} must be at least 1, got {value}")
        for name, number in {"parent_pressure": parent_pressure, "crossover_std": crossover_std}.items():
            if not 0 <= number < float("inf"):
                raise ValueError(f"optimizer.{name} must be 0 or a number above it, got {number}")
        self._variation = Variation(genes, seed, "map_elites", mutation_sigma=mutation_sigma, mutation_spread=mutation_spread)
        self._size, self._n_random, self._n_bins = population_size, n_random, n_bins
        self._quality, self._ranges = quality, _checked_ranges(score_range)
        self._pressure, self._crossover_std = parent_pressure, crossover_std
        self._bins: tuple[ScoreBins, ...] = ()
        self._archives: dict[int, dict[Cell, list[_Elite]]] = {}  # by quality; a cell's best first
        self._n_told = 0  # generations

    @property
    def bins(self) -> tuple[ScoreBins, ...]:
        """One an objective; none before it is known how many there are."""
        return self._bins

    def expect(self, n_objectives: int, *, is_batched: bool) -> None:
        """Make the archives for so many objectives; ``tell`` does where nobody did.

        Raises:
            ConfigError: The quality or the ranges do not fit them, or generations are asked different problems.
        """
        if is_batched:
            refuse_batches("map_elites")
        ranges = self._ranges * n_objectives if len(self._ranges) == 1 else self._ranges
        if len(ranges) != n_objectives:
            raise ConfigError(
                f"optimizer.score_range has {len(ranges)} ranges, but the run has {n_objectives} objectives; "
                "give one range for all, or one an objective"
            )
        if self._quality is not None and not 0 <= self._quality < n_objectives:
            raise ConfigError(
                f"optimizer.quality is {self._quality}, but the run's objectives are numbered 0 to {n_objectives - 1}; "
                "null takes each in turn"
            )
        if self._archives:
            return
        self._bins = tuple(ScoreBins(self._n_bins, low, high) for low, high in ranges)
        self._archives = {q: {} for q in (range(n_objectives) if self._quality is None else [self._quality])}

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        if self._n_told == 0:
            return self._variation.first(self._size)
        elites = self._parents()
        if not elites or self._n_told * self._size < self._n_random:
            return self._variation.uniform(self._size)
        weights = self._weights(elites)
        return np.stack([self._child(elites, weights) for _ in range(self._size)])

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Enter a generation into every archive; one that failed enters none."""
        fitness, violations = fitness_matrix(evaluations)
        self.expect(fitness.shape[1], is_batched=any(evaluation.positions is not None for evaluation in evaluations))
        if self._n_told == 0:
            self._warn_of_ranges(fitness[np.isfinite(fitness).all(axis=1)])
        for genome, row, violation in zip(genomes, fitness, violations.tolist(), strict=True):
            if np.isfinite(row).all():
                for quality, archive in self._archives.items():
                    self._enter(archive, quality, _Elite(genome.copy(), row, violation))
        self._n_told += 1

    def niches(self) -> list[Niche]:
        """Who holds each cell of each archive; without those that miss a constraint."""
        return [
            Niche(elite.genome, elite.fitness, quality, cell)
            for quality, archive in self._archives.items()
            for cell in sorted(archive)
            for elite in archive[cell]
            if elite.violation == 0
        ]

    def _warn_of_ranges(self, fitness: NDArray[np.float64]) -> None:
        """Say where all of a generation, ``(n, n_objectives)``, would be in one end of an axis."""
        for number, bins in enumerate(self._bins if len(self._bins) > 1 and len(fitness) else ()):
            column = fitness[:, number]
            if column.max() < bins.low or column.min() > bins.high:
                log.warning(
                    "all first scores of objective %d, %.3g to %.3g, lie outside of optimizer.score_range [%g, %g], so that it "
                    "tells no candidates apart; give each objective the range of its own",
                    *(number, column.min(), column.max(), bins.low, bins.high),
                )

    def _enter(self, archive: dict[Cell, list[_Elite]], quality: int, elite: _Elite) -> None:
        scores = enumerate(zip(self._bins, elite.fitness.tolist(), strict=True))
        cell = tuple(bins.bin_of(score) for number, (bins, score) in scores if number != quality)
        held = archive.setdefault(cell, [])
        if any(np.array_equal(other.genome, elite.genome) for other in held):
            return
        held.append(elite)
        held.sort(key=lambda e: (e.violation, -e.fitness[quality]))  # stable: among equals who came first stays
        del held[1 if cell else self._n_bins :]

    def _parents(self) -> list[tuple[Cell, float, Genome]]:
        """Cell, quality and genome of every elite of the archive whose turn it is."""
        if not self._archives:
            return []
        turn = list(self._archives)[self._n_told % len(self._archives)]
        archive = self._archives[turn]
        return [(cell, float(elite.fitness[turn]), elite.genome) for cell in sorted(archive) for elite in archive[cell]]

    def _weights(self, elites: Sequence[tuple[Cell, float, Genome]]) -> NDArray[np.float64]:
        """``(n_elites,)``, how likely each is chosen: the product of its standings in quality and on every axis."""
        columns = np.asarray([(quality, *cell) for cell, quality, _ in elites])  # (n_elites, 1 + n_axes)
        low, spread = columns.min(axis=0), np.ptp(columns, axis=0)
        standing = (columns - low) / np.where(spread > 0, spread, 1)
        weights = np.where(spread > 0, _LEAST_WEIGHT + self._pressure * standing, 1).prod(axis=1)
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    def _child(self, elites: Sequence[tuple[Cell, float, Genome]], weights: NDArray[np.float64]) -> Genome:
        rng = self._variation.rng
        chosen = rng.choice(len(elites), size=min(2, len(elites)), replace=False, p=weights)
        a, b = elites[chosen[0]][2], elites[chosen[-1]][2]
        drawn = np.abs(rng.normal(1.0, self._crossover_std, size=2))  # a negative weight would leave the segment between them
        return self._variation.child(a, b, drawn[1] / drawn.sum())


def _checked_ranges(score_range: Sequence[float | Sequence[float]]) -> list[tuple[float, float]]:
    pairs = score_range if any(isinstance(entry, Sequence) for entry in score_range) else [score_range]
    found = [_interval(pair) for pair in pairs]
    if not found or None in found:
        raise ConfigError(
            f"optimizer.score_range must be [low, high] with low < high, or a list of such pairs, got {list(score_range)}"
        )
    return [interval for interval in found if interval is not None]


def _interval(pair: object) -> tuple[float, float] | None:
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(end, int | float) for end in pair):
        return None
    low, high = float(pair[0]), float(pair[1])
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None
