"""Where the optimizers of several kinds of genes begin, and that they leave a start."""

import numpy as np
import pytest

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene
from evo_merge.optimizers.catcma import CatCMA
from evo_merge.optimizers.cmaes_margin import CMAESMargin
from evo_merge.optimizers.random import RandomSearch

INF = float("inf")
BINARY = tuple(Gene(f"on/{i}", 0.0, 1.0, float(i % 2), kind="binary") for i in range(6))
CHOICE = tuple(Gene(f"slot/{i}", float(i), i + 7.0, i + 2.0, kind="choice") for i in range(4))
SCALES = tuple(Gene(f"scale/{i}", -INF, INF, 0.25, span=0.6) for i in range(3))


@pytest.mark.parametrize("optimizer", [CatCMA, CMAESMargin])
@pytest.mark.parametrize("probability", [0.6, 0.84, 0.95])
def test_the_first_generation_mostly_keeps_the_starts(optimizer: type[CatCMA] | type[CMAESMargin], probability: float) -> None:
    genes = (*BINARY, *SCALES)
    first = optimizer(genes, 1, sigma0=1 / 6, population_size=4000, start_probability=probability).ask()
    kept = (first == [gene.start for gene in genes]).mean(axis=0)[: len(BINARY)]
    np.testing.assert_allclose(kept, probability, atol=5 * np.sqrt(probability * (1 - probability) / 4000))
    np.testing.assert_allclose(first[:, len(BINARY) :].mean(axis=0), 0.25, atol=5 * 0.1 / 4000**0.5)
    np.testing.assert_allclose(first[:, len(BINARY) :].std(axis=0), 0.1, atol=0.006)  # 1/6 of the span


def test_a_choice_mostly_keeps_its_start_and_the_others_share_the_rest() -> None:
    first = CatCMA(CHOICE, 1, sigma0=1 / 6, population_size=4000, start_probability=0.65).ask()
    for column, gene in zip(first.T, CHOICE, strict=True):
        values, counts = np.unique(column, return_counts=True)
        assert values.tolist() == list(range(int(gene.low), int(gene.high) + 1))
        expected = np.where(values == gene.start, 0.65, 0.05)
        np.testing.assert_allclose(counts / 4000, expected, atol=0.04)


def test_random_takes_every_value_equally_and_a_span_for_a_box() -> None:
    half = Gene("half", 0.0, INF, 0.1, span=0.6)
    drawn = RandomSearch((*BINARY, *CHOICE, *SCALES, half), 1, population_size=8000).ask()
    np.testing.assert_allclose(drawn[:, : len(BINARY)].mean(axis=0), 0.5, atol=0.03)
    for column in drawn[:, len(BINARY) : len(BINARY) + len(CHOICE)].T:
        np.testing.assert_allclose(np.unique(column, return_counts=True)[1] / 8000, 1 / 8, atol=0.02)
    scales = drawn[:, -4:-1]
    assert -0.05 <= scales.min() < -0.04
    assert 0.54 < scales.max() <= 0.55
    assert 0 <= drawn[:, -1].min() < 0.01
    assert 0.39 < drawn[:, -1].max() <= 0.4


@pytest.mark.parametrize("optimizer", [CatCMA, CMAESMargin])
@pytest.mark.parametrize("seed", range(5))
def test_a_path_of_sixty_slots_with_eight_wrong_is_repaired(optimizer: type[CatCMA] | type[CMAESMargin], seed: int) -> None:
    genes = tuple(Gene(f"on/{i}", 0.0, 1.0, float(i < 20), kind="binary") for i in range(60))
    optimum = np.array([gene.start for gene in genes])
    wrong = np.random.default_rng(seed).choice(60, 8, replace=False)
    optimum[wrong] = 1 - optimum[wrong]
    search = optimizer(genes, seed, sigma0=1 / 6, population_size=None, start_probability=0.84)
    fewest_wrong = 60.0
    for _ in range(150):  # 16 candidates each
        genomes = search.ask()
        fitness = -np.abs(genomes - optimum).sum(axis=1)
        fewest_wrong = min(fewest_wrong, -fitness.max())
        if fewest_wrong == 0:
            break
        search.tell(genomes, [Evaluation(("score",), 1, np.array([[value]]), ("",)) for value in fitness])
    assert fewest_wrong == 0


@pytest.mark.parametrize("probability", [0.0, 1.0, float("nan")])
def test_a_start_that_never_or_always_changes_is_refused(probability: float) -> None:
    for optimizer in (CatCMA, CMAESMargin):
        with pytest.raises(ValueError, match=r"optimizer\.start_probability must "):
            optimizer(BINARY, 1, sigma0=1 / 6, population_size=None, start_probability=probability)
