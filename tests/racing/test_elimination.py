"""The test that stops candidates, against every population that it may be about, and its bound in simulation."""

import numpy as np
import pytest
from scipy.stats import binom, hypergeom

from evo_merge.racing.elimination import out_of_the_best, p_not_better


@pytest.mark.parametrize("unseen", [1, 2, 5, 12])
def test_no_population_in_which_the_rival_is_no_better_has_a_smaller_chance(unseen):
    for seen in range(1, 11):
        for wins in range(seen // 2 + 1, seen + 1):
            p = p_not_better(wins, seen - wins, unseen)
            chances = [
                float(hypergeom.sf(wins - 1, differing, of_rival, seen))
                for differing in range(seen, seen + unseen + 1)
                for of_rival in range(differing // 2 + 1)  # no more than half
            ]
            assert max(chances) <= p + 1e-12
            assert p <= binom.sf(wins - 1, seen, 0.5) + 1e-12  # endless examples, McNemar


def test_a_lead_that_cannot_be_caught_up_is_certain():
    assert p_not_better(5, 0, unseen=4) == 0
    assert p_not_better(5, 0, unseen=5) > 0
    assert p_not_better(3, 2, unseen=0) == 0


def test_who_is_not_ahead_is_not_better():
    assert p_not_better(4, 4, unseen=10) == p_not_better(2, 6, unseen=10) == 1


def test_equals_are_never_stopped():
    right = np.tile(np.random.default_rng(0).random(50) < 0.5, (9, 1))

    assert not out_of_the_best(right, unseen=50, n_candidates=9, kept=4, level=0.9).any()


def test_who_solves_nothing_is_stopped_and_the_best_stay():
    right = np.zeros((6, 40), dtype=bool)
    right[:4] = True
    right[3, 0] = False

    stopped = out_of_the_best(right, unseen=40, n_candidates=6, kept=3, level=0.01)

    assert stopped.tolist() == [False, False, False, False, True, True]


def test_as_many_as_are_kept_stay_whatever_the_level():
    right = np.random.default_rng(1).random((8, 30)) < np.linspace(0.1, 0.9, 8)[:, None]

    assert (~out_of_the_best(right, unseen=1, n_candidates=8, kept=4, level=1.0)).sum() >= 4
    assert not out_of_the_best(right[:4], unseen=1, n_candidates=8, kept=4, level=1.0).any()


@pytest.mark.parametrize("better", [0, 3])
def test_the_risk_is_kept_over_all_looks(better):
    """The hardest case: rivals of exactly the same score that differ in half of the problems, and some that are better."""
    chance = np.random.default_rng(5)
    n, kept, total, looks, risk = 9, 4, 160, (20, 40, 80), 0.2
    full = np.stack([np.isin(np.arange(total), chance.choice(total, total // 2, replace=False)) for _ in range(n)])
    full[1 : 1 + better] |= chance.random((better, total)) < 0.5
    races, lost, hopeless = 400, 0, 0
    full[-1] = False  # and one that is out of it
    for _ in range(races):
        order, left = chance.permutation(total), list(range(n))
        for seen in looks:
            stopped = out_of_the_best(
                full[left][:, order[:seen]], total - seen, n_candidates=n, kept=kept, level=risk / len(looks)
            )
            left = [i for i, out in zip(left, stopped, strict=True) if not out]
        lost += 0 not in left
        hopeless += n - 1 not in left

    assert (full.sum(axis=1) > full[0].sum()).sum() < kept  # the first is among the best
    assert lost / races <= risk + 3 * np.sqrt(risk * (1 - risk) / races)
    assert hopeless == races
