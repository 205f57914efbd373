"""What every optimizer of several objectives keeps with two and three of them, some candidates failed and some not allowed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from optimizer_cases import BOUNDED, BOXES, NAMES, assert_inside, build, class_of, each_name, run, scored, several

TAKE_SEVERAL = [name for name in NAMES if class_of(name).takes_several]


def each_several(test: Callable[..., None]) -> Callable[..., None]:
    """With two objectives and with three, on every optimizer that takes several."""
    names = pytest.mark.parametrize("name", TAKE_SEVERAL)
    return names(pytest.mark.parametrize("n_objectives", [2, 3])(test))


@each_several
def test_several_objectives_are_told_with_failures_and_violations(name: str, n_objectives: int) -> None:
    genes = BOXES["every kind"]
    optimizer = build(name, genes)
    missed: list[bool] = []
    for _ in range(4):
        genomes = optimizer.ask()
        assert_inside(genomes, genes)
        evaluations = several(n_objectives)(genomes, genes)
        alive = [evaluation for evaluation in evaluations if evaluation.failure is None]
        assert 0 < len(alive) < len(evaluations)
        assert {len(evaluation.fitness) for evaluation in evaluations} == {n_objectives}
        missed += [evaluation.violation > 0 for evaluation in alive]
        optimizer.tell(genomes, evaluations)
    assert 0 < sum(missed) < len(missed)  # so that the other tests here tell both


@each_several
def test_the_seed_decides_every_proposal(name: str, n_objectives: int) -> None:
    genes, judge = BOXES["every kind"], several(n_objectives)
    first, again, other = (run(build(name, genes, seed=seed), 5, genes, judge) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@each_several
def test_proposals_do_not_depend_on_the_global_generator(name: str, n_objectives: int) -> None:
    genes, judge = BOXES["every kind"], several(n_objectives)
    np.random.seed(0)
    first = run(build(name, genes), 5, genes, judge)
    np.random.seed(1)
    before: Any = np.random.get_state(legacy=False)
    again = run(build(name, genes), 5, genes, judge)
    after: Any = np.random.get_state(legacy=False)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert after["state"]["pos"] == before["state"]["pos"]
    assert np.array_equal(after["state"]["key"], before["state"]["key"])


@each_several
def test_a_search_goes_on_from_any_ask_or_tell(name: str, n_objectives: int) -> None:
    genes, judge = BOXES["every kind"], several(n_objectives)
    unbroken = run(build(name, genes), 6, genes, judge)
    for n_told in range(6):
        resumed = build(name, genes)
        for recorded in unbroken[:n_told]:
            assert np.array_equal(resumed.ask(), recorded)
            resumed.tell(recorded.copy(), judge(recorded, genes))
        # Killed between an ask and its tell: the same generation is asked again, and goes on.
        rest = run(resumed, 6 - n_told, genes, judge)
        assert all(np.array_equal(a, b) for a, b in zip(rest, unbroken[n_told:], strict=True))


@each_name
def test_several_objectives_are_taken_or_refused(name: str) -> None:
    optimizer = build(name)
    for _ in range(2):
        genomes = optimizer.ask()
        evaluations = [scored(float(row[0]), -float(row[1])) for row in genomes]
        if class_of(name).takes_several:
            optimizer.tell(genomes, evaluations)
        else:
            with pytest.raises(ValueError, match="takes one objective, got several"):
                optimizer.tell(genomes, evaluations)
            return
    assert_inside(optimizer.ask(), BOUNDED)
