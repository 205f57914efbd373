"""Competition for single problems, mates by attraction, and crossover at a split point: M2N2's natural niches.

Abrantes, Lange and Tang 2025 (https://arxiv.org/abs/2508.16204): a problem is a resource that those share who solve it, so that
a candidate which solves what others cannot lives on although its mean is low. Theirs moves weights; here the genes of recipes
are crossed, by linear interpolation, with split points between layers. So the child of two children is still one merge of the
sources. Recipes alone would only move inwards from the first ones: hence a mutation, which the published runs of large models
do without.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genome, Genomes
from evo_merge.niches import Niche, ScoreBins
from evo_merge.optimizers.base import fitness_matrix
from evo_merge.optimizers.variation import KINDS, Variation, refuse_batches

_FEWEST_GROUPS = 3  # of genes; of fewer a split point has next to no choice


@dataclass(frozen=True, slots=True)
class _Member:
    genome: Genome
    scores: NDArray[np.float64]  # (n_items,), a problem and objective each; nan where the objective does not ask the problem
    fitness: NDArray[np.float64]  # (n_objectives,)
    violation: float


class NaturalNiches:
    """An archive of fixed size in which candidates share the problems that they solve. Takes every kind of genes.

    The first generation is every gene at its start and uniform draws. All objectives count, problem by problem, whatever the
    run makes of their means; a score below 0 is counted from the lowest of its problem.

    Args:
        genes: The box. Split points lie between genes whose names begin otherwise, as those of different layers do; where that
            makes fewer than three groups, between any two.
        seed: Decides every proposal.
        population_size: Candidates a generation.
        n_random: Uniform draws before the first children, rounded up to whole generations.
        archive_size: Members at most.
        alpha: How much of a problem is shared: 0 not at all, 1 all of it.
        mutation_sigma: Share of the box that a child is mutated by; see ``Variation``.
        mutation_spread: Share of its parents' distance that a child is mutated by.

    Raises:
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
        archive_size: int,
        alpha: float,
        mutation_sigma: float,
        mutation_spread: float,
    ) -> None:
        for name, value, least in (
            ("population_size", population_size, 1),
            ("n_random", n_random, 1),
            ("archive_size", archive_size, 2),  # a pair of parents
        ):
            if value < least:
                raise ValueError(f"optimizer.{name} must be at least {least}, got {value}")
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"optimizer.alpha must be 0 or a number above it, got {alpha}")
        self._variation = Variation(
            genes, seed, "natural_niches", mutation_sigma=mutation_sigma, mutation_spread=mutation_spread
        )
        self._group_of = _groups(genes)
        self._size, self._n_random, self._archive_size, self._alpha = population_size, n_random, archive_size, alpha
        self._archive: list[_Member] = []
        self._n_told = 0  # generations

    @property
    def bins(self) -> tuple[ScoreBins, ...]:
        """None: the archive is no grid."""
        return ()

    def expect(self, n_objectives: int, *, is_batched: bool) -> None:
        """Refuse generations that are asked different problems; any number of objectives is fine."""
        if is_batched:
            refuse_batches("natural_niches")

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        if self._n_told == 0:
            return self._variation.first(self._size)
        if len(self._archive) < 2 or self._n_told * self._size < self._n_random:
            return self._variation.uniform(self._size)
        scores = _resources(self._archive)
        weights = competition(scores, self._alpha)
        return np.stack([self._child(scores, weights) for _ in range(self._size)])

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Let a generation compete, one after the other; one that failed does not take part."""
        self.expect(evaluations[0].n_objectives, is_batched=any(e.positions is not None for e in evaluations))
        fitness, violations = fitness_matrix(evaluations)
        for genome, evaluation, row, violation in zip(genomes, evaluations, fitness, violations.tolist(), strict=True):
            if np.isfinite(row).all():
                scores = evaluation.scores[:, : evaluation.n_objectives].ravel()
                self._enter(_Member(genome.copy(), scores, row, violation))
        self._n_told += 1

    def niches(self) -> list[Niche]:
        """The members, the strongest competitor first; without those that miss a constraint."""
        if not self._archive:
            return []
        weights = competition(_resources(self._archive), self._alpha)
        order = np.argsort(-weights, kind="stable")
        members = [self._archive[i] for i in order]
        return [Niche(member.genome, member.fitness, None, ()) for member in members if member.violation == 0]

    def _enter(self, member: _Member) -> None:
        """Add a member; where there are too many, the one goes that misses constraints most, or else lives on least."""
        if any(np.array_equal(member.genome, other.genome) for other in self._archive):
            return
        self._archive.append(member)
        if len(self._archive) > self._archive_size:
            weights = competition(_resources(self._archive), self._alpha)
            violations = np.asarray([other.violation for other in self._archive])
            del self._archive[np.lexsort((weights, -violations))[0]]  # among equals the oldest, as in the published code

    def _child(self, scores: NDArray[np.float64], weights: NDArray[np.float64]) -> Genome:
        rng = self._variation.rng
        first = int(rng.choice(len(scores), p=_probabilities(weights)))
        pull = attraction(scores, first)
        pull[first] = 0
        second = int(rng.choice(len(scores), p=_probabilities(pull, without=first)))
        # Before the split the share of the second parent is w, behind it 1 - w; a split at 0 is none.
        w, split = rng.random(), rng.integers(self._group_of[-1] + 1)
        share = np.where(self._group_of < split, w, 1 - w)
        return self._variation.child(self._archive[first].genome, self._archive[second].genome, share)


def competition(scores: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """What each member gets of all problems: its score over the population's total, ``sum_j s_j / z_j ** alpha``.

    Args:
        scores: ``(n_members, n_items)``, 0 or above.
        alpha: How much of a problem is shared.

    Returns:
        ``(n_members,)``. The paper's capacity of every problem is 1, and nobody gets anything of one that nobody solves.
    """
    totals = scores.sum(axis=0)
    return np.asarray((scores / np.where(totals > 0, totals, 1) ** alpha).sum(axis=1), dtype=np.float64)


def attraction(scores: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """How much each member would add to the first parent: ``sum_j max(s_j - s_first,j, 0) / z_j``, ``(n_members,)``."""
    totals = scores.sum(axis=0)
    gains = np.maximum(scores - scores[first], 0)
    return np.asarray((gains / np.where(totals > 0, totals, 1)).sum(axis=1), dtype=np.float64)


def _resources(members: Sequence[_Member]) -> NDArray[np.float64]:
    """``(n_members, n_items)``, 0 or above; a member that misses a constraint wins nothing of any problem."""
    scores = np.nan_to_num(np.stack([member.scores for member in members]))
    scores -= np.minimum(scores.min(axis=0), 0)
    scores[[member.violation > 0 for member in members]] = 0
    return np.asarray(scores, dtype=np.float64)


def _probabilities(weights: NDArray[np.float64], without: int | None = None) -> NDArray[np.float64]:
    """In proportion to the weights; where all are 0, the same for all but the one that is left out."""
    if not weights.any():
        weights = np.ones(len(weights))
        if without is not None:
            weights[without] = 0
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _groups(genes: Sequence[Gene]) -> NDArray[np.int64]:
    """``(dim,)``, the number of each gene's group, rising; genes in a row whose names begin alike are one."""
    runs = [list(run) for _, run in itertools.groupby(genes, key=lambda gene: gene.name.partition("/")[0])]
    if len(runs) < _FEWEST_GROUPS:
        return np.arange(len(genes))
    return np.repeat(np.arange(len(runs)), [len(run) for run in runs])
