"""The plain library, and thousands of genes."""

import numpy as np
from cmaes import SepCMA

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene
from evo_merge.optimizers.sep_cmaes import SepCMAES

INF = float("inf")


def evaluations_of(fitness: list[float]) -> list[Evaluation]:
    return [Evaluation(("score",), 1, np.array([[value]]), ("",)) for value in fitness]


def test_proposals_are_those_of_the_plain_library() -> None:
    genes = tuple(Gene(f"g{i}", -INF, INF, 0.1 * i, span=0.5) for i in range(8))
    start = np.array([gene.start for gene in genes])
    ours = SepCMAES(genes, 3, sigma0=0.2, population_size=10, mean=None)
    theirs = SepCMA(mean=start.copy(), sigma=0.1, seed=3, population_size=10)  # 0.2 of a span of 0.5
    for _ in range(10):
        genomes = ours.ask()
        expected = np.stack([theirs.ask() for _ in range(10)])
        np.testing.assert_allclose(genomes, expected, rtol=0, atol=1e-12)
        fitness = [float(-np.square(row - 0.3).sum()) for row in expected]
        ours.tell(genomes, evaluations_of(fitness))
        theirs.tell([(row, -value) for row, value in zip(expected, fitness, strict=True)])


def test_thousands_of_genes_are_searched() -> None:
    genes = tuple(Gene(f"g{i}", -INF, INF, 0.0, span=0.6) for i in range(4286))
    optimizer = SepCMAES(genes, 1, sigma0=1 / 6, population_size=128, mean=None)
    means = []
    for _ in range(60):
        genomes = optimizer.ask()
        fitness = [-float(value) for value in np.square(genomes - 0.5).mean(axis=1)]
        means.append(float(np.mean(fitness)))
        optimizer.tell(genomes, evaluations_of(fitness))
    assert means[-1] > 0.75 * means[0]
