"""Two models on the same examples: who is ahead, by how much, and whether chance alone could explain it.

The exact form of McNemar's test (1947) where every score is 0 or 1, random flips of the signs of the differences (Fisher 1935)
where not; the difference's interval is a bootstrap of the examples, which both models share, so that what is hard for both
widens nothing.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are used; a build uses none
from numpy.typing import NDArray

from evo_merge.statistics.intervals import RESAMPLES, SEED, Interval, bootstrap_mean, is_binary, wilson


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same examples.

    Attributes:
        difference: Mean of the first less mean of the second.
        p: Two-sided; how often chance alone would give a difference at least as large if the two were equally good.
    """

    difference: float
    p: float


def paired_test(a: NDArray[np.float64], b: NDArray[np.float64], seed: int = SEED) -> Comparison:
    """Compare two models by their scores ``(n,)`` on the same examples.

    Where all scores are 0 or 1, McNemar's exact test: a binomial test on the examples that one of the two solved and
    the other did not. Otherwise a test by random flips of the signs of the differences. Raises ``ValueError`` where
    the shapes differ.
    """
    differences = _differences(a, b)
    mean = float(differences.mean())
    if is_binary(a) and is_binary(b):
        wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
        p = float(scipy.stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
        return Comparison(mean, p)
    if not differences.any():
        return Comparison(0.0, 1.0)
    flipped = scipy.stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",  # of one sample: flips signs
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=500,
        rng=np.random.default_rng(seed),
    )
    return Comparison(mean, float(flipped.pvalue))


def paired_interval(a: NDArray[np.float64], b: NDArray[np.float64], confidence: float = 0.95, seed: int = SEED) -> Interval:
    """Interval of the mean difference of two models' scores ``(n,)`` on the same examples; refuses what ``paired_test`` does.

    The bootstrap of the differences (``bootstrap_mean``). Where right and wrong answers differ on no example there is nothing
    to resample, and yet other examples could tell the two apart: there it is, either way, the upper end of Wilson's interval
    for a share of differing examples that was seen to be 0.
    """
    differences = _differences(a, b)
    if is_binary(a) and is_binary(b) and not differences.any():
        reach = wilson(0, a.size, confidence).high
        return Interval(-reach, reach)
    return bootstrap_mean(differences, confidence, seed)


def discordant_share(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Share of the examples on which the scores ``(n,)`` of two models differ; refuses what ``paired_test`` does."""
    return float((_differences(a, b) != 0).mean())


def _differences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"a paired comparison needs the same examples twice, got {a.size} and {b.size} scores")
    return a - b
