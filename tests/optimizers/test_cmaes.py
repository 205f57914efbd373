"""The settings of the published runs: the same proposals as the plain library with them."""

import math
from pathlib import Path

import numpy as np
import pytest
from cmaes import CMA
from hydra.utils import instantiate
from omegaconf import OmegaConf

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.cmaes import CMAES


def unit(dim: int) -> tuple[Gene, ...]:
    return tuple(Gene(f"g{i}", 0.0, 1.0, 0.5) for i in range(dim))


def published(genes: tuple[Gene, ...], seed: int, **changes: object) -> CMAES:
    settings = {"sigma0": 1 / 6, "population_size": None, "startup_trial": False} | changes
    return CMAES(genes, seed, **settings)  # type: ignore[arg-type]


def plain(dim: int, seed: int, sigma: float = 1 / 6) -> CMA:
    """As Optuna's sampler builds it (Akiba et al. 2024, section 4.1)."""
    return CMA(
        mean=np.full(dim, 0.5),
        sigma=sigma,
        bounds=np.tile([0.0, 1.0], (dim, 1)),
        n_max_resampling=10 * dim,
        seed=seed,
        population_size=4 + math.floor(3 * math.log(dim)),
    )


def fitness_of(row: Genomes) -> float:
    return float(np.sin(5 * row).sum() + row[0])


def evaluations_of(genomes: Genomes) -> list[Evaluation]:
    return [Evaluation(("score",), 1, np.array([[fitness_of(row)]]), ("",)) for row in genomes]


@pytest.mark.parametrize("sigma", [1 / 6, 2.0])  # with the larger, most samples are drawn again and many clipped
@pytest.mark.parametrize("dim", [2, 6, 20])
def test_proposals_are_those_of_the_plain_library(dim: int, sigma: float) -> None:
    ours, theirs = published(unit(dim), 3, sigma0=sigma), plain(dim, 3, sigma)
    for _ in range(20):
        genomes = ours.ask()
        expected = np.stack([theirs.ask() for _ in range(theirs.population_size)])
        assert np.array_equal(genomes, expected)
        ours.tell(genomes, evaluations_of(genomes))
        theirs.tell([(row, -fitness_of(row)) for row in expected])  # the library minimises


def test_the_yaml_proposes_what_the_plain_library_does_for_a_thousand_candidates() -> None:
    config = OmegaConf.load(Path(__file__).parents[2] / "conf" / "optimizer" / "cmaes.yaml")
    ours, theirs = instantiate(config, unit(6), 5), plain(6, 5)
    assert theirs.population_size == 9
    n_compared = 0
    while n_compared < 1000:
        genomes = ours.ask()
        expected = np.stack([theirs.ask() for _ in range(9)])
        assert np.array_equal(genomes, expected)
        ours.tell(genomes, evaluations_of(genomes))
        theirs.tell([(row, -fitness_of(row)) for row in expected])
        n_compared += len(genomes)


def test_a_box_of_another_size_is_searched_in_the_same_shares() -> None:
    wide = published(tuple(Gene(f"g{i}", -2.0, 6.0, 2.0) for i in range(6)), 3)
    np.testing.assert_allclose((wide.ask() + 2) / 8, published(unit(6), 3).ask(), rtol=0, atol=1e-15)


def test_the_paper_had_nine_candidates_a_generation_for_six_genes() -> None:
    assert published(unit(6), 1).ask().shape == (9, 6)
    assert published(unit(1), 1).ask().shape == (4, 1)
    assert published(unit(6), 1, population_size=13).ask().shape == (13, 6)


def test_the_first_generation_lies_around_the_start() -> None:
    genes = tuple(Gene(f"g{i}", 0.0, 1.0, 0.25) for i in range(4))
    first = published(genes, 1, population_size=2000, sigma0=0.05).ask()
    assert np.abs(first.mean(axis=0) - 0.25).max() < 5 * 0.05 / 2000**0.5
    assert np.abs(first.std(axis=0) - 0.05).max() < 0.005


def test_a_random_mean_is_anywhere_in_the_box_and_follows_from_the_seed() -> None:
    genes = tuple(Gene(f"g{i}", -1.0, 3.0, 0.0) for i in range(4))
    settings = {"population_size": 500, "sigma0": 1e-3, "random_mean": True}
    means = np.array([published(genes, seed, **settings).ask().mean(axis=0) for seed in range(100)])
    assert np.array_equal(means[7], published(genes, 7, **settings).ask().mean(axis=0))
    assert np.abs(means.mean(axis=0) - 1.0).max() < 5 * (4.0 / 12**0.5) / 10  # of a uniform distribution over the box
    assert np.abs(means.std(axis=0) - 4.0 / 12**0.5).max() < 0.2
    trial = published(genes, 7, **settings, startup_trial=True).ask()
    assert np.abs(trial[0] - means[7]).max() > 0.1
    with pytest.raises(ConfigError, match=r"optimizer\.random_mean draws the mean that optimizer\.mean=0\.5 sets"):
        published(genes, 7, random_mean=True, mean=0.5)


def test_the_start_up_trial_is_one_random_candidate_that_is_never_told() -> None:
    with_trial, without = published(unit(6), 3, startup_trial=True), published(unit(6), 3)
    trial = with_trial.ask()
    assert trial.shape == (1, 6)
    assert (trial >= 0).all()
    assert (trial <= 1).all()
    assert not np.array_equal(trial, published(unit(6), 4, startup_trial=True).ask())
    with_trial.tell(trial, evaluations_of(trial))
    for _ in range(5):
        ours, expected = with_trial.ask(), without.ask()
        assert np.array_equal(ours, expected)
        with_trial.tell(ours, evaluations_of(ours))
        without.tell(expected, evaluations_of(expected))


def test_genes_without_bounds_step_in_shares_of_their_span() -> None:
    inf = float("inf")
    genes = tuple(Gene(f"g{i}", -inf, inf, 0.1 * i, span=0.6) for i in range(6))
    ours = published(genes, 3, population_size=20)
    theirs = CMA(mean=np.array([gene.start for gene in genes]), sigma=0.1, seed=3, population_size=20)
    for _ in range(10):
        genomes = ours.ask()
        expected = np.stack([theirs.ask() for _ in range(20)])
        np.testing.assert_allclose(genomes, expected, rtol=0, atol=1e-11)
        ours.tell(genomes, evaluations_of(expected))
        theirs.tell([(row, -fitness_of(row)) for row in expected])


def test_the_published_path_search_begins_at_zero_with_steps_of_a_tenth() -> None:
    genes = tuple(Gene(f"g{i}", -float("inf"), float("inf"), 0.1, span=0.6) for i in range(30))
    preset = OmegaConf.load(Path(__file__).parents[2] / "conf" / "optimizer" / "cmaes_evojax.yaml")
    optimizer = instantiate(preset, genes, 1)
    first = optimizer.ask()
    assert first.shape == (128, 30)
    assert abs(first.mean()) < 5 * 0.1 / first.size**0.5
    assert abs(first.std() - 0.1) < 0.005


def test_a_mean_outside_a_box_is_refused() -> None:
    genes = (*unit(2), Gene("scale", 0.5, 2.0, 1.0))
    assert published(genes, 1, mean=0.75).ask().shape[1] == 3
    with pytest.raises(ConfigError, match=r"optimizer\.mean is 0\.0, outside \[0\.5, 2\.0\] of 'scale'; optimizer\.mean=null"):
        published(genes, 1, mean=0.0)


@pytest.mark.parametrize("sigma0", [0.0, -1.0, float("nan")])
def test_a_step_size_of_nothing_is_refused(sigma0: float) -> None:
    with pytest.raises(ValueError, match=r"optimizer.sigma0 must be above 0"):
        published(unit(2), 1, sigma0=sigma0)


def test_several_objectives_are_refused() -> None:
    optimizer = published(unit(2), 1)
    genomes = optimizer.ask()
    with pytest.raises(ValueError, match="takes one objective, got several"):
        optimizer.tell(genomes, [Evaluation(("a", "b"), 2, np.zeros((1, 2)), ("",)) for _ in genomes])
