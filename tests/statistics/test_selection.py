"""Corrections for having chosen the best of many, against truths that are known because they were made up."""

import numpy as np
import pytest

from evo_merge.statistics.selection import bootstrap_selection, corrected_score, split_sample


def test_pure_luck_is_taken_off() -> None:
    rng = np.random.default_rng(0)
    searches = [(rng.random((300, 100)) < 0.5).astype(float) for _ in range(60)]
    error = 0.05  # of a score, with 100 problems
    observed = np.mean([corrected_score(scores).observed for scores in searches])
    corrected = np.mean([corrected_score(scores, repeats=50).corrected for scores in searches])
    assert observed > 0.5 + 2.5 * error
    assert abs(corrected - 0.5) < 0.2 * error
    assert np.mean([bootstrap_selection(scores) for scores in searches]) > 0.5 + 0.5 * error  # sees a part of the luck


def test_one_candidate_was_not_chosen() -> None:
    scores = (np.random.default_rng(1).random((1, 100)) < 0.7).astype(float)
    mean = scores.mean()
    assert corrected_score(scores).corrected == pytest.approx(mean, abs=0.01)  # up to the random splits
    assert split_sample(scores) == pytest.approx(mean)  # both ways, so that every problem counts as often
    assert bootstrap_selection(scores) == pytest.approx(mean, abs=0.01)


def test_a_lead_that_no_luck_could_give_needs_no_correction() -> None:
    rng = np.random.default_rng(2)
    scores = (rng.random((100, 200)) < 0.2).astype(float)
    scores[7] = rng.random(200) < 0.9
    found = corrected_score(scores)
    assert found.observed == scores[7].mean()
    assert found.corrected == pytest.approx(found.observed, abs=0.01)
    assert (found.n_candidates, found.n_problems) == (100, 200)


def test_copies_of_a_candidate_are_one_candidate() -> None:
    rng = np.random.default_rng(3)
    scores = (rng.random((20, 100)) < 0.5).astype(float)
    once, often = corrected_score(scores), corrected_score(np.repeat(scores, 30, axis=0))
    assert often.corrected == pytest.approx(once.corrected, abs=1e-4)


def test_the_same_scores_give_the_same_correction() -> None:
    scores = np.random.default_rng(4).random((30, 60))
    assert corrected_score(scores) == corrected_score(scores.copy())


def test_the_best_of_graded_scores_is_corrected_too() -> None:
    rng = np.random.default_rng(5)
    found = [corrected_score(rng.normal(3.0, 1.0, (200, 80))) for _ in range(40)]
    assert np.mean([each.observed for each in found]) > 3.2
    assert np.mean([each.corrected for each in found]) == pytest.approx(3.0, abs=0.04)


def test_too_few_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 20 problems"):
        corrected_score(np.ones((5, 19)))
