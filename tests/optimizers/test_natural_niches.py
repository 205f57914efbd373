"""Competition for problems, attraction, and crossover at a split point."""

from collections.abc import Sequence

import numpy as np
import pytest

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.natural_niches import NaturalNiches, attraction, competition

LAYERS = tuple(Gene(f"layer{layer}/{name}", 0.0, 1.0, 0.5) for layer in range(4) for name in ("weight/ja", "weight/math"))
SETTINGS = {
    "population_size": 4,
    "n_random": 4,
    "archive_size": 3,
    "alpha": 1.0,
    "mutation_sigma": 0.01,
    "mutation_spread": 0.4,
}


def natural_niches(genes: Sequence[Gene] = LAYERS, seed: int = 1, **changes: object) -> NaturalNiches:
    return NaturalNiches(genes, seed, **{**SETTINGS, **changes})  # type: ignore[arg-type]


def solves(*problems: int, n: int = 6, violation: float = 0.0) -> Evaluation:
    scores = np.zeros((n, 1))
    scores[list(problems)] = 1
    return Evaluation(("score",), 1, scores, ("",) * n, violation=violation)


def genomes_of(*values: float, dim: int = len(LAYERS)) -> Genomes:
    return np.repeat(np.array(values)[:, None], dim, axis=1)


def members(optimizer: NaturalNiches) -> list[float]:
    """The first gene of every member, the strongest competitor first."""
    return [float(niche.genome[0]) for niche in optimizer.niches()]


def test_a_problem_is_shared_by_those_who_solve_it() -> None:
    # By hand: problem 0 is solved by two, problem 1 by one, problem 2 by nobody.
    scores = np.array([[1.0, 0, 0], [1, 1, 0], [0, 0, 0]])
    assert competition(scores, 1.0).tolist() == [0.5, 1.5, 0.0]
    assert competition(scores, 0.0).tolist() == [1.0, 2.0, 0.0]  # nothing is shared: plain sums
    np.testing.assert_allclose(competition(scores, 2.0), [0.25, 1.25, 0.0])


def test_attraction_is_what_the_other_adds() -> None:
    scores = np.array([[1.0, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 1]])
    # Problem 1 is solved by two and problem 2 by one, so that member 1 adds 1/2 to member 0, and member 2 adds 1/2 + 1.
    assert attraction(scores, 0).tolist() == [0.0, 0.5, 1.5]
    assert attraction(scores, 2).tolist() == [0.5, 0.5, 0.0]


def test_who_solves_what_nobody_else_does_outlives_a_higher_mean() -> None:
    optimizer = natural_niches()
    optimizer.tell(genomes_of(0.1, 0.2, 0.3, 0.4), [solves(0, 1, 2), solves(0, 1, 3), solves(0, 1), solves(5)])
    assert members(optimizer) == [0.1, 0.2, 0.4]  # competition gives 0.3 two thirds of a problem, and 0.4 a whole one
    plain = natural_niches(alpha=0.0)
    plain.tell(genomes_of(0.1, 0.2, 0.3, 0.4), [solves(0, 1, 2), solves(0, 1, 3), solves(0, 1), solves(5)])
    assert members(plain) == [0.1, 0.2, 0.3]


def test_all_objectives_are_competed_for_and_what_an_objective_does_not_ask_counts_for_nobody() -> None:
    def several(first: float, second: float) -> Evaluation:
        scores = np.array([[first, np.nan, 7.0], [np.nan, second, 7.0]])
        return Evaluation(("a", "b", "length"), 2, scores, ("", ""))

    optimizer = natural_niches(archive_size=2)
    optimizer.tell(genomes_of(0.1, 0.2, 0.3), [several(1, 0), several(1, 0), several(0, 1)])
    assert members(optimizer) == [0.2, 0.3]  # of the equal two the older goes; the third metric is no objective


def test_scores_below_zero_count_from_the_lowest() -> None:
    def length(*tokens: float) -> Evaluation:
        return Evaluation(("length",), 1, -np.array(tokens)[:, None], ("",) * len(tokens))

    optimizer = natural_niches(archive_size=2)
    # From the lowest: [20, 0], [0, 10] and [10, 9], of totals 30 and 19: the second has least.
    optimizer.tell(genomes_of(0.1, 0.2, 0.3), [length(10, 30), length(30, 20), length(20, 21)])
    assert members(optimizer) == [0.1, 0.3]


def test_who_misses_a_constraint_goes_first_and_is_no_niche() -> None:
    optimizer = natural_niches()
    told = [solves(0, 1, 2, 3, 4, violation=0.2), solves(5, violation=0.1), solves(0)]
    optimizer.tell(genomes_of(0.1, 0.2, 0.3), told)
    assert members(optimizer) == [0.3]
    optimizer.tell(genomes_of(0.4), [solves(0, 1)])
    assert members(optimizer) == [0.4, 0.3]
    optimizer.tell(genomes_of(0.5), [solves()])  # better than the one that still misses it
    assert members(optimizer) == [0.4, 0.3, 0.5]


def test_a_candidate_that_failed_does_not_take_part() -> None:
    optimizer = natural_niches()
    optimizer.tell(genomes_of(0.1, 0.2), [failed(("score",), 1, "out of memory"), solves(0)])
    assert members(optimizer) == [0.2]


def test_the_same_genome_is_one_member() -> None:
    optimizer = natural_niches()
    optimizer.tell(genomes_of(0.1, 0.1, 0.2), [solves(0), solves(0), solves(1)])
    assert sorted(members(optimizer)) == [0.1, 0.2]


def test_a_child_is_one_share_before_a_split_between_layers_and_the_other_behind_it() -> None:
    optimizer = natural_niches(mutation_sigma=0.0, mutation_spread=0.0, population_size=300)
    optimizer.tell(genomes_of(0.0, 1.0), [solves(0), solves(1)])
    children = optimizer.ask().reshape(300, 4, 2)  # child, layer, gene
    assert np.ptp(children, axis=2).max() == 0  # a layer is never cut
    children = children[:, :, 0]
    first, last = children[:, :1], children[:, 3:]
    assert np.isclose(np.where(np.isclose(children, first), first, last), children).all()  # at most two values
    cuts = np.isclose(children, first).sum(axis=1)
    cut = cuts < 4
    np.testing.assert_allclose((first + last)[cut], 1.0)  # w and 1 - w
    assert np.ptp(children[~cut], axis=1).max() == 0
    np.testing.assert_allclose(np.bincount(cuts, minlength=5)[1:] / 300, 0.25, atol=0.1)


def test_genes_without_layers_may_be_cut_anywhere() -> None:
    genes = tuple(Gene(f"weight/{i}", 0.0, 1.0, 0.5) for i in range(4))
    optimizer = natural_niches(genes, mutation_sigma=0.0, mutation_spread=0.0, population_size=300)
    optimizer.tell(genomes_of(0.0, 1.0, dim=4), [solves(0), solves(1)])
    children = optimizer.ask()
    assert set(np.isclose(children, children[:, :1]).sum(axis=1).tolist()) == {1, 2, 3, 4}


def test_parents_are_drawn_by_competition_and_mates_by_attraction() -> None:
    genes = (Gene("t", 0.0, 10.0, 5.0),)
    optimizer = natural_niches(genes, mutation_sigma=0.0, mutation_spread=0.0, population_size=20_000)
    # Shares: member 0 has 1 of problem 0 and 1/2 of 1; member 1 has 1/2 of 1; member 2 has 1 of problem 2.
    optimizer.tell(genomes_of(0.0, 1.0, 9.0, dim=1), [solves(0, 1, n=3), solves(1, n=3), solves(2, n=3)])
    p = np.array([1.5, 0.5, 1.0]) / 3
    # Member 0 lacks only what 2 has; 1 lacks problem 0 (whole) and 2 (whole); 2 lacks 1.5 of 0 and 0.5 of 1.
    pairs = {(0, 2): p[0] + p[2] * 0.75, (0, 1): p[1] / 2, (1, 2): p[1] / 2 + p[2] * 0.25}
    children = optimizer.ask()[:, 0]
    assert (children < 1).mean() == pytest.approx(pairs[0, 1] + pairs[0, 2] / 9, abs=0.015)
    assert (children >= 1).mean() == pytest.approx(pairs[1, 2] + pairs[0, 2] * 8 / 9, abs=0.015)


def test_parents_that_solve_the_same_still_have_children() -> None:
    optimizer = natural_niches()
    optimizer.tell(genomes_of(0.1, 0.2, 0.3), [solves(), solves(), solves()])
    assert np.isfinite(optimizer.ask()).all()


def test_binary_and_choice_genes_are_inherited_and_now_and_then_turned() -> None:
    genes = (*(Gene(f"on/{i}", 0.0, 1.0, 1.0, kind="binary") for i in range(5)), Gene("pick", 2.0, 6.0, 2.0, kind="choice"))
    a, b = np.array([0.0, 0, 0, 0, 0, 2]), np.array([0.0, 0, 1, 1, 1, 6])
    plain = natural_niches(genes, mutation_sigma=0.0, mutation_spread=0.0, population_size=500)
    plain.tell(np.stack([a, b]), [solves(0), solves(1)])
    children = plain.ask()
    assert ((children == a) | (children == b)).all()
    assert 0.4 < children[:, 2].mean() < 0.6
    mutated = natural_niches(genes, population_size=3000)
    mutated.tell(np.stack([a, b]), [solves(0), solves(1)])
    children = mutated.ask()
    assert children[:, :2].mean(axis=0) == pytest.approx([1 / 6, 1 / 6], abs=0.03)  # one of six genes turns, on average
    others = np.isin(children[:, 5], (3.0, 4.0, 5.0))
    assert others.mean() == pytest.approx(1 / 6 * 3 / 4, abs=0.03)  # to each of four other values alike
    assert set(children[:, 5].tolist()) == {2.0, 3.0, 4.0, 5.0, 6.0}


def test_niches_solve_more_together_than_the_best_do_without_sharing() -> None:
    """Each problem is solved near a place of its own, so that no candidate can solve all."""
    places = np.random.default_rng(0).random((60, len(LAYERS)))
    reach = np.random.default_rng(1).uniform(0.5, 1.0, 60)

    def together(alpha: float, seed: int) -> float:
        optimizer = natural_niches(seed=seed, alpha=alpha, population_size=10, n_random=20, archive_size=15)
        solved = {}
        for _ in range(20):
            genomes = optimizer.ask()
            found = np.linalg.norm(genomes[:, None] - places, axis=2) < reach  # (population_size, 60)
            solved |= {genome.tobytes(): row for genome, row in zip(genomes, found, strict=True)}
            optimizer.tell(genomes, [solves(*np.flatnonzero(row), n=60) for row in found])
        return float(np.any([solved[niche.genome.tobytes()] for niche in optimizer.niches()], axis=0).mean())

    shared, plain = (np.mean([together(alpha, seed) for seed in range(5)]) for alpha in (1.0, 0.0))
    assert shared > plain + 0.1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"population_size": 0}, "population_size must be at least 1"),
        ({"n_random": 0}, "n_random must be at least 1"),
        ({"archive_size": 1}, "archive_size must be at least 2"),
        ({"alpha": -1.0}, "alpha must be 0 or a number above it"),
        ({"mutation_sigma": float("nan")}, "mutation_sigma must be 0 or a number above it"),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=f"optimizer.{said}"):
        natural_niches(**changes)


def test_problems_that_change_from_generation_to_generation_are_refused() -> None:
    said = r"compares the candidates of all generations, so all must be asked the same problems; set evaluation\.batch=null"
    asked = Evaluation(("score",), 1, np.ones((2, 1)), ("", ""), positions=(3, 5))
    with pytest.raises(ConfigError, match=said):
        natural_niches().tell(genomes_of(0.1), [asked])
    with pytest.raises(ConfigError, match=said):
        natural_niches().expect(2, is_batched=True)
    natural_niches().expect(2, is_batched=False)
