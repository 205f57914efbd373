"""How failures, constraints and fitness of any size make one rank, and who can refuse a search before it begins."""

import math

import pytest

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import failed
from evo_merge.niches import KeepsArchive
from evo_merge.optimizers.base import Expects, single_fitness
from optimizer_cases import build, each_name, scored


@pytest.mark.parametrize("lowest", [0.3, -0.3, -1e6 - 0.5, -3e9, -1e17, -1e300])
def test_what_misses_a_constraint_ranks_below_all_that_meet_them(lowest: float) -> None:
    evaluations = [scored(lowest), scored(0.9), scored(0.95, violation=1e-6), scored(0.9, violation=0.0)]
    low, high, missed, same = single_fitness(evaluations)
    assert (low, high, same) == (lowest, 0.9, 0.9)
    assert -math.inf < missed < low


@pytest.mark.parametrize("lowest", [0.3, -1e6, -3e6])
def test_the_smaller_miss_ranks_higher_whatever_its_fitness(lowest: float) -> None:
    told = [scored(lowest), scored(-5e9, violation=0.01), scored(7.0, violation=0.02), scored(0.5, violation=3.0)]
    ranks = single_fitness(told)
    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) == 4


def test_failures_and_what_is_no_number_rank_last_and_lower_nobody() -> None:
    told = [
        failed(("score",), 1, "out of memory"),
        scored(math.nan),
        scored(math.nan, violation=1.0),
        scored(1.0, violation=2.0),
    ]
    assert single_fitness(told) == [-math.inf, -math.inf, -math.inf, -1e6 - 2.0]


@each_name
def test_who_can_refuse_a_search_before_it_begins(name: str) -> None:
    optimizer = build(name)
    assert isinstance(optimizer, Expects) == (name in ("map_elites", "natural_niches", "nsga3"))
    assert isinstance(optimizer, KeepsArchive) == (name in ("map_elites", "natural_niches"))


def test_more_objectives_than_candidates_are_one_sentence_before_anything_is_asked() -> None:
    optimizer = build("nsga3", population_size=4)
    assert isinstance(optimizer, Expects)
    optimizer.expect(4, is_batched=True)
    said = r"^optimizer\.population_size must be at least the number of objectives, which is 5, got 4$"
    with pytest.raises(ConfigError, match=said):
        optimizer.expect(5, is_batched=False)
