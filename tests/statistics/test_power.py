"""The power of McNemar's exact test against an enumeration of everything that can happen."""

import itertools

import pytest
from scipy import stats

from evo_merge.statistics.power import detectable_difference, detectable_mean_difference, mcnemar_power


@pytest.mark.parametrize(("difference", "discordant"), [(0.3, 0.5), (0.0, 0.4), (0.6, 0.6)])
def test_the_power_is_that_of_all_outcomes(difference: float, discordant: float) -> None:
    n = 14
    chances = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    expected = 0.0
    for won, lost in itertools.product(range(n + 1), repeat=2):
        if won + lost <= n and won > lost and stats.binomtest(won, won + lost).pvalue <= 0.05:
            expected += stats.multinomial.pmf([won, lost, n - won - lost], n, chances)
    assert mcnemar_power(n, difference, discordant) == pytest.approx(expected, abs=1e-7)


def test_the_smallest_difference_is_found_with_the_power_asked_for() -> None:
    found = detectable_difference(250, 0.3)
    assert found is not None
    assert mcnemar_power(250, found, 0.3) == pytest.approx(0.8, abs=1e-3)
    assert found == pytest.approx(2.8016 * (0.3 / 250) ** 0.5, abs=0.006)  # the normal approximation (1.96 + 0.8416)


def test_more_than_the_share_that_differs_needs_that_many_to_differ() -> None:
    found = detectable_difference(50, 0.02)
    assert found is not None
    assert found > 0.02
    assert mcnemar_power(50, found, found) == pytest.approx(0.8, abs=1e-3)


def test_five_problems_show_nothing() -> None:
    assert detectable_difference(5, 0.5) is None  # 5 of 5 won: p = 2 / 32
    assert detectable_difference(6, 0.5) is not None


def test_scores_that_are_graded_have_the_normal_approximation() -> None:
    assert detectable_mean_difference(100, 2.0) == pytest.approx(2.8016 * 2 / 10, abs=1e-4)


def test_a_difference_greater_than_what_differs_is_refused() -> None:
    with pytest.raises(ValueError, match="0 <= difference <= discordant"):
        mcnemar_power(10, 0.4, 0.3)
