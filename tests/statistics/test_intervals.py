"""Intervals and tests against numbers published elsewhere or counted by hand."""

import numpy as np
import pytest
from scipy import stats

from evo_merge.statistics.correction import holm
from evo_merge.statistics.intervals import Interval, bootstrap_mean, interval, wilson
from evo_merge.statistics.paired import Comparison, paired_test


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


def test_mcnemar_counts_only_the_examples_on_which_the_models_differ() -> None:
    # 2 against 10 discordant pairs: twice the sum of C(12, 0..2) / 2^12 = 2 x 79 / 4096, by hand
    a = np.array([1.0] * 10 + [0.0] * 2 + [1.0] * 50 + [0.0] * 38)
    b = np.array([0.0] * 10 + [1.0] * 2 + [1.0] * 50 + [0.0] * 38)
    found = paired_test(a, b)
    assert found.difference == pytest.approx(0.08)
    assert found.p == pytest.approx(158 / 4096)
    assert paired_test(b, a).difference == pytest.approx(-0.08)
    assert paired_test(b, a).p == pytest.approx(found.p)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(121, 59, 0.000004), (70, 59, 0.378688), (80, 59, 0.089452), (30, 60, 0.00206), (10, 30, 0.002221), (10, 10, 1.0)],
)
def test_mcnemar_gives_the_published_exact_values(only_a: int, only_b: int, p: float) -> None:
    # VassarStats, as quoted to six decimals in statsmodels' own test of mcnemar(exact=True)
    a = np.array([1.0] * only_a + [0.0] * only_b)
    assert round(paired_test(a, 1 - a).p, 6) == p


def test_models_that_answer_alike_do_not_differ() -> None:
    same = np.array([0.0, 1.0, 1.0])
    assert paired_test(same, same) == Comparison(0.0, 1.0)
    graded = np.array([0.25, 1.5])
    assert paired_test(graded, graded) == Comparison(0.0, 1.0)


def test_few_graded_scores_are_tested_over_all_flips_of_signs() -> None:
    # three positive differences: 2 of the 8 ways to choose signs give as large a mean, either way
    found = paired_test(np.array([0.5, 1.0, 0.25]), np.zeros(3))
    assert found.p == pytest.approx(0.25)


def test_many_graded_scores_agree_with_the_t_test() -> None:
    random = np.random.default_rng(5)
    a = random.normal(0.12, 1.0, 300)
    found = paired_test(a, np.zeros(300))
    # scipy.stats.ttest_1samp(a, 0).pvalue, an independent method that agrees for samples of this size
    assert found.p == pytest.approx(float(stats.ttest_1samp(a, 0).pvalue), abs=0.015)


def test_a_paired_test_refuses_other_examples() -> None:
    with pytest.raises(ValueError, match="same examples twice, got 3 and 2"):
        paired_test(np.zeros(3), np.zeros(2))


def test_holm_steps_down_and_keeps_the_order() -> None:
    # by hand: 4 x .005, then 3 x .01, then 2 x .03, then 1 x .04, which may not fall below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
