"""That what learns does: against random search at the same budget, towards an optimum, a front, and what is allowed."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import Optimizer
from optimizer_cases import (
    BLIND,
    BOUNDED,
    BOXES,
    CASES,
    LEARNING,
    SLOW,
    build,
    comes_closer,
    distances,
    generations_of,
    scored,
)

SIX = tuple(Gene(f"g{i}", -1.0, 1.0, 0.0) for i in range(6))
LEARNING_CASES = [case for case in CASES if case[0] in LEARNING]


def best_so_far(optimizer: Optimizer, genes: tuple[Gene, ...], evaluations: int) -> Iterator[float]:
    """The least distance after each generation, of the first so many candidates."""
    best, asked = float("inf"), 0
    for genomes in generations_of(optimizer, evaluations, genes):
        best = min(best, float(distances(genomes[: evaluations - asked], genes).min()))
        yield best
        asked += len(genomes)
        if asked >= evaluations:
            return


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", LEARNING)
def test_it_beats_random_on_six_genes(name: str, seed: int) -> None:
    optimizer = build(name, SIX, seed)
    size = len(build(name, SIX, seed).ask())
    # Of the published generations of 128, 300 candidates are but two: those have twenty.
    budget = 300 if size * 10 <= 300 else 20 * size
    *_, random = best_so_far(build("random", SIX, seed), SIX, budget)
    assert any(best < random for best in best_so_far(optimizer, SIX, budget))  # the best so far never gets worse


@pytest.mark.parametrize(("name", "box"), LEARNING_CASES, ids=[", ".join(case) for case in LEARNING_CASES])
def test_it_learns_genes_of_every_kind_that_it_takes(name: str, box: str) -> None:
    genes = BOXES[box]
    size = len(build(name, genes).ask())
    random = float(distances(build("random", genes, population_size=40 * size).ask(), genes).min())
    assert any(best < random for best in best_so_far(build(name, genes), genes, 40 * size))
    assert comes_closer(build(name, genes), genes)


@pytest.mark.parametrize("name", LEARNING)
def test_it_comes_close_to_the_optimum_of_a_small_sphere(name: str) -> None:
    start = float(distances(np.array([[gene.start for gene in BOUNDED]]), BOUNDED)[0])
    size = len(build(name).ask())
    assert any(best < start / 100 for best in best_so_far(build(name), BOUNDED, max(400, 20 * size)))


@pytest.mark.parametrize("name", BLIND)
def test_what_is_blind_does_not_come_closer(name: str) -> None:
    means = [float(distances(genomes, BOUNDED).mean()) for genomes in generations_of(build(name), 30)]
    assert np.mean(means[15:]) > 0.8 * np.mean(means[:15])


def zdt1(genomes: Genomes) -> NDArray[np.float64]:
    """The two losses ``(n, 2)`` of Zitzler, Deb and Thiele 2000, equation 7; the front is f2 = 1 - sqrt(f1)."""
    first = genomes[:, 0]
    others = 1 + 9 * genomes[:, 1:].mean(axis=1)
    return np.stack([first, others * (1 - np.sqrt(first / others))], axis=1)


def hypervolume(losses: NDArray[np.float64], reference: float = 1.1) -> float:
    """Area that some row is better than, up to the reference in both; the whole front of ZDT1 has 1.21 - 1/3 = 0.877."""
    area, lowest = 0.0, reference
    for first, second in sorted(losses.tolist()):
        if first < reference and second < lowest:
            area += (reference - first) * (lowest - second)
            lowest = second
    return area


def test_the_hypervolume_of_known_fronts() -> None:
    assert hypervolume(np.array([[0.1, 0.6], [0.6, 0.1], [0.7, 0.7], [2.0, 0.0]])) == pytest.approx(0.5 * 0.5 + 0.5 * 1.0)
    first = np.linspace(0, 1, 20_001)
    assert hypervolume(np.stack([first, 1 - np.sqrt(first)], axis=1)) == pytest.approx(1.21 - 1 / 3, abs=1e-3)


UNIT = tuple(Gene(f"g{i}", 0.0, 1.0, 0.5) for i in range(6))


def fronts_area(name: str, seed: int, evaluations: int = 2000) -> float:
    optimizer = build(name, UNIT, seed)
    found: list[NDArray[np.float64]] = []
    while sum(map(len, found)) < evaluations:
        genomes = optimizer.ask()
        found.append(zdt1(genomes))
        optimizer.tell(genomes, [scored(*row) for row in (-found[-1]).tolist()])
    return hypervolume(np.concatenate(found)[:evaluations])


# Stated in docs/optimizers.md.
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "least"), [("nsga2", 0.85), ("nsga3", 0.7)])
def test_the_front_of_zdt1_is_found(name: str, least: float, seed: int) -> None:
    assert fronts_area("random", seed) < 0.2
    assert fronts_area(name, seed) > least


def constrained(name: str, evaluate: Callable[[Genomes], list[Evaluation]], evaluations: int = 400) -> Genomes:
    """The last forty that are asked and told one objective; of generations of 128 there are twenty."""
    optimizer, asked = build(name, UNIT), [np.empty((0, len(UNIT)))]
    budget = max(evaluations, 20 * len(build(name, UNIT).ask()))
    while sum(map(len, asked)) < budget:
        asked.append(optimizer.ask())
        optimizer.tell(asked[-1], evaluate(asked[-1]))
    return np.concatenate(asked)[-40:]


# Weights of objectives may make a fitness as low as they like; what is forbidden ranks below it all the same.
@pytest.mark.parametrize(
    ("name", "offset"), [*((name, 0.0) for name in LEARNING), *((name, -1e9) for name in LEARNING if name not in SLOW)]
)
def test_what_meets_the_constraints_is_preferred(name: str, offset: float) -> None:
    def evaluate(genomes: Genomes) -> list[Evaluation]:
        # Half of the box is forbidden, and better the further one goes into it.
        missed = np.maximum(0, genomes[:, 0] - 0.5).tolist()
        fitness = (offset + 10 * genomes[:, 0] - genomes[:, 1]).tolist()
        return [scored(value, violation=v) for value, v in zip(fitness, missed, strict=True)]

    last = constrained(name, evaluate)
    assert (last[:, 0] <= 0.5).mean() > 0.3  # children of parents at the edge fall on either side
    assert np.abs(last[:, 0] - 0.5).mean() < 0.15  # random has 0.25
    assert np.median(last[:, 1]) < 0.4


@pytest.mark.parametrize("name", LEARNING)
def test_where_nothing_is_allowed_the_search_goes_there(name: str) -> None:
    def evaluate(genomes: Genomes) -> list[Evaluation]:
        return [scored(1.0, violation=5 - value) for value in genomes[:, 0].tolist()]

    assert np.median(constrained(name, evaluate, 200 if name in SLOW else 400)[:, 0]) > 0.9


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_candidates_that_fail_do_not_spoil_a_front(name: str, n_objectives: int) -> None:
    metrics = ("score", "second", "third")[:n_objectives]
    optimizer, nearest = build(name, UNIT), np.empty((30, n_objectives))
    for number in range(30):
        genomes = optimizer.ask()
        # The losses are distances to corners of the first three genes; whatever has a large fourth gene fails.
        away = np.square(genomes[:, None, :3] - np.eye(3)[:n_objectives]).sum(axis=2)  # (20, n_objectives)
        nearest[number] = away.min(axis=0)
        told = [
            failed(metrics, n_objectives, "weights are not finite") if fourth > 0.5 else scored(*losses)
            for fourth, losses in zip(genomes[:, 3], (-away).tolist(), strict=True)
        ]
        with np.errstate(all="raise", under="ignore"):
            optimizer.tell(genomes, told)
    last = optimizer.ask()
    assert (last[:, 3] <= 0.5).mean() > 0.7
    assert (nearest[-10:].min(axis=0) < 0.2).all()  # of each end of the front


@pytest.mark.parametrize("name", ["ga", "nsga2", "nsga3"])
def test_a_space_of_two_candidates_is_asked_whole_generations(name: str) -> None:
    genes = (Gene("on", 0.0, 1.0, 1.0, kind="binary"),)
    optimizer = build(name, genes)
    for genomes in itertools.islice(generations_of(optimizer, 10, genes), 10):
        assert genomes.shape == (20, 1)
