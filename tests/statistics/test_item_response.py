"""Estimates of scores on all problems: exact where nothing is missing, unbiased and honest about their error where it is."""

import numpy as np
import pytest
from scipy.special import expit

from evo_merge.statistics.item_response import estimated_scores

NAN = float("nan")


def simulated(chance, n_models=150, n_problems=200, *, bimodal=False):
    """Answers of models to problems of the two-parameter kind."""
    ability = chance.normal(size=n_models)
    if bimodal:
        ability[: n_models // 3] = -6.0
    slope, ease = chance.lognormal(0, 0.4, n_problems), chance.normal(0, 1.5, n_problems)
    return (chance.random((n_models, n_problems)) < expit(ability[:, None] * slope + ease)).astype(float)


def test_who_was_asked_everything_has_the_score():
    answers = simulated(np.random.default_rng(0))
    found = estimated_scores(answers)
    assert np.allclose(found.scores, answers.mean(axis=1), atol=1e-12)
    assert np.allclose(found.errors, 0.0)


@pytest.mark.parametrize("bimodal", [False, True])
def test_estimates_are_nearer_than_means_and_their_errors_true(bimodal):
    chance = np.random.default_rng(1)
    off, means, stated = [], [], []
    for _ in range(8):
        answers = simulated(chance, bimodal=bimodal)
        truth, known = answers.mean(axis=1), answers.copy()
        asked = chance.choice(200, 40, replace=False)
        known[np.ix_(range(100, 150), np.setdiff1d(range(200), asked))] = NAN
        found = estimated_scores(known)
        off.append((found.scores - truth)[100:])
        stated.append(found.errors[100:])
        means.append((answers[:, asked].mean(axis=1) - truth)[100:])
    off, means, stated = (np.concatenate(each) for each in (off, means, stated))
    assert np.sqrt(np.mean(off**2)) < 0.95 * np.sqrt(np.mean(means**2))
    assert abs(off.mean()) < 0.01
    assert 0.9 < np.mean(np.abs(off) <= 2 * stated) < 0.99


def test_hard_problems_left_lower_the_estimate():
    # everyone solves the first half, hardly anyone the second: who was asked the first half only is no genius
    answers = np.zeros((40, 20))
    answers[:, :10] = 1.0
    answers[0, 10:] = NAN
    found = estimated_scores(answers)
    assert found.scores[0] == pytest.approx(0.5, abs=0.05)
    assert 0 < found.errors[0] < 0.1


def test_refuses_grades_and_silence():
    with pytest.raises(ValueError, match="graded"):
        estimated_scores(np.array([[0.5, 1.0]]))
    with pytest.raises(ValueError, match="asked nothing"):
        estimated_scores(np.array([[0.0, 1.0], [NAN, NAN]]))
