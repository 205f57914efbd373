"""What every optimizer keeps, run on every ``conf/optimizer/*.yaml`` and on boxes of every kind of genes that it takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import get_class, instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import Optimizer

CONF = Path(__file__).parents[2] / "conf"
INF = float("inf")
NAMES = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))
BOUNDED = (
    Gene("a", 0.0, 1.0, 0.5),
    Gene("b", -0.5, 1.5, 0.5),
    Gene("c", 10.0, 20.0, 15.0),
    Gene("d", -3e-3, -1e-3, -2e-3),
)
UNBOUNDED = (*(Gene(f"slot/{i}", -INF, INF, 0.1, span=0.6) for i in range(4)), Gene("half", 0.0, INF, 0.0, span=3.0))
BINARY = tuple(Gene(f"on/{i}", 0.0, 1.0, float(i < 7), kind="binary") for i in range(20))
CHOICE = tuple(Gene(f"layer/{i}", 2.0 * (i % 2), 5.0, 3.0, kind="choice") for i in range(12))
BOXES = {
    "bounded": BOUNDED,
    "unbounded": UNBOUNDED,
    "bounded and unbounded": (*BOUNDED, *UNBOUNDED),
    "binary": BINARY,
    "binary and real": (*BINARY[:10], *UNBOUNDED, *BOUNDED[:2], *BINARY[10:]),
    "choice": CHOICE,
    "every kind": (*CHOICE[:6], BOUNDED[2], *BINARY[:6], *UNBOUNDED[2:]),
}


def yaml_of(name: str) -> Any:
    # The whole config is around it: a yaml may name the run's own numbers, such as the budget.
    return OmegaConf.merge(
        OmegaConf.load(CONF / "config.yaml"), {"optimizer": OmegaConf.load(CONF / "optimizer" / f"{name}.yaml")}
    )


def kinds_of(name: str) -> tuple[str, ...]:
    optimizer: Any = get_class(yaml_of(name).optimizer._target_)
    return tuple(optimizer.kinds)


def build(name: str, genes: Sequence[Gene] = BOUNDED, seed: int = 1, **changes: object) -> Optimizer:
    config = yaml_of(name)
    if config.optimizer.get("mean") is not None and any(gene.low > 0 or gene.high < 0 for gene in genes):
        changes = {"mean": None, **changes}  # a preset's mean is for boxes that hold it
    optimizer: Optimizer = instantiate(config.optimizer, tuple(genes), seed, **changes)
    return optimizer


CASES = [(name, box) for name in NAMES for box, genes in BOXES.items() if {gene.kind for gene in genes} <= {*kinds_of(name)}]
each_case = pytest.mark.parametrize(("name", "box"), CASES, ids=[f"{name}, {box}" for name, box in CASES])
each_name = pytest.mark.parametrize("name", NAMES)


def scored(fitness: float) -> Evaluation:
    return Evaluation(("score",), 1, np.array([[fitness]]), ("",))


def length_of(gene: Gene) -> float:
    """Of its box; its span where it has none."""
    return gene.high - gene.low if np.isfinite(gene.high - gene.low) else gene.span


def optimum_of(genes: Sequence[Gene]) -> NDArray[np.float64]:
    """A place away from the starts: 0.3 of a real gene's box or span, another value for half of the others."""
    places = []
    for number, gene in enumerate(genes):
        if gene.kind == "real":
            places.append(gene.start + 0.3 * length_of(gene))
        else:
            places.append(gene.start if number % 2 else gene.low + (gene.start - gene.low + 1) % (gene.high - gene.low + 1))
    return np.array(places)


def distances(genomes: Genomes, genes: Sequence[Gene]) -> NDArray[np.float64]:
    """A sphere of the real genes plus the share of the others that differ from the optimum, ``(n,)``."""
    real = np.array([gene.kind == "real" for gene in genes])
    lengths = np.array([length_of(gene) for gene in genes])
    away = genomes - optimum_of(genes)
    squares = (away[:, real] / lengths[real]) ** 2
    return np.asarray(squares.sum(axis=1) + (away[:, ~real] != 0).sum(axis=1) / max(1, (~real).sum()), dtype=np.float64)


def sphere(genomes: Genomes, genes: Sequence[Gene]) -> list[Evaluation]:
    return [scored(-float(distance)) for distance in distances(genomes, genes)]


def run(optimizer: Optimizer, generations: int, genes: Sequence[Gene] = BOUNDED) -> list[Genomes]:
    asked = []
    for _ in range(generations):
        genomes = optimizer.ask()
        asked.append(genomes.copy())
        optimizer.tell(genomes, sphere(genomes, genes))
    return asked


def assert_inside(genomes: Genomes, genes: Sequence[Gene]) -> None:
    assert genomes.ndim == 2
    assert genomes.shape[1] == len(genes)
    assert genomes.dtype == np.float64
    assert np.isfinite(genomes).all()
    assert (genomes >= [gene.low for gene in genes]).all()
    assert (genomes <= [gene.high for gene in genes]).all()
    whole = [gene.kind != "real" for gene in genes]
    assert np.array_equal(genomes[:, whole], np.rint(genomes[:, whole]))


@each_case
def test_proposals_are_rows_of_genes_inside_the_box(name: str, box: str) -> None:
    # The optimum lies outside the box, so that the search presses against its sides.
    genes = BOXES[box]
    lengths = np.array([length_of(gene) for gene in genes])
    optimizer = build(name, genes)
    for _ in range(40):
        genomes = optimizer.ask()
        assert_inside(genomes, genes)
        optimizer.tell(genomes, [scored(float((row / lengths).sum())) for row in genomes])


@each_case
def test_the_seed_decides_every_proposal(name: str, box: str) -> None:
    genes = BOXES[box]
    first, again, other = (run(build(name, genes, seed=seed), 5, genes) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@each_case
def test_proposals_do_not_depend_on_the_global_generator(name: str, box: str) -> None:
    genes = BOXES[box]
    np.random.seed(0)
    first = run(build(name, genes), 3, genes)
    np.random.seed(1)
    state: Any = np.random.get_state()
    state = state[1].copy()
    assert all(np.array_equal(a, b) for a, b in zip(first, run(build(name, genes), 3, genes), strict=True))
    now: Any = np.random.get_state()
    assert np.array_equal(now[1], state)


@each_case
def test_searching_beats_random_at_the_same_budget(name: str, box: str) -> None:
    genes = BOXES[box]
    asked = run(build(name, genes), 40, genes)
    best = min(distances(genomes, genes).min() for genomes in asked)
    evaluations = sum(len(genomes) for genomes in asked)
    random = distances(build("random", genes, population_size=evaluations).ask(), genes).min()
    if name == "random":
        assert best > random / 10  # it learns nothing
    else:
        assert best < random
        assert distances(asked[-1], genes).mean() < distances(asked[0], genes).mean() / 2


@each_name
def test_searching_a_small_sphere_comes_close_to_its_optimum(name: str) -> None:
    asked = run(build(name), 30)
    start = float(distances(np.array([[gene.start for gene in BOUNDED]]), BOUNDED)[0])
    last = float(distances(asked[-1], BOUNDED).mean())
    if name == "random":
        assert last > start / 2  # it learns nothing
    else:
        assert last < start / 100


@each_case
def test_a_resumed_search_goes_on_as_the_unbroken_one(name: str, box: str) -> None:
    genes = BOXES[box]
    unbroken = run(build(name, genes), 12, genes)
    resumed = build(name, genes)
    for recorded in unbroken[:7]:
        assert np.array_equal(resumed.ask(), recorded)
        resumed.tell(recorded.copy(), sphere(recorded, genes))
    assert all(np.array_equal(a, b) for a, b in zip(run(resumed, 5, genes), unbroken[7:], strict=True))


@each_case
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_failed_candidates_do_not_stop_the_search(name: str, box: str, share: float) -> None:
    genes = BOXES[box]
    optimizer = build(name, genes)
    rng = np.random.default_rng(0)
    for _ in range(30):
        genomes = optimizer.ask()
        assert_inside(genomes, genes)
        evaluations = sphere(genomes, genes)
        told = [failed(("score",), 1, "weights are not finite") if rng.random() < share else e for e in evaluations]
        optimizer.tell(genomes, told)


@each_case
def test_a_search_goes_on_where_failures_end(name: str, box: str) -> None:
    genes = BOXES[box]
    optimizer = build(name, genes)
    for _ in range(3):
        genomes = optimizer.ask()
        optimizer.tell(genomes, [failed(("score",), 1, "out of memory") for _ in genomes])
    asked = run(optimizer, 40, genes)
    if name != "random":
        assert distances(asked[-1], genes).mean() < distances(asked[0], genes).mean() / 2


@each_name
def test_a_score_that_is_no_number_ranks_as_a_failure(name: str) -> None:
    told_nan, told_failed = build(name), build(name)
    for number in range(5):
        genomes, same = told_nan.ask(), told_failed.ask()
        assert np.array_equal(genomes, same)
        odd = number % len(genomes)
        rest = sphere(genomes, BOUNDED)
        told_nan.tell(genomes, [*rest[:odd], scored(float("nan")), *rest[odd + 1 :]])
        told_failed.tell(same, [*rest[:odd], failed(("score",), 1, "no answer"), *rest[odd + 1 :]])


@each_case
def test_a_flat_landscape_does_not_stop_the_search(name: str, box: str) -> None:
    optimizer = build(name, BOXES[box])
    for _ in range(100):
        genomes = optimizer.ask()
        assert_inside(genomes, BOXES[box])
        optimizer.tell(genomes, [scored(0.0) for _ in genomes])


@each_case
def test_telling_changes_nobodys_arrays(name: str, box: str) -> None:
    genes = BOXES[box]
    optimizer = build(name, genes)
    genomes = optimizer.ask()
    kept, evaluations = genomes.copy(), sphere(genomes, genes)
    optimizer.tell(genomes, evaluations)
    optimizer.ask()
    assert np.array_equal(genomes, kept)


@each_name
@pytest.mark.parametrize("kind", ["real", "binary", "choice"])
def test_one_gene_can_be_searched(name: str, kind: Any) -> None:
    if kind not in kinds_of(name):
        return
    optimizer = build(name, (Gene("t", 0.0, 1.0, 0.0, kind=kind),))
    for _ in range(10):
        genomes = optimizer.ask()
        assert genomes.shape[1] == 1
        optimizer.tell(genomes, [scored(-abs(float(row[0]) - 0.2)) for row in genomes])


@each_name
def test_a_population_of_the_wanted_size_is_asked(name: str) -> None:
    assert build(name, population_size=5).ask().shape == (5, len(BOUNDED))
    with pytest.raises(Exception, match=r"optimizer.population_size must be at least"):
        build(name, population_size=0)


@each_name
@pytest.mark.parametrize("kind", ["binary", "choice"])
def test_genes_that_it_cannot_move_are_one_sentence(name: str, kind: Any) -> None:
    odd = Gene("slot/3", 0.0, 1.0, 0.0, kind=kind)
    kinds = kinds_of(name)
    if kind in kinds:
        assert_inside(build(name, (*BOUNDED, odd)).ask(), (*BOUNDED, odd))
        return
    said = f"moves {' and '.join(kinds)} genes only, and 'slot/3' is {kind}; choose optimizer=catcma, which takes every kind"
    with pytest.raises(Exception, match=said) as caught:
        build(name, (*BOUNDED, odd))
    # Hydra wraps what a constructor raises.
    assert isinstance(caught.value, ConfigError) or isinstance(caught.value.__cause__, ConfigError)


def test_the_optimizer_that_a_refusal_names_takes_every_kind() -> None:
    assert {*kinds_of("catcma")} == {"real", "binary", "choice"}
