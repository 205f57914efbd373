"""When it begins again, where, and with how many candidates."""

import itertools

import numpy as np
import pytest

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import failed
from evo_merge.genome import Gene
from evo_merge.optimizers.cmaes_restart import CMAESRestart
from optimizer_cases import BOUNDED, build, run, scored

TWO = tuple(Gene(f"g{i}", 0.0, 1.0, 0.5) for i in range(2))


def restarting(strategy: str, seed: int = 1) -> CMAESRestart:
    return CMAESRestart(TWO, seed, sigma0=1 / 6, population_size=None, strategy=strategy)


def sizes_of(optimizer: CMAESRestart, generations: int) -> list[int]:
    """Of each search, on a landscape without a slope."""
    sizes: list[int] = []
    for _ in range(generations):
        genomes = optimizer.ask()
        optimizer.tell(genomes, [scored(0.0) for _ in genomes])
        sizes.append(len(genomes))
    return sizes


def test_until_it_is_stuck_it_proposes_what_cmaes_does() -> None:
    for ours, theirs in zip(run(build("cmaes_restart"), 15), run(build("cmaes"), 15), strict=True):
        assert np.array_equal(ours, theirs)


def test_ipop_doubles_the_population_each_time() -> None:
    sizes = sizes_of(restarting("ipop"), 70)
    assert list(dict.fromkeys(sizes))[:4] == [6, 12, 24, 48]


def test_bipop_takes_turns_with_smaller_searches() -> None:
    sizes = np.array(sizes_of(restarting("bipop"), 250))
    changes = sizes[np.flatnonzero(np.diff(sizes, prepend=0))].tolist()
    assert changes[:2] == [6, 12]  # the first search counts as a small one, so that a large one is next
    assert any(after < before for before, after in itertools.pairwise(changes))
    # A small search ends where those with small populations have spent as much as the others.
    largest = np.maximum.accumulate(sizes)
    small = sizes < largest
    assert small.any()
    assert sizes[small].sum() < 1.5 * sizes[~small].sum()


def test_a_restart_begins_anywhere_in_the_box() -> None:
    # The first search converges on a peak; a later one finds the higher one far from it.
    peak, start = np.array([0.95, 0.05]), np.array([0.5, 0.5])
    optimizer = restarting("ipop", seed=2)
    best, first_size = 0.0, 6
    for _ in range(150):
        genomes = optimizer.ask()
        near = np.exp(-np.square(genomes - start).sum(axis=1) / 0.02)
        high = 2 * np.exp(-np.square(genomes - peak).sum(axis=1) / 0.08)
        optimizer.tell(genomes, [scored(value) for value in (near + high).tolist()])
        if len(genomes) == first_size:
            assert (near + high).max() < 1.5
        best = max(best, float((near + high).max()))
    assert best > 1.9


@pytest.mark.parametrize("strategy", ["ipop", "bipop"])
def test_restarts_are_the_seeds(strategy: str) -> None:
    first, again, other = restarting(strategy), restarting(strategy), restarting(strategy, seed=2)
    for _ in range(80):
        genomes, same = first.ask(), again.ask()
        assert np.array_equal(genomes, same)
        for optimizer in (first, again):
            optimizer.tell(genomes, [scored(0.0) for _ in genomes])
        different = other.ask()
        other.tell(different, [scored(0.0) for _ in different])
    assert not np.array_equal(genomes, different)


def test_a_generation_in_which_all_fail_is_no_reason_to_begin_again() -> None:
    optimizer = restarting("ipop")
    for _ in range(5):
        genomes = optimizer.ask()
        assert len(genomes) == 6
        optimizer.tell(genomes, [failed(("score",), 1, "out of memory") for _ in genomes])


def test_an_unknown_strategy_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.strategy must be one of ipop, bipop, got 'lpop'$"):
        CMAESRestart(BOUNDED, 1, sigma0=1 / 6, population_size=None, strategy="lpop")
