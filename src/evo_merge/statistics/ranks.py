"""Rank tests between groups of runs with the seeds as blocks.

Friedman (1937) over all groups; then Wilcoxon's signed ranks (1945) between two, instead of their mean ranks, which depend on
the groups beside them (Benavoli, Corani and Mangili 2016, JMLR 17(5)). No score need be normal, and a block that is hard for
all is hard for all.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are used; a build uses none
from numpy.typing import NDArray

FEWEST_GROUPS = 3  # for Friedman's test
FEWEST_BLOCKS = 2  # for any rank test
ENOUGH_BLOCKS = 10  # from which on the chi-squared distribution is taken
RESAMPLES = 9_999
_SEED = 0
_DIGITS = 12  # means of right and wrong answers: 0.3 - 0.2 and 0.2 - 0.1 are the same, but not to the last bit


@dataclass(frozen=True, slots=True)
class Friedman:
    """Friedman's test: do groups that share blocks differ by more than chance?

    Attributes:
        mean_ranks: ``(n_groups,)``, over the blocks; 1 is the best, ties share their ranks.
        statistic: With ties corrected for; 0 where all scores of every block are the same.
        p: By permutation within the blocks below ten of them, else of the chi-squared distribution with ``n_groups - 1``
            degrees of freedom, which is too rough for fewer.
        n_blocks: How many.
    """

    mean_ranks: tuple[float, ...]
    statistic: float
    p: float
    n_blocks: int

    @property
    def is_permuted(self) -> bool:
        """Whether p is by permutation."""
        return self.n_blocks < ENOUGH_BLOCKS


@dataclass(frozen=True, slots=True)
class SignedRank:
    """Wilcoxon's signed-rank test of one group against another on the blocks that both have.

    Attributes:
        lead: Sum of the ranks of the blocks in which the first is ahead, less that of the others: p is about this number, and
            its sign is the direction of the test. Blocks without a difference have no rank.
        difference: Median over the blocks of the first less the second.
        means: Of the first and of the second, over these blocks.
        p: Two-sided; exact to 50 blocks without ties and 13 with them, else of the normal distribution.
        n_blocks: How many, those without a difference included.
    """

    lead: float
    difference: float
    means: tuple[float, float]
    p: float
    n_blocks: int

    @property
    def smallest_p(self) -> float:
        """What no p can be below with so few blocks: all of them in favour of one group, by chance."""
        return 2.0 ** (1 - self.n_blocks)

    @property
    def is_mean_opposed(self) -> bool:
        """Whether the means put the two the other way round than the ranks."""
        return self.lead * round(self.means[0] - self.means[1], _DIGITS) < 0


def friedman(scores: NDArray[np.float64]) -> Friedman:
    """Compare groups by ``(n_blocks, n_groups)`` scores, higher is better; raises ``ValueError`` where they are too few."""
    n_blocks, n_groups = scores.shape
    if n_groups < FEWEST_GROUPS or n_blocks < FEWEST_BLOCKS:
        raise ValueError(f"Friedman's test needs {FEWEST_GROUPS} groups and {FEWEST_BLOCKS} blocks, got {scores.shape[::-1]}")
    rounded = np.round(scores, _DIGITS)
    ranks = scipy.stats.rankdata(-rounded, axis=1)
    if not np.ptp(ranks, axis=1).any():  # scipy divides 0 by 0
        statistic, p = 0.0, 1.0
    else:
        statistic, p = map(float, scipy.stats.friedmanchisquare(*rounded.T))
        if n_blocks < ENOUGH_BLOCKS:
            p = _permuted_p(ranks)
    return Friedman(tuple(ranks.mean(axis=0).tolist()), statistic, p, n_blocks)


def signed_rank(a: NDArray[np.float64], b: NDArray[np.float64]) -> SignedRank:
    """Compare two groups by their scores ``(n_blocks,)`` on the same blocks; raises ``ValueError`` where they are too few."""
    if a.shape != b.shape or len(a) < FEWEST_BLOCKS:
        raise ValueError(f"a signed-rank test needs the same {FEWEST_BLOCKS} blocks or more, got {len(a)} and {len(b)}")
    differences = np.round(a - b, _DIGITS)
    kept = differences[differences != 0]
    lead = float(scipy.stats.rankdata(abs(kept)) @ np.sign(kept)) if len(kept) else 0.0
    p = float(scipy.stats.wilcoxon(differences).pvalue) if len(kept) else 1.0
    return SignedRank(lead, float(np.median(differences)), (float(a.mean()), float(b.mean())), p, len(a))


def _permuted_p(ranks: NDArray[np.float64]) -> float:
    """How often ``(n_blocks, n_groups)`` ranks, shuffled within each block, spread the groups as far apart; always the same."""
    shuffled = np.random.default_rng(_SEED).permuted(np.broadcast_to(ranks, (RESAMPLES, *ranks.shape)), axis=2)
    # Friedman's statistic rises with the sum of squares of the rank sums, and shuffling changes nothing else in it.
    spreads = (shuffled.sum(axis=1) ** 2).sum(axis=1)
    as_far = int((spreads >= (ranks.sum(axis=0) ** 2).sum() - 1e-6).sum())
    return (as_far + 1) / (RESAMPLES + 1)
