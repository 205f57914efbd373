"""What every optimizer keeps, run on every ``conf/optimizer/*.yaml``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import Optimizer

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))
GENES = (
    Gene("a", 0.0, 1.0, 0.5),
    Gene("b", -0.5, 1.5, 0.5),
    Gene("c", 10.0, 20.0, 15.0),
    Gene("d", -3e-3, -1e-3, -2e-3),
)
LOW, HIGH = np.array([gene.low for gene in GENES]), np.array([gene.high for gene in GENES])
OPTIMUM = np.array([0.8, 0.3, 0.35, 0.6])  # of the sphere, as a share of the box


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def build(name: str) -> Callable[..., Optimizer]:
    def make(genes: tuple[Gene, ...] = GENES, seed: int = 1, **changes: object) -> Optimizer:
        # The whole config is around it: a yaml may name the run's own numbers, such as the budget.
        config = OmegaConf.merge(
            OmegaConf.load(CONF / "config.yaml"), {"optimizer": OmegaConf.load(CONF / "optimizer" / f"{name}.yaml")}
        )
        optimizer: Optimizer = instantiate(config.optimizer, genes, seed, **changes)
        return optimizer

    return make


def scored(fitness: float) -> Evaluation:
    return Evaluation(("score",), 1, np.array([[fitness]]), ("",))


def sphere(genomes: Genomes) -> list[Evaluation]:
    shares = (genomes - LOW) / (HIGH - LOW)
    return [scored(-float(distance)) for distance in ((shares - OPTIMUM) ** 2).sum(axis=1)]


def run(optimizer: Optimizer, generations: int) -> list[Genomes]:
    asked = []
    for _ in range(generations):
        genomes = optimizer.ask()
        asked.append(genomes.copy())
        optimizer.tell(genomes, sphere(genomes))
    return asked


def test_proposals_are_rows_of_genes_inside_the_box(build: Callable[..., Optimizer]) -> None:
    # The optimum lies outside the box, so that the search presses against its sides.
    optimizer = build()
    for _ in range(40):
        genomes = optimizer.ask()
        assert genomes.ndim == 2
        assert genomes.shape[1] == len(GENES)
        assert genomes.dtype == np.float64
        assert (genomes >= LOW).all()
        assert (genomes <= HIGH).all()
        optimizer.tell(genomes, [scored(float(((row - LOW) / (HIGH - LOW)).sum())) for row in genomes])


def test_the_seed_decides_every_proposal(build: Callable[..., Optimizer]) -> None:
    first, again, other = (run(build(seed=seed), 5) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_proposals_do_not_depend_on_the_global_generator(build: Callable[..., Optimizer]) -> None:
    np.random.seed(0)
    first = run(build(), 3)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    assert all(np.array_equal(a, b) for a, b in zip(first, run(build(), 3), strict=True))
    assert np.array_equal(np.random.get_state()[1], state)


def test_searching_improves_on_the_start(build: Callable[..., Optimizer], name: str) -> None:
    last = run(build(), 30)[-1]
    start = float(((0.5 - OPTIMUM) ** 2).sum())
    mean_distance = -float(np.mean([evaluation.fitness[0] for evaluation in sphere(last)]))
    if name == "random":
        assert mean_distance > start / 2  # it learns nothing
    else:
        assert mean_distance < start / 100


def test_a_resumed_search_goes_on_as_the_unbroken_one(build: Callable[..., Optimizer]) -> None:
    unbroken = run(build(), 12)
    resumed = build()
    for recorded in unbroken[:7]:
        assert np.array_equal(resumed.ask(), recorded)
        resumed.tell(recorded.copy(), sphere(recorded))
    assert all(np.array_equal(a, b) for a, b in zip(run(resumed, 5), unbroken[7:], strict=True))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_failed_candidates_do_not_stop_the_search(build: Callable[..., Optimizer], share: float) -> None:
    optimizer = build()
    rng = np.random.default_rng(0)
    for _ in range(30):
        genomes = optimizer.ask()
        assert np.isfinite(genomes).all()
        assert (genomes >= LOW).all()
        assert (genomes <= HIGH).all()
        told = [failed(("score",), 1, "weights are not finite") if rng.random() < share else e for e in sphere(genomes)]
        optimizer.tell(genomes, told)


def test_a_flat_landscape_does_not_stop_the_search(build: Callable[..., Optimizer]) -> None:
    optimizer = build()
    for _ in range(100):
        genomes = optimizer.ask()
        assert np.isfinite(genomes).all()
        optimizer.tell(genomes, [scored(0.0) for _ in genomes])


def test_telling_changes_nobodys_arrays(build: Callable[..., Optimizer]) -> None:
    optimizer = build()
    genomes = optimizer.ask()
    kept, evaluations = genomes.copy(), sphere(genomes)
    optimizer.tell(genomes, evaluations)
    optimizer.ask()
    assert np.array_equal(genomes, kept)


def test_one_gene_can_be_searched(build: Callable[..., Optimizer]) -> None:
    optimizer = build(genes=(Gene("t", 0.0, 1.0, 0.5),))
    for _ in range(10):
        genomes = optimizer.ask()
        assert genomes.shape[1] == 1
        optimizer.tell(genomes, [scored(-abs(float(row[0]) - 0.2)) for row in genomes])


def test_a_population_of_the_wanted_size_is_asked(build: Callable[..., Optimizer]) -> None:
    assert build(population_size=5).ask().shape == (5, len(GENES))
    with pytest.raises(Exception, match=r"optimizer.population_size must be at least"):
        build(population_size=0)


@pytest.mark.parametrize(
    ("gene", "said"),
    [
        (Gene("scale", 0.0, float("inf"), 1.0), "needs bounds for every gene; set merge.bounds"),
        (Gene("on", 0.0, 1.0, 0.0, kind="binary"), "moves real genes only, and 'on' is binary"),
    ],
)
def test_genes_that_it_cannot_move_are_one_sentence(build: Callable[..., Optimizer], name: str, gene: Gene, said: str) -> None:
    with pytest.raises(Exception, match=f"optimizer={name} {said}") as caught:
        build(genes=(*GENES, gene))
    # Hydra wraps what a constructor raises.
    assert isinstance(caught.value, ConfigError) or isinstance(caught.value.__cause__, ConfigError)
