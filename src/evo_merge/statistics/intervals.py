"""Intervals of mean scores: where the mean over all examples of this kind probably lies, given those that were asked.

Wilson (1927) where every score is 0 or 1, the bias-corrected and accelerated bootstrap (Efron 1987) where not, Student's over a
few seeds. scipy does the arithmetic; what needs chance has a fixed seed, so that the same run folder gives the same report.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are used; a build uses none
from numpy.typing import NDArray

RESAMPLES = 9_999
SEED = 0
FEWEST_VALUES = 3  # for Student's interval


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a number probably lies."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval (without continuity correction) of a proportion; raises ``ValueError`` unless n > 0."""
    if n <= 0:
        raise ValueError(f"an interval needs at least one example, got {n}")
    bounds = scipy.stats.binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(bounds.low), float(bounds.high))


def bootstrap_mean(scores: NDArray[np.float64], confidence: float = 0.95, seed: int = SEED) -> Interval:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987) of the mean of ``(n,)`` scores."""
    if scores.size == 0:
        raise ValueError("an interval needs at least one example, got 0")
    if np.ptp(scores) == 0:  # nothing to resample: the bootstrap knows no uncertainty here
        return Interval(float(scores[0]), float(scores[0]))
    result = scipy.stats.bootstrap(
        (scores,),
        np.mean,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
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


def mean_interval(
    values: NDArray[np.float64], bounds: tuple[float, float] = (-math.inf, math.inf), confidence: float = 0.95
) -> Interval | None:
    """Student's interval of the mean of ``(n,)`` values, cut to what a score can be; ``None`` below three values."""
    if len(values) < FEWEST_VALUES:
        return None
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = float(scipy.stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return Interval(max(bounds[0], mean - reach), min(bounds[1], mean + reach))


def is_binary(scores: NDArray[np.float64]) -> bool:
    """Whether every score is 0 or 1: a problem is solved or it is not."""
    return bool(np.isin(scores, (0.0, 1.0)).all())
