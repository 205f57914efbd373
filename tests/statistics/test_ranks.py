"""Rank tests against published numbers, and against every flip of the signs."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from evo_merge.statistics.intervals import mean_interval
from evo_merge.statistics.ranks import friedman, signed_rank

# Hollander and Wolfe (1973), p. 140: seconds to round first base in three ways, 22 players; the example of R's friedman.test.
ROUNDING_TIMES = np.array([
    [5.40, 5.50, 5.55], [5.85, 5.70, 5.75], [5.20, 5.60, 5.50], [5.55, 5.50, 5.40], [5.90, 5.85, 5.70], [5.45, 5.55, 5.60],
    [5.40, 5.40, 5.35], [5.45, 5.50, 5.35], [5.25, 5.15, 5.00], [5.85, 5.80, 5.70], [5.25, 5.20, 5.10], [5.65, 5.55, 5.45],
    [5.60, 5.35, 5.45], [5.05, 5.00, 4.95], [5.50, 5.50, 5.40], [5.45, 5.55, 5.50], [5.55, 5.55, 5.35], [5.45, 5.50, 5.55],
    [5.50, 5.45, 5.25], [5.65, 5.60, 5.40], [5.70, 5.65, 5.55], [6.30, 6.30, 6.25],
])  # fmt: skip


def test_friedman_gives_the_published_statistic() -> None:
    found = friedman(-ROUNDING_TIMES)  # fewer seconds are better

    assert found.statistic == pytest.approx(11.1429, abs=5e-5)
    assert found.p == pytest.approx(0.003805, abs=5e-7)
    assert found.n_blocks == 22
    assert sum(found.mean_ranks) == pytest.approx(1 + 2 + 3)
    assert np.argmin(found.mean_ranks) == 2  # the wide angle


def test_groups_that_tie_everywhere_do_not_differ() -> None:
    found = friedman(np.full((4, 3), 0.5))

    assert (found.mean_ranks, found.statistic, found.p) == ((2.0, 2.0, 2.0), 0.0, 1.0)


@pytest.mark.parametrize("shape", [(1, 3), (5, 2)])
def test_friedman_refuses_what_is_too_little(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="needs 3 groups and 2 blocks"):
        friedman(np.zeros(shape))


@pytest.mark.parametrize("differences", [[3, -1, 2, 5, 4, -6], [2, 2, -1, 3, 3, 3], [1, 0, 2, -1, 4, 4, 0]])
def test_the_signed_rank_test_counts_all_flips_of_the_signs(differences: list[int]) -> None:
    found = signed_rank(np.asarray(differences) / 10, np.zeros(len(differences)))

    kept = np.asarray([d for d in differences if d])
    ranks = stats.rankdata(abs(kept))
    ours = (ranks * np.sign(kept)).sum()
    flips = [abs((ranks * signs).sum()) >= abs(ours) - 1e-9 for signs in product((-1, 1), repeat=len(kept))]
    assert found.p == pytest.approx(sum(flips) / len(flips))
    assert found.difference == pytest.approx(np.median(differences) / 10)
    assert found.n_blocks == len(differences)


def test_no_p_is_below_the_smallest_that_so_few_seeds_can_give() -> None:
    found = signed_rank(np.array([0.5, 0.61, 0.72, 0.83, 0.94]), np.zeros(5))

    assert found.p == found.smallest_p == 2 / 2**5


def test_differences_that_are_equal_but_for_rounding_are_ties() -> None:
    a, b = np.array([0.3, 0.2, 0.9, 0.5]), np.array([0.2, 0.1, 1.0, 0.4])  # 0.3 - 0.2 is not 0.2 - 0.1

    # Four equal ranks: one sign or none differs in 10 of 16 flips.
    assert signed_rank(a, b).p == pytest.approx(10 / 16)
    assert signed_rank(a, a).p == 1.0


def test_the_interval_over_seeds_is_students() -> None:
    values = np.array([0.5, 0.55, 0.62, 0.48])
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)

    found = mean_interval(values)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert mean_interval(values[:2]) is None
    cut = mean_interval(np.array([0.1, 0.9, 1.0]), bounds=(0, 1))
    assert cut is not None
    assert (cut.low, cut.high) == (0, 1)


def test_with_few_blocks_friedmans_p_counts_the_permutations() -> None:
    scores = np.array([[0.1, 0.2, 0.3], [0.2, 0.1, 0.3], [0.1, 0.2, 0.3], [0.1, 0.3, 0.2]])
    found = friedman(scores)

    ranks = stats.rankdata(-scores, axis=1)
    every = [np.square(np.sum(rows, axis=0)).sum() for rows in product(list(permutations((1, 2, 3))), repeat=4)]
    exact = np.mean(np.asarray(every) >= np.square(ranks.sum(axis=0)).sum())
    assert found.is_permuted
    assert found.p == pytest.approx(exact, abs=0.01)
    assert abs(found.p - stats.friedmanchisquare(*scores.T).pvalue) > 0.015  # which is too rough here
    assert friedman(scores).p == found.p  # always the same
    assert not friedman(-ROUNDING_TIMES).is_permuted


def test_friedman_takes_scores_that_differ_by_rounding_as_ties() -> None:
    assert friedman(np.array([[0.1 + 0.2, 0.3, 0.0], [0.3, 0.1 + 0.2, 0.0], [0.1 + 0.2, 0.3, 0.0]])).mean_ranks == (
        1.5,
        1.5,
        3.0,
    )


@pytest.mark.parametrize(("differences", "lead"), [((0.1, 0.2, -0.5), 0.0), ((0.1, 0.2, 0.3, -0.9), 2.0), ((0.0, 0.0), 0.0)])
def test_the_lead_is_the_sum_of_the_signed_ranks(differences: tuple[float, ...], lead: float) -> None:
    found = signed_rank(np.asarray(differences), np.zeros(len(differences)))

    assert found.lead == lead
    assert found.is_mean_opposed == (lead > 0)
