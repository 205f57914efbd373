"""Intervals of scores and paired tests between two models, from scores kept per example.

Wilson (1927) and the exact form of McNemar (1947) where every score is 0 or 1, resampling where not, and Holm (1979)
where several comparisons are read together. scipy does the arithmetic; what needs chance has a fixed seed, so that the
same run folder gives the same report.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_RESAMPLES = 9_999
_SEED = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the mean over all examples of this kind probably lies, given those that were asked."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same examples.

    Attributes:
        difference: Mean of the first less mean of the second.
        p: Two-sided; how often chance alone would give a difference at least as large if the two were equally good.
    """

    difference: float
    p: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval (without continuity correction) of a proportion; raises ``ValueError`` unless n > 0."""
    if n <= 0:
        raise ValueError(f"an interval needs at least one example, got {n}")
    bounds = stats.binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(bounds.low), float(bounds.high))


def bootstrap_mean(scores: NDArray[np.float64], confidence: float = 0.95, seed: int = _SEED) -> Interval:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987) of the mean of ``(n,)`` scores."""
    if scores.size == 0:
        raise ValueError("an interval needs at least one example, got 0")
    if np.ptp(scores) == 0:  # nothing to resample: the bootstrap knows no uncertainty here
        return Interval(float(scores[0]), float(scores[0]))
    result = stats.bootstrap(
        (scores,),
        np.mean,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        batch=500,
        rng=np.random.default_rng(seed),
    )
    bounds = result.confidence_interval
    return Interval(float(bounds.low), float(bounds.high))


def interval(scores: NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """The interval of the mean of ``(n,)`` scores: Wilson's where all are 0 or 1, otherwise the bootstrap's."""
    if is_binary(scores):
        return wilson(int(scores.sum()), scores.size, confidence)
    return bootstrap_mean(scores, confidence)


def paired_test(a: NDArray[np.float64], b: NDArray[np.float64], seed: int = _SEED) -> Comparison:
    """Compare two models by their scores ``(n,)`` on the same examples.

    Where all scores are 0 or 1, McNemar's exact test: a binomial test on the examples that one of the two solved and
    the other did not. Otherwise a test by random flips of the signs of the differences. Raises ``ValueError`` where
    the shapes differ.
    """
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"a paired test needs the same examples twice, got {a.size} and {b.size} scores")
    differences = a - b
    mean = float(differences.mean())
    if is_binary(a) and is_binary(b):
        wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
        p = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
        return Comparison(mean, p)
    if not differences.any():
        return Comparison(0.0, 1.0)
    flipped = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",  # of one sample: flips signs
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=500,
        rng=np.random.default_rng(seed),
    )
    return Comparison(mean, float(flipped.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the given order: all below alpha together with at most alpha of a false alarm."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def is_binary(scores: NDArray[np.float64]) -> bool:
    """Whether every score is 0 or 1: a problem is solved or it is not."""
    return bool(np.isin(scores, (0.0, 1.0)).all())
