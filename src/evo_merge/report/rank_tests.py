"""Rank tests between groups of runs with the seeds as blocks, and the interval of a mean over seeds.

Friedman (1937) over all groups, then Wilcoxon's signed ranks (1945) between two, as Demsar (2006, JMLR 7) recommends where
several methods meet on the same blocks: no score need be normal, and a block that is hard for all is hard for all.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evo_merge.report.statistics import Interval

FEWEST_GROUPS = 3  # for Friedman's test
FEWEST_BLOCKS = 2  # for any rank test


@dataclass(frozen=True, slots=True)
class Friedman:
    """Friedman's test: do groups that share blocks differ by more than chance?

    Attributes:
        mean_ranks: ``(n_groups,)``, over the blocks; 1 is the best, ties share their ranks.
        statistic: With ties corrected for; 0 where all scores of every block are the same.
        p: Of the chi-squared distribution with ``n_groups - 1`` degrees of freedom, an approximation that is rough below
            about ten blocks.
        n_blocks: How many.
    """

    mean_ranks: tuple[float, ...]
    statistic: float
    p: float
    n_blocks: int


@dataclass(frozen=True, slots=True)
class SignedRank:
    """Wilcoxon's signed-rank test of one group against another on the blocks that both have.

    Attributes:
        difference: Median over the blocks of the first less the second.
        p: Two-sided; exact to 50 blocks without ties and 13 with them, else of the normal distribution.
        n_blocks: How many, those without a difference included.
    """

    difference: float
    p: float
    n_blocks: int

    @property
    def smallest_p(self) -> float:
        """What no p can be below with so few blocks: all of them in favour of one group, by chance."""
        return 2.0 ** (1 - self.n_blocks)


def friedman(scores: NDArray[np.float64]) -> Friedman:
    """Compare groups by ``(n_blocks, n_groups)`` scores, higher is better; raises ``ValueError`` where they are too few."""
    n_blocks, n_groups = scores.shape
    if n_groups < FEWEST_GROUPS or n_blocks < FEWEST_BLOCKS:
        raise ValueError(f"Friedman's test needs {FEWEST_GROUPS} groups and {FEWEST_BLOCKS} blocks, got {scores.shape[::-1]}")
    mean_ranks = stats.rankdata(-scores, axis=1).mean(axis=0)
    if not np.ptp(scores, axis=1).any():  # scipy divides 0 by 0
        statistic, p = 0.0, 1.0
    else:
        statistic, p = map(float, stats.friedmanchisquare(*scores.T))
    return Friedman(tuple(mean_ranks.tolist()), statistic, p, n_blocks)


def signed_rank(a: NDArray[np.float64], b: NDArray[np.float64]) -> SignedRank:
    """Compare two groups by their scores ``(n_blocks,)`` on the same blocks; raises ``ValueError`` where they are too few."""
    if a.shape != b.shape or len(a) < FEWEST_BLOCKS:
        raise ValueError(f"a signed-rank test needs the same {FEWEST_BLOCKS} blocks or more, got {len(a)} and {len(b)}")
    # Means of right and wrong answers: 0.3 - 0.2 and 0.2 - 0.1 are the same difference, but not to the last bit.
    differences = np.round(a - b, 12)
    p = float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
    return SignedRank(float(np.median(differences)), p, len(a))


def mean_interval(values: NDArray[np.float64], confidence: float = 0.95) -> Interval | None:
    """Student's interval of the mean of ``(n,)`` values; ``None`` below two of them."""
    if len(values) < 2:
        return None
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return Interval(mean - reach, mean + reach)
