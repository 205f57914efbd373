"""Paired tests and intervals against numbers published elsewhere or counted by hand."""

import numpy as np
import pytest
from scipy import stats

from evo_merge.statistics.intervals import Interval, wilson
from evo_merge.statistics.paired import Comparison, discordant_share, paired_interval, paired_test


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


def test_the_interval_of_a_difference_is_near_the_normal_one() -> None:
    rng = np.random.default_rng(1)
    easy = rng.random(400)
    a, b = ((rng.random(400) * 0.5 + easy < limit).astype(float) for limit in (0.9, 0.7))
    found = paired_interval(a, b)
    half = 1.96 * (a - b).std(ddof=1) / 20  # the central limit theorem's
    assert (found.low, found.high) == pytest.approx(((a - b).mean() - half, (a - b).mean() + half), abs=0.008)
    assert found.high - found.low < 2 * 1.96 * np.sqrt((a.var() + b.var()) / 400)  # what is hard for both widens nothing
    other = paired_interval(b, a)
    assert (-other.high, -other.low) == pytest.approx((found.low, found.high), abs=0.008)


def test_answers_that_never_differ_leave_room_for_a_difference() -> None:
    same = np.array([0.0, 1.0] * 10)
    high = wilson(0, 20).high
    assert paired_interval(same, same) == Interval(-high, high)


def test_the_share_that_differs_counts_both_ways() -> None:
    assert discordant_share(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0, 0.0])) == 0.5
