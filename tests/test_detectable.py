"""What a test split can show, said before the search."""

import numpy as np

from evo_merge.detectable import after_scoring, before_scoring
from evo_merge.statistics.power import detectable_difference


def test_before_any_score_half_of_the_problems_may_differ() -> None:
    one, several = detectable_difference(500, 0.5), detectable_difference(500, 0.5, alpha=0.05 / 7)
    assert one is not None
    assert several is not None
    said = before_scoring(500, 7)
    assert said.startswith(f"500 test problems can show a lead of {100 * one:.1f} points over one model")
    assert f"of {100 * several:.1f} points after correction for 7 comparisons" in said


def test_sources_that_agree_more_make_a_smaller_lead_visible() -> None:
    a = np.zeros(100)
    b = (np.arange(100) < 20).astype(float)
    found = after_scoring({"a": a, "b": b}, 500, 2)
    one = detectable_difference(500, 0.2)
    assert found is not None
    assert one is not None
    assert f"{100 * one:.1f} points over one model" in found.sentence
    assert "up to 20% of the search problems, where a plan reckons with half" in found.sentence
    assert not found.is_great


def test_a_small_test_split_is_worth_a_warning() -> None:
    answers = (np.arange(100) % 2).astype(float)
    found = after_scoring({"a": answers, "b": 1 - answers}, 60, 2)
    assert found is not None
    assert found.is_great
    too_few = after_scoring({"a": answers, "b": 1 - answers}, 5, 2)
    assert too_few is not None
    assert "5 test problems are too few" in too_few.sentence
    assert too_few.is_great


def test_graded_scores_are_told_in_their_own_unit() -> None:
    rng = np.random.default_rng(0)
    found = after_scoring({"a": rng.normal(0, 3, 200), "b": rng.normal(0, 4, 200)}, 100, 1)
    assert found is not None
    assert "points" not in found.sentence
    assert "a deviation of up to" in found.sentence


def test_nothing_is_known_where_nobody_differs() -> None:
    assert after_scoring({"a": np.zeros(50), "b": np.zeros(50)}, 100, 1) is None
    assert after_scoring({"a": np.zeros(50)}, 100, 1) is None
