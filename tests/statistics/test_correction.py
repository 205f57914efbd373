"""Holm's correction, by hand."""

import pytest

from evo_merge.statistics.correction import holm


def test_holm_steps_down_and_keeps_the_order() -> None:
    # by hand: 4 x .005, then 3 x .01, then 2 x .03, then 1 x .04, which may not fall below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_every_look_counts_like_another_set_of_tests() -> None:
    assert holm([0.01, 0.004], looks=2) == pytest.approx([0.02, 0.016])  # 1 x 2 x .01, and 2 x 2 x .004
