"""Cells, elites, turns and parents of MAP-Elites over scores."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.genome import Gene, Genomes
from evo_merge.niches import ScoreBins
from evo_merge.optimizers.map_elites import MapElites
from evo_merge.optimizers.random import RandomSearch
from evo_merge.pareto import hypervolume

GENES = tuple(Gene(f"weight/{i}", 0.0, 1.0, 0.5) for i in range(3))
SETTINGS = {
    "population_size": 4,
    "n_random": 4,
    "quality": None,
    "n_bins": 10,
    "score_range": [0, 1],
    "parent_pressure": 0.8,
    "crossover_std": 0.01,
    "mutation_sigma": 0.01,
    "mutation_spread": 0.4,
}


def map_elites(genes: Sequence[Gene] = GENES, seed: int = 1, **changes: object) -> MapElites:
    return MapElites(genes, seed, **{**SETTINGS, **changes})  # type: ignore[arg-type]


def scored(*means: float, violation: float = 0.0) -> Evaluation:
    """One example an objective, which the other objectives do not ask."""
    names = tuple(f"task{i}" for i in range(len(means)))
    rows = np.where(np.eye(len(means), dtype=bool), means, np.nan)
    return Evaluation(names, len(means), rows, ("",) * len(means), violation=violation)


def genomes_of(*values: float) -> Genomes:
    return np.repeat(np.array(values)[:, None], len(GENES), axis=1)


def held(optimizer: MapElites) -> dict[tuple[int | None, tuple[int, ...]], float]:
    """The first gene of who holds each cell, by quality and bins."""
    return {(niche.quality, niche.cell): float(niche.genome[0]) for niche in optimizer.niches()}


def trade_off(genomes: Genomes) -> list[Evaluation]:
    """Two tasks that want the first gene at 0 and at 1, and both the others at 0.3."""
    away = 2 * ((genomes[:, 1:] - 0.3) ** 2).sum(axis=1)
    first, second = (np.clip(1 - end - away, 0, 1) for end in (genomes[:, 0], 1 - genomes[:, 0]))
    return [scored(a, b) for a, b in zip(first, second, strict=True)]


def run(optimizer: MapElites | RandomSearch, generations: int) -> NDArray[np.float64]:
    """Fitness ``(n, 2)`` of all that was asked."""
    found = []
    for _ in range(generations):
        genomes = optimizer.ask()
        evaluations = trade_off(genomes)
        optimizer.tell(genomes, evaluations)
        found += [evaluation.fitness for evaluation in evaluations]
    return np.array(found)


def test_each_objective_has_an_archive_over_the_scores_of_the_others() -> None:
    optimizer = map_elites()
    optimizer.tell(genomes_of(0.1, 0.2, 0.3), [scored(0.55, 0.05), scored(0.35, 0.05), scored(0.95, 1.0)])
    assert held(optimizer) == {
        (0, (0,)): 0.1,  # the better of the two whose second score is below 0.1
        (0, (9,)): 0.3,  # 1.0 counts to the last bin
        (1, (3,)): 0.2,
        (1, (5,)): 0.1,
        (1, (9,)): 0.3,
    }


def test_one_quality_has_one_archive_whose_axes_are_the_others() -> None:
    optimizer = map_elites(quality=1)
    optimizer.tell(genomes_of(0.1, 0.2), [scored(0.55, 0.4, 0.05), scored(0.55, 0.5, 0.95)])
    assert held(optimizer) == {(1, (5, 0)): 0.1, (1, (5, 9)): 0.2}


def test_only_a_better_one_takes_a_cell() -> None:
    optimizer = map_elites(quality=0)
    optimizer.tell(genomes_of(0.1), [scored(0.5, 0.5)])
    optimizer.tell(genomes_of(0.2), [scored(0.5, 0.55)])
    assert held(optimizer) == {(0, (5,)): 0.1}
    optimizer.tell(genomes_of(0.3), [scored(0.51, 0.5)])
    assert held(optimizer) == {(0, (5,)): 0.3}


def test_scores_outside_the_range_count_to_the_end_bins_and_each_objective_may_have_its_own() -> None:
    optimizer = map_elites(quality=0, score_range=[[0, 1], [-100, 0]], n_bins=4)
    scores = (-250.0, -100.0, -76.0, -75.0, -1.0, 3.0)
    optimizer.tell(genomes_of(*(0.1 * i for i in range(6))), [scored(0.1 * i, score) for i, score in enumerate(scores)])
    assert {cell: genome for (_, cell), genome in held(optimizer).items()} == pytest.approx({(0,): 0.2, (1,): 0.3, (3,): 0.5})
    assert optimizer.bins == (ScoreBins(4, 0.0, 1.0), ScoreBins(4, -100.0, 0.0))


def test_a_candidate_that_failed_or_has_no_number_enters_nothing() -> None:
    optimizer = map_elites()
    optimizer.tell(genomes_of(0.1, 0.2), [failed(("a", "b"), 2, "out of memory"), scored(0.5, float("nan"))])
    assert optimizer.niches() == []
    assert np.ptp(optimizer.ask()) > 0  # uniform draws again, for there are no parents


def test_who_misses_a_constraint_gives_way_and_is_no_niche() -> None:
    optimizer = map_elites(quality=0)
    optimizer.tell(genomes_of(0.1, 0.2), [scored(0.9, 0.5, violation=0.1), scored(0.9, 0.1, violation=0.1)])
    assert held(optimizer) == {}
    optimizer.tell(genomes_of(0.3), [scored(0.2, 0.5)])
    assert held(optimizer) == {(0, (5,)): 0.3}


def test_with_one_objective_the_best_are_kept() -> None:
    optimizer = map_elites(n_bins=2)
    optimizer.tell(genomes_of(0.1, 0.2, 0.2, 0.3), [scored(value) for value in (0.1, 0.3, 0.3, 0.2)])
    assert [float(niche.genome[0]) for niche in optimizer.niches()] == [0.2, 0.3]


def test_the_quality_takes_turns() -> None:
    # One who is best in a task holds its archive alone, so that its children tell whose turn it is.
    optimizer = map_elites(n_bins=1, mutation_sigma=0.0, mutation_spread=0.0)
    optimizer.tell(genomes_of(0.1, 0.2), [scored(0.9, 0.1), scored(0.1, 0.9)])
    turns = []
    for _ in range(4):
        asked = optimizer.ask()
        assert len(np.unique(asked)) == 1
        turns.append(float(asked[0, 0]))
        optimizer.tell(asked, [failed(("a", "b"), 2, "not asked") for _ in asked])
    assert turns == [0.2, 0.1, 0.2, 0.1]


def test_children_without_mutation_lie_near_the_middle_of_two_elites() -> None:
    optimizer = map_elites(mutation_sigma=0.0, mutation_spread=0.0, population_size=400)
    optimizer.tell(genomes_of(0.0, 1.0), [scored(0.9, 0.1), scored(0.1, 0.9)])
    children = optimizer.ask()
    assert np.ptp(children, axis=1).max() == 0  # on the line between them
    assert children.mean() == pytest.approx(0.5, abs=0.002)
    assert children[:, 0].std() == pytest.approx(0.01 / 2 / 2**0.5, rel=0.15)  # of a / (a + b), both from N(1, 0.01)


def test_good_elites_become_parents_more_often_by_the_published_weights() -> None:
    # Three cells: standings 0, 1/2 and 1 in quality, but 1, 1/2 and 0 on the axis.
    optimizer = map_elites(quality=0, population_size=20_000, mutation_sigma=0.0, mutation_spread=0.0, crossover_std=0.0)
    optimizer.tell(genomes_of(0.0, 0.1, 0.3), [scored(0.2, 0.95), scored(0.4, 0.55), scored(0.6, 0.15)])
    weights = np.array([0.5 * 1.3, (0.5 + 0.4) * (0.5 + 0.8 * 0.5), 1.3 * 0.5])
    p = weights / weights.sum()
    pairs = {(i, j): p[i] * p[j] / (1 - p[i]) + p[i] * p[j] / (1 - p[j]) for i, j in ((0, 1), (0, 2), (1, 2))}
    children = optimizer.ask()[:, 0]
    for (i, j), expected in pairs.items():
        middle = (0.0, 0.1, 0.3)[i] / 2 + (0.0, 0.1, 0.3)[j] / 2
        assert np.isclose(children, middle).mean() == pytest.approx(expected, abs=0.015)


def test_the_start_is_the_first_candidate() -> None:
    assert map_elites().ask()[0].tolist() == [0.5, 0.5, 0.5]


def test_an_archive_reaches_further_than_random_search() -> None:
    for seed in range(5):
        found = map_elites(seed=seed, population_size=10, n_random=20)
        run(found, 30)
        archive = np.array([niche.fitness for niche in found.niches()])
        drawn = run(RandomSearch(GENES, seed, population_size=10), 30)
        for end in ((0.9, 0.05), (0.5, 0.45), (0.05, 0.9)):  # a candidate that is above both
            assert (archive > end).all(axis=1).any()
        assert archive.sum(axis=1).max() > drawn.sum(axis=1).max()
        assert len(found.niches()) > 14  # of 20 cells


def test_a_range_that_holds_no_score_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    optimizer = map_elites()
    for _ in range(2):
        optimizer.tell(genomes_of(0.1, 0.2), [scored(0.5, -120.0), scored(0.4, -80.0)])
    assert [record.getMessage() for record in caplog.records] == [
        "all first scores of objective 1, -120 to -80, lie outside of optimizer.score_range [0, 1], so that it tells no "
        "candidates apart; give each objective the range of its own"
    ]
    caplog.clear()
    map_elites(score_range=[[0, 1], [-200, 0]]).tell(genomes_of(0.1), [scored(0.5, -120.0)])
    map_elites().tell(genomes_of(0.1), [scored(-120.0)])  # one objective has no axis
    assert caplog.records == []


@pytest.mark.parametrize("seed", range(3))
def test_the_front_of_zdt1_is_found(seed: int) -> None:
    """Zitzler, Deb and Thiele 2000, equation 7; up to 1.1 in both losses the whole front has a hypervolume of 0.877."""
    genes = tuple(Gene(f"g{i}", 0.0, 1.0, 0.5) for i in range(6))
    optimizer = map_elites(genes, seed, population_size=10, n_random=20, score_range=[[-1, 0], [-6, 0]])
    found = []
    for _ in range(200):
        genomes = optimizer.ask()
        others = 1 + 9 * genomes[:, 1:].mean(axis=1)
        losses = np.stack([genomes[:, 0], others * (1 - np.sqrt(genomes[:, 0] / others))], axis=1)
        optimizer.tell(genomes, [scored(*row) for row in (-losses).tolist()])
        found += [*-losses]
    assert hypervolume(np.array(found), [-1.1, -1.1]) > 0.8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"population_size": 0}, "population_size must be at least 1"),
        ({"n_random": 0}, "n_random must be at least 1"),
        ({"n_bins": 0}, "n_bins must be at least 1"),
        ({"parent_pressure": -1.0}, "parent_pressure must be 0 or a number above it"),
        ({"crossover_std": float("nan")}, "crossover_std must be 0 or a number above it"),
        ({"mutation_sigma": -0.1}, "mutation_sigma must be 0 or a number above it"),
        ({"mutation_spread": float("inf")}, "mutation_spread must be 0 or a number above it"),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=f"optimizer.{said}"):
        map_elites(**changes)


@pytest.mark.parametrize("odd", [[1, 0], [0, 0], [0], [], [[0, 1], [1, 0]], ["a", "b"], [0, float("inf")], [[0, 1], 1]])
def test_a_range_that_is_none_is_one_sentence(odd: list[object]) -> None:
    with pytest.raises(ConfigError, match=r"optimizer.score_range must be \[low, high\] with low < high"):
        map_elites(score_range=odd)


def test_what_does_not_fit_the_objectives_is_one_sentence_before_the_search_or_when_told() -> None:
    said = r"optimizer\.quality is 2, but the run's objectives are numbered 0 to 1"
    with pytest.raises(ConfigError, match=said):
        map_elites(quality=2).expect(2, is_batched=False)
    with pytest.raises(ConfigError, match=said):
        map_elites(quality=2).tell(genomes_of(0.1), [scored(0.5, 0.5)])
    with pytest.raises(ConfigError, match=r"optimizer\.score_range has 2 ranges, but the run has 3 objectives"):
        map_elites(score_range=[[0, 1], [0, 2]]).expect(3, is_batched=False)


def test_problems_that_change_from_generation_to_generation_are_refused() -> None:
    said = r"optimizer=map_elites compares the candidates of all generations"
    with pytest.raises(ConfigError, match=said):
        map_elites().expect(2, is_batched=True)
    with pytest.raises(ConfigError, match=said):
        map_elites().tell(genomes_of(0.1), [Evaluation(("a",), 1, np.ones((2, 1)), ("", ""), positions=(3, 5))])


def test_what_is_known_before_the_search_changes_nothing() -> None:
    told_before, told_later = map_elites(), map_elites()
    told_before.expect(2, is_batched=False)
    run(told_before, 5)
    run(told_later, 5)
    assert held(told_before) == held(told_later)
    assert np.array_equal(told_before.ask(), told_later.ask())
