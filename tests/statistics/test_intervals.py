"""Intervals and tests against numbers published elsewhere or counted by hand."""

import numpy as np
import pytest

from evo_merge.statistics.intervals import Interval, bootstrap_mean, interval, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3 (Wilson)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    found = wilson(successes, n)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_wilson_needs_examples() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        wilson(0, 0)


def test_scores_of_right_and_wrong_get_wilson_and_others_the_bootstrap() -> None:
    assert interval(np.array([1.0] * 81 + [0.0] * 182)) == wilson(81, 263)
    graded = np.random.default_rng(0).random(200)
    assert interval(graded) == bootstrap_mean(graded)


def test_the_bootstrap_is_near_the_normal_interval_and_the_same_every_time() -> None:
    scores = np.random.default_rng(3).normal(5.0, 2.0, 400)
    found = bootstrap_mean(scores)
    half = 1.96 * scores.std(ddof=1) / np.sqrt(400)  # the central limit theorem's
    assert found.low == pytest.approx(scores.mean() - half, abs=0.03)
    assert found.high == pytest.approx(scores.mean() + half, abs=0.03)
    assert bootstrap_mean(scores) == found


def test_equal_scores_have_an_interval_of_no_width() -> None:
    assert bootstrap_mean(np.full(9, 2.5)) == Interval(2.5, 2.5)
