"""Fronts, their knees and their volumes."""

import numpy as np
import pytest

from evo_merge.pareto import Front, dominates, front, hypervolume, knee

POINTS = np.array([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1], [0.4, 0.4], [0.5, 0.5], [np.nan, 1.0], [-np.inf, -np.inf], [0.5, 0.1]])


def test_better_somewhere_and_worse_nowhere_dominates() -> None:
    assert dominates(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    assert not dominates(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    assert not dominates(np.array([1.0, 2.0]), np.array([2.0, 1.0]))


def test_who_misses_the_constraints_by_less_dominates() -> None:
    poor, rich = np.array([0.0]), np.array([9.0])
    assert dominates(poor, rich, 0.0, 0.1)
    assert dominates(poor, rich, 0.1, 0.2)
    assert not dominates(rich, poor, 0.1, 0.0)


def test_the_front_is_what_nobody_dominates_and_of_equals_the_first() -> None:
    assert front(POINTS) == [0, 1, 2]


def test_of_one_objective_the_front_is_the_first_of_the_best() -> None:
    assert front(np.array([[1.0], [3.0], [3.0], [2.0]])) == [1]


def test_the_front_agrees_with_comparing_everyone_with_everyone() -> None:
    rng = np.random.default_rng(0)
    for k in (1, 2, 3):
        fitness = rng.integers(0, 6, (60, k)).astype(float)
        violation = rng.integers(0, 2, 60).astype(float)
        expected = [
            i
            for i in range(60)
            if not any(dominates(fitness[j], fitness[i], violation[j], violation[i]) for j in range(60))
            and not any(np.array_equal(fitness[j], fitness[i]) and violation[j] == violation[i] for j in range(i))
        ]
        assert front(fitness, violation) == expected


def test_a_front_tells_whether_a_newcomer_joined() -> None:
    found: Front[str] = Front()
    assert found.add("a", np.array([0.1, 0.9]))
    assert found.add("b", np.array([0.9, 0.1]))
    assert not found.add("again", np.array([0.9, 0.1]))
    assert not found.add("worse", np.array([0.8, 0.1]))
    assert not found.add("failed", np.array([-np.inf, -np.inf]))
    assert not found.add("outside", np.array([1.0, 1.0]), 0.1)
    assert found.add("better", np.array([0.95, 0.1]))
    assert found.members == ["a", "better"]


def test_the_knee_is_furthest_from_the_line_through_the_ends() -> None:
    members = np.array([[0.0, 10.0], [0.4, 9.0], [0.9, 2.0], [1.0, 0.0]])
    assert knee(members, members) == 1
    assert knee(np.array([[0.5]]), np.array([[0.5], [0.1]])) == 0


def test_of_two_members_the_knee_gives_up_the_less_of_what_all_candidates_reach() -> None:
    members = np.array([[0.0, 0.93], [0.83, 0.92]])
    everyone = np.concatenate([members, [[0.1, 0.1], [np.nan, 0.5]]])
    assert knee(members, everyone) == 1
    assert knee(members[::-1], everyone) == 0


def test_the_hypervolume_is_the_area_under_the_staircase() -> None:
    points = [[0.5, 0.5], [0.25, 0.75], [0.2, 0.2]]
    assert hypervolume(points, [0.0, 0.0]) == pytest.approx(0.5 * 0.5 + 0.25 * 0.25)
    assert hypervolume([[0.5, 0.5, 0.5]], [0.0, 0.25, 0.0]) == pytest.approx(0.5 * 0.25 * 0.5)


def test_rows_below_the_reference_or_without_numbers_add_nothing() -> None:
    assert hypervolume([[-1.0, 3.0], [np.nan, 1.0], [-np.inf, -np.inf]], [0.0, 0.0]) == 0
    assert hypervolume(np.empty((0, 2)), [0.0, 0.0]) == 0
